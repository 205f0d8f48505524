// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// lockEvery is how often a lock is looked at that nobody announces.
const lockEvery = 20 * time.Millisecond

// takeoverPath is of the socket at which the server of another one is asked to end: by a
// connection, which the one that asks keeps for as long as it lives.
func takeoverPath(path string) string { return path + ".takeover" }

// TakeOver is Acquire, but asks the process that has the lock to give it up, and waits
// until it does, or ctx ends. One that cannot be asked is waited for. It is not asked before
// may, unless that is nil, says so.
func TakeOver(ctx context.Context, path string, may func() bool) (*Lock, error) {
	var asked net.Conn
	for {
		lock, err := Acquire(path)
		if err == nil {
			lock.asked = asked
			return lock, nil
		}
		if !errors.Is(err, ErrInUse) {
			if asked != nil {
				err = errors.Join(err, asked.Close())
			}
			return nil, err
		}
		if asked == nil && (may == nil || may()) {
			// It may be about to listen, or of a version that does not.
			asked, _ = (&net.Dialer{}).DialContext(ctx, "unix", takeoverPath(path))
		}
		select {
		case <-ctx.Done():
			if asked != nil {
				err = errors.Join(err, asked.Close())
			}
			return nil, err
		case <-time.After(lockEvery):
		}
	}
}

// Successor is who has asked for a lock.
type Successor struct{ conn net.Conn }

// AwaitSuccessor waits until somebody asks for the lock with TakeOver, or ctx ends:
// then it is nil. The holder is to release the lock.
func (l *Lock) AwaitSuccessor(ctx context.Context) (*Successor, error) {
	listener, err := Listen(takeoverPath(l.path))
	if err != nil {
		return nil, fmt.Errorf("listen for a successor: %w", err)
	}
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	conn, err := listener.Accept()
	switch {
	case ctx.Err() != nil:
		if err == nil {
			conn.Close()
		}
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("listen for a successor: %w", err)
	}
	return &Successor{conn}, nil
}

// Wait returns when the successor has ended, or ctx.
func (s *Successor) Wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	defer s.conn.Close()
	_, _ = io.Copy(io.Discard, s.conn)
}
