// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func testConn(t *testing.T, s *Store) *KeeperConn {
	t.Helper()
	f, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKeeperConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func TestKeeper(t *testing.T) {
	s := NewStore()
	k := testConn(t, s)
	var pipes [2]int
	if err := unix.Pipe2(pipes[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	// Many files: more than one message can carry.
	const n = 400
	for i := range n {
		if err := k.Put(fmt.Sprint("file.", i), pipes[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Put("file.7", pipes[1]); err != nil { // replaces
		t.Fatal(err)
	}
	for range 2 { // what is not there is no error
		if err := k.Drop("file.9"); err != nil {
			t.Fatal(err)
		}
	}
	if names := s.Names(); len(names) != n-1 || slices.Contains(names, "file.9") {
		t.Errorf("%d names", len(names))
	}
	unix.Close(pipes[1])
	k.Close()

	// Another process gets them, while the first one's connection is gone.
	k = testConn(t, s)
	files, err := k.Files()
	if err != nil || len(files) != n-1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for i, f := range files {
		if _, err := unix.Write(f.FD, []byte{byte(i)}); err != nil {
			t.Errorf("file %s: %v", f.Name, err)
		}
		if fl, err := unix.FcntlInt(uintptr(f.FD), unix.F_GETFD, 0); err != nil || fl&unix.FD_CLOEXEC == 0 {
			t.Errorf("file %s is inherited by other programs", f.Name)
		}
		unix.Close(f.FD)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	// With the store's copies the last ones are gone.
	buf := make([]byte, 2*n)
	if got, err := unix.Read(pipes[0], buf); got != n-1 || err != nil {
		t.Errorf("read %d bytes, %v", got, err)
	}
	if got, err := unix.Read(pipes[0], buf); got != 0 || err != nil {
		t.Errorf("the store has left files open: read %d, %v", got, err)
	}
	unix.Close(pipes[0])
	if err := k.Put("x", 0); err == nil {
		t.Error("Put to a closed store succeeded")
	}
	if _, err := s.Connect(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Connect to a closed store: %v", err)
	}
}

// TestKeeperRequests sends what a KeeperConn never would.
func TestKeeperRequests(t *testing.T) {
	s := NewStore()
	defer s.Close()
	k := testConn(t, s)
	for name, send := range map[string]func() error{
		"put without a file": func() error { return k.call(opPut, "a", nil) },
		"put without a name": func() error { return k.call(opPut, "", unix.UnixRights(0)) },
		"unknown request":    func() error { return k.call('?', "a", nil) },
		"two files":          func() error { return k.call(opPut, "a", unix.UnixRights(0, 1)) },
		"a file with a drop": func() error { k.call(opDrop, "a", unix.UnixRights(0)); return k.call('?', "", nil) },
		"very long message": func() error {
			_, _, err := k.c.WriteMsgUnix(make([]byte, 4096), nil, nil)
			must(err == nil)
			_, _, err = k.answer()
			return err
		},
		"very many files": func() error { return k.call(opPut, "a", unix.UnixRights(make([]int, 100)...)) },
	} {
		before := openFiles(t)
		if err := send(); !errors.Is(err, ErrKeeper) {
			t.Errorf("%s: %v", name, err)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d open files, before %d", name, after, before)
		}
	}
	if names := s.Names(); len(names) != 0 {
		t.Errorf("names %v", names)
	}
	if err := k.Put("good", 0); err != nil {
		t.Error(err)
	}
	// Not a keeper's socket.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := NewKeeperConn(w); err == nil {
		t.Error("a pipe was taken for a keeper")
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: t.TempDir() + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeeperConn(f); !errors.Is(err, ErrKeeper) {
		t.Errorf("a stream socket was taken for a keeper: %v", err)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
