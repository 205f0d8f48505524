// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
)

// TestTakeOver: the lock goes from one to the other when it is asked for, and the first
// one sees when the other has ended.
func TestTakeOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "s.sock")
	first, err := TakeOver(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan *Successor)
	go func() {
		s, err := first.AwaitSuccessor(t.Context())
		if err != nil {
			t.Error(err)
		}
		if err := first.Release(); err != nil {
			t.Error(err)
		}
		asked <- s
	}()
	second, err := TakeOver(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	successor := <-asked
	if _, err := Acquire(path); !errors.Is(err, ErrInUse) {
		t.Errorf("taken over, and free: %v", err)
	}
	ended := make(chan struct{})
	go func() { successor.Wait(t.Context()); close(ended) }()
	select {
	case <-ended:
		t.Error("the successor has not ended")
	default:
	}
	if err := second.Release(); err != nil {
		t.Error(err)
	}
	<-ended
}

// TestTakeOverWaits: who cannot be asked is waited for.
func TestTakeOverWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	first, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := TakeOver(ctx, path, nil); !errors.Is(err, ErrInUse) {
		t.Errorf("given up: %v", err)
	}
	taken := make(chan error)
	go func() {
		lock, err := TakeOver(t.Context(), path, nil)
		if err == nil {
			err = lock.Release()
		}
		taken <- err
	}()
	if err := first.Release(); err != nil {
		t.Error(err)
	}
	if err := <-taken; err != nil {
		t.Error(err)
	}
}

// TestNoSuccessor: waiting ends with its context.
func TestNoSuccessor(t *testing.T) {
	lock, err := Acquire(filepath.Join(t.TempDir(), "s.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := lock.AwaitSuccessor(ctx); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
}

// TestTakeOverLater: who has the lock is not asked before it may be.
func TestTakeOverLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	first, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	looked, may := make(chan struct{}), make(chan bool)
	asked, taken := make(chan struct{}), make(chan error)
	go func() {
		if _, err := first.AwaitSuccessor(t.Context()); err != nil {
			t.Error(err)
		}
		close(asked)
		if err := first.Release(); err != nil {
			t.Error(err)
		}
	}()
	go func() {
		lock, err := TakeOver(t.Context(), path, func() bool {
			looked <- struct{}{}
			return <-may
		})
		if err == nil {
			err = lock.Release()
		}
		taken <- err
	}()
	for range 3 {
		<-looked
		select {
		case <-asked:
			t.Error("asked too early")
		default:
		}
		may <- false
	}
	for { // it may have looked before the other one listened
		select {
		case <-looked:
			may <- true
			continue
		case err := <-taken:
			if err != nil {
				t.Error(err)
			}
		}
		return
	}
}
