// SPDX-License-Identifier: Apache-2.0

// Package socket opens the unix socket of a service that only root may talk
// to, and sees to it that a socket has one server.
package socket

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrInUse is returned where another process serves the socket.
var ErrInUse = errors.New("another process serves the socket")

// Lock is held by the one server of a socket. It is gone with the process,
// however that ends.
type Lock struct {
	file *os.File
	path string
	// asked is the connection to who had it before, nil for none.
	asked net.Conn
}

// Acquire takes path+".lock". Its folder is made with mode 0700 if it is not
// there. The error is ErrInUse, with the other's process id, if it is taken.
func Acquire(path string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of socket: %w", err)
	}
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of socket: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := io.ReadAll(io.LimitReader(f, 16))
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is served by process %s; stop it first", ErrInUse, path, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("lock socket: %w", err)
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock of socket: %w", err)
	}
	return &Lock{file: f, path: path}, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// Release gives the lock up. The file stays: removing it would let two
// processes lock two files of one name.
func (l *Lock) Release() error {
	if l.asked != nil {
		_ = l.asked.Close()
	}
	return l.file.Close()
}

// Listen opens the socket with mode 0600, in place of whatever socket a dead
// process left there. The caller holds the lock. The socket appears under its
// name only with its mode set and ready to be connected to.
func Listen(path string) (net.Listener, error) {
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != os.ModeSocket {
		return nil, fmt.Errorf("open socket: %s is there and is no socket; move it away or choose another path", path)
	}
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("open socket: %w", err), l.Close(), os.Remove(tmp))
	}
	return &listener{UnixListener: l, path: path}, nil
}

// Peer is the process at the other end of a connection, as it was when that was made
// (unix(7), SO_PEERCRED). One in a PID namespace that is not below this one's has the
// number 0.
func Peer(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("find peer: %w", err)
	}
	var peer *unix.Ucred
	var perr error
	err = raw.Control(func(fd uintptr) { peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, perr); err != nil {
		return nil, fmt.Errorf("find peer: %w", err)
	}
	return peer, nil
}

// listener removes its socket when it is closed: once, for by the second time
// the socket may be the next server's.
type listener struct {
	*net.UnixListener
	path   string
	remove sync.Once
}

func (l *listener) Close() error {
	var err error
	l.remove.Do(func() { err = os.Remove(l.path) })
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(l.UnixListener.Close(), err)
}
