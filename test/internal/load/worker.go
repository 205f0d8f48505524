// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"netio.dev/netio/test/internal/netlab"
)

// workerArg as the first argument makes the program a worker.
const workerArg = "load-worker"

// answerTimeout bounds how long a worker may take to get ready (its peer may
// be behind a network that is just coming up) and to answer.
const answerTimeout = 20 * time.Second

// Worker is one end of a flow, a process in a namespace. Its methods may be
// called from any goroutine.
type Worker struct {
	name   string
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *os.File
	lines  *bufio.Reader
	stderr strings.Builder
	mu     sync.Mutex
	stop   sync.Once
	err    error
}

// Start starts a worker in a namespace and waits until it listens or is
// connected. The program's main must call RunWorker first.
func Start(ns *netlab.Namespace, spec Spec) (*Worker, error) {
	arg, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode load: %w", err)
	}
	w := &Worker{name: fmt.Sprintf("%s in %s", spec.Role, ns.Name)}
	w.cmd = exec.Command("/proc/self/exe", workerArg, string(arg))
	w.cmd.Stderr = &w.stderr
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", w.name, err)
	}
	// Not StdoutPipe: its reader has no deadline.
	out, child, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", w.name, err)
	}
	w.out, w.lines, w.cmd.Stdout = out, bufio.NewReader(out), child
	err = ns.Start(w.cmd)
	_ = child.Close()
	if err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start %s: %w", w.name, err)
	}
	if _, err := w.answer(); err != nil {
		_ = w.Stop()
		return nil, err
	}
	return w, nil
}

// Sample asks the worker for its counters.
func (w *Worker) Sample() (Sample, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, err := io.WriteString(w.in, "sample\n"); err != nil {
		return Sample{}, fmt.Errorf("ask %s: %w", w.name, err)
	}
	return w.answer()
}

func (w *Worker) answer() (Sample, error) {
	var s Sample
	if err := w.out.SetReadDeadline(time.Now().Add(answerTimeout)); err != nil {
		return s, fmt.Errorf("ask %s: %w", w.name, err)
	}
	line, err := w.lines.ReadBytes('\n')
	if errors.Is(err, io.EOF) {
		return s, fmt.Errorf("%s ended: %w", w.name, w.Stop())
	}
	if err != nil {
		return s, fmt.Errorf("hear from %s: %w", w.name, err)
	}
	if err := json.Unmarshal(line, &s); err != nil {
		return s, fmt.Errorf("hear from %s: %w", w.name, err)
	}
	return s, nil
}

// Stop ends the worker. Further calls return the first one's error.
func (w *Worker) Stop() error {
	w.stop.Do(func() {
		_ = w.in.Close()
		patience := time.AfterFunc(2*time.Second, func() { _ = w.cmd.Process.Kill() })
		err := w.cmd.Wait()
		patience.Stop()
		_ = w.out.Close()
		if err != nil {
			w.err = fmt.Errorf("%s: %w: %s", w.name, err, strings.TrimSpace(w.stderr.String()))
		}
	})
	return w.err
}

// end is what a worker process runs: it is ready once it has been made.
type end interface {
	// sample tells the counters; At is filled in by the caller.
	sample() Sample
}

// RunWorker does not return in a process that Start has started.
func RunWorker() {
	if len(os.Args) != 3 || os.Args[1] != workerArg {
		return
	}
	if err := work(os.Args[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func work(arg string, in io.Reader, out io.Writer) error {
	var spec Spec
	if err := json.Unmarshal([]byte(arg), &spec); err != nil {
		return fmt.Errorf("decode load: %w", err)
	}
	began := time.Now()
	e, err := newEnd(spec)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(out)
	answer := func() error {
		at := time.Since(began)
		s := e.sample()
		s.At = at
		return encoder.Encode(s)
	}
	if err := answer(); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if err := answer(); err != nil {
			return err
		}
	}
	return lines.Err()
}

func newEnd(spec Spec) (end, error) {
	switch spec.Role {
	case TCPSink:
		return newTCPSink(spec)
	case TCPSource:
		return newTCPSource(spec)
	case UDPSink:
		return newUDPSink(spec)
	case UDPSource:
		return newUDPSource(spec)
	case Echo:
		return newEcho(spec)
	case Probe:
		return newProbe(spec)
	}
	return nil, fmt.Errorf("unknown load %q", spec.Role)
}
