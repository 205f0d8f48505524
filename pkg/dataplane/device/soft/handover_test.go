// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// seqpacketPair is two ends of a connection between supervisors.
func seqpacketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]*net.UnixConn, 2)
	for i, fd := range pair {
		if conns[i], err = seqpacketConn(os.NewFile(uintptr(fd), "supervisor")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

// filledStore holds n files, and one that is no device's.
func filledStore(t *testing.T, n int) *Store {
	t.Helper()
	s := NewStore()
	t.Cleanup(func() { s.Close() })
	k := testConn(t, s)
	for i := range n {
		if err := k.Put(fmt.Sprint("file.", i), int(os.Stderr.Fd())); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("other", os.Stderr); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHandOver(t *testing.T) {
	const n = 400 // more than one message can carry
	first, second := filledStore(t, n), NewStore()
	defer second.Close()
	a, b := seqpacketPair(t)
	handed := make(chan error)
	go func() { handed <- first.HandOver(a) }()
	if err := second.TakeOver(b); err != nil {
		t.Fatal(err)
	}
	if err := <-handed; err != nil {
		t.Fatal(err)
	}
	if f := second.Take("other"); f == nil || f.Close() != nil || second.Take("other") != nil {
		t.Error("the file that is no device's was not taken, or twice")
	}
	if here, there := len(first.Names()), len(second.Names()); here != 0 || there != n {
		t.Errorf("%d files here, %d there", here, there)
	}
}

// TestHandOverFails: whatever the other one says, or does not say, the files stay.
func TestHandOverFails(t *testing.T) {
	for name, say := range map[string]func(*net.UnixConn) error{
		"nothing":              func(*net.UnixConn) error { return nil },
		"asks, and takes none": func(c *net.UnixConn) error { return sendKeeper(c, opList, "", nil) },
		"takes before it asks": func(c *net.UnixConn) error { return sendKeeper(c, opTaken, "", nil) },
		"gives a file": func(c *net.UnixConn) error {
			return sendKeeper(c, opPut, "x", unix.UnixRights(int(os.Stderr.Fd())))
		},
		"asks twice": func(c *net.UnixConn) error {
			return errors.Join(sendKeeper(c, opList, "", nil), sendKeeper(c, opList, "", nil))
		},
	} {
		s := filledStore(t, 3)
		a, b := seqpacketPair(t)
		if err := say(b); err != nil {
			t.Fatal(err)
		}
		if err := b.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if err := s.HandOver(a); err == nil || len(s.Names()) != 4 {
			t.Errorf("%s: %v, %d files", name, err, len(s.Names()))
		}
	}
}

// TestTakeOverFails: one that ends in the middle leaves nothing.
func TestTakeOverFails(t *testing.T) {
	s := NewStore()
	defer s.Close()
	a, b := seqpacketPair(t)
	if err := errors.Join(sendKeeper(a, opFile, "port.1", unix.UnixRights(int(os.Stderr.Fd()))), a.CloseWrite()); err != nil {
		t.Fatal(err)
	}
	if err := s.TakeOver(b); err == nil || len(s.Names()) != 0 {
		t.Errorf("%v, %d files", err, len(s.Names()))
	}
}
