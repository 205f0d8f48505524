// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Store is the supervisor's end of the keeper: it holds the device's files while
// forwarders come and go. It never reads a file or a word of the memory.
//
//	supervisor                        forwarder
//	Store ── Connect ──> ExtraFiles ──> NewKeeperConn ── Files ──> Attach or New
//	  ^                                     │
//	  └──────────── Put, Drop ──────────────┘
type Store struct {
	mu     sync.Mutex
	files  map[string]int
	conns  map[*net.UnixConn]struct{}
	closed bool
	done   sync.WaitGroup
}

// NewStore makes an empty store.
func NewStore() *Store {
	return &Store{files: make(map[string]int), conns: make(map[*net.UnixConn]struct{})}
}

// Connect makes a connection and returns the forwarder's end of it, to be passed
// to its process (exec.Cmd.ExtraFiles) and closed here. The store serves it
// until the forwarder closes its last copy.
func (s *Store) Connect() (*os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make keeper connection: %w", err)
	}
	child := os.NewFile(uintptr(pair[1]), "keeper")
	c, err := seqpacketConn(os.NewFile(uintptr(pair[0]), "keeper"))
	if err != nil {
		child.Close()
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		c.Close()
		child.Close()
		return nil, os.ErrClosed
	}
	s.conns[c] = struct{}{}
	s.done.Go(func() { s.serve(c) })
	return child, nil
}

// Names lists what the store holds, sorted.
func (s *Store) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.files))
	for name := range s.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Close ends all connections and closes all files.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
	for name, fd := range s.files {
		unix.Close(fd)
		delete(s.files, name)
	}
	return nil
}

func (s *Store) serve(c *net.UnixConn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
	}()
	for {
		op, name, fd, err := recvKeeper(c)
		if errors.Is(err, ErrKeeper) {
			err = sendKeeper(c, opErr, err.Error(), nil)
			if err == nil {
				continue
			}
		}
		if err == nil {
			err = s.answer(c, op, name, fd)
		}
		if err != nil {
			return // io.EOF: the forwarder has ended
		}
	}
}

// answer acts on one request.
func (s *Store) answer(c *net.UnixConn, op byte, name string, fd int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if fd >= 0 && (op != opPut || name == "") {
		unix.Close(fd)
	}
	switch {
	case op == opPut && name != "" && fd >= 0:
		s.drop(name)
		s.files[name] = fd
	case op == opDrop:
		s.drop(name)
	case op == opList:
		for name, fd := range s.files {
			if err := sendKeeper(c, opFile, name, unix.UnixRights(fd)); err != nil {
				return err
			}
		}
	default:
		return sendKeeper(c, opErr, fmt.Sprintf("invalid request %q for %q", op, name), nil)
	}
	return sendKeeper(c, opOK, "", nil)
}

func (s *Store) drop(name string) {
	if fd, ok := s.files[name]; ok {
		unix.Close(fd)
		delete(s.files, name)
	}
}
