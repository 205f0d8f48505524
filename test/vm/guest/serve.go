// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"netio.dev/netio/test/vm/control"
)

// server answers the host.
type server struct {
	mu  sync.Mutex // guards all below
	out *json.Encoder
	// groups: process groups of the programs that run, by the request.
	groups map[int]int
}

// serve reads requests until the host asks for the end, or is gone.
func serve() error {
	line, err := openControl()
	if err != nil {
		return fmt.Errorf("open the control line: %w", err)
	}
	defer line.Close()
	s := &server{out: json.NewEncoder(line), groups: map[int]int{}}

	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	s.send(control.Event{Kind: control.Ready, Data: unix.ByteSliceToString(name.Release[:])})

	for in := json.NewDecoder(bufio.NewReader(line)); ; {
		var request control.Request
		if err := in.Decode(&request); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if request.Kind == control.PowerOff {
			return nil
		}
		started := make(chan struct{})
		start := sync.OnceFunc(func() { close(started) })
		go func() {
			defer start()
			s.answer(request, start)
		}()
		// A program runs before the next request is read: that may be a signal
		// to it.
		if request.Kind == control.Run {
			<-started
		}
	}
}

func (s *server) send(e control.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out.Encode(e)
}

// answer does what r asks for. It calls started when a program runs.
func (s *server) answer(r control.Request, started func()) {
	kernelLog(6, "%s", strings.Join(append([]string{string(r.Kind)}, r.Args...), " "))
	exit := control.Event{ID: r.ID, Kind: control.Exit}
	if err := s.perform(r, started, &exit); err != nil {
		exit.Code, exit.Error = -1, err.Error()
	}
	s.send(exit)
}

// perform does what r asks for; of a program that ran, exit has the status.
func (s *server) perform(r control.Request, started func(), exit *control.Event) error {
	need := map[control.Kind]int{control.Run: 1, control.Insert: 1, control.Remove: 1, control.Exists: 1, control.Write: 2}
	if len(r.Args) < need[r.Kind] {
		return fmt.Errorf("%s: %d arguments, want %d", r.Kind, len(r.Args), need[r.Kind])
	}
	switch r.Kind {
	case control.Run:
		return s.run(r, started, exit)
	case control.Signal:
		return s.signal(r)
	case control.Insert:
		return insert(r.Args[0], strings.Join(r.Args[1:], " "))
	case control.Remove:
		if err := unix.DeleteModule(r.Args[0], unix.O_NONBLOCK); err != nil {
			return fmt.Errorf("unload %s: %w", r.Args[0], err)
		}
		return nil
	case control.Exists:
		_, err := os.Stat(r.Args[0])
		return err
	case control.Write:
		f, err := os.OpenFile(r.Args[0], os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(r.Args[1])
		return errors.Join(err, f.Close())
	case control.Leaks:
		found, err := leaks()
		if found != "" {
			s.send(control.Event{ID: r.ID, Kind: control.Output, Data: found})
		}
		return err
	default:
		return fmt.Errorf("unknown request %q", r.Kind)
	}
}

// openControl opens the terminal that the command line names, and keeps it from
// changing or echoing what passes.
func openControl() (*os.File, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return nil, err
	}
	for word := range strings.FieldsSeq(string(cmdline)) {
		name, ok := strings.CutPrefix(word, control.Parameter)
		if !ok {
			continue
		}
		fd, err := unix.Open("/dev/"+name, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		termios, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			return nil, err
		}
		termios.Iflag, termios.Oflag, termios.Lflag = 0, 0, 0
		termios.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | unix.B115200
		termios.Cc[unix.VMIN], termios.Cc[unix.VTIME] = 1, 0
		if err := unix.IoctlSetTermios(fd, unix.TCSETS, termios); err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	return nil, fmt.Errorf("the kernel's command line has no %s", control.Parameter)
}
