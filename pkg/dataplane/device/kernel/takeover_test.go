// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
)

// TestTakeOverRevokes has a former owner go on writing: nothing of it reaches the
// instance, from the moment that the next owner has it.
func TestTakeOverRevokes(t *testing.T) {
	needDevice(t)
	c := Config{Name: fmt.Sprintf("revoke-%d", os.Getpid()), Nbufs: 2048, TakeOver: true}
	first, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	mine := first.Area().Mem()[first.Area().Header().PLaneOff:]
	var stop, turns atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := byte(1); stop.Load() == 0; i++ {
			for at := 0; at < len(mine); at += abi.PageSize {
				mine[at] = i | 1
			}
			turns.Add(1)
		}
	}()
	defer func() { <-done }()
	defer stop.Store(1)
	for turns.Load() == 0 {
		runtime.Gosched()
	}

	second, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := second.Destroy(); err != nil {
			t.Error(err)
		}
	}()
	theirs := second.Area().Mem()[second.Area().Header().PLaneOff:]
	for i := range theirs {
		theirs[i] = 0
	}
	for from := turns.Load(); turns.Load() < from+3; {
		runtime.Gosched()
	}
	if i := bytes.IndexFunc(theirs, func(r rune) bool { return r != 0 }); i >= 0 {
		t.Errorf("byte %d of the process's part is %#x, written by the former owner", i, theirs[i])
	}
	if magic := second.Area().Live().Magic; magic != abi.Magic {
		t.Errorf("magic of the new owner's area: %#x", magic)
	}
	if magic := first.Area().Live().Magic; magic != 0 {
		t.Errorf("the former owner reads magic %#x, want zeros", magic)
	}
}

// TestMapIsNotPinned: who pins pages could use them after the map has been revoked.
func TestMapIsNotPinned(t *testing.T) {
	needDevice(t)
	d, err := Open(Config{Name: fmt.Sprintf("pin-%d", os.Getpid()), TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Destroy(); err != nil {
			t.Error(err)
		}
	}()
	mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	at := int64(uintptr(d.mem.base)) + int64(d.Area().Header().NbufOff)
	if _, err := mem.WriteAt(make([]byte, 8), at); !errors.Is(err, unix.EIO) {
		t.Errorf("write by pinned pages: %v, want EIO", err)
	}
}
