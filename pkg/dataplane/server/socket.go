// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrInUse is returned by Serve for a socket that another process serves.
var ErrInUse = errors.New("another process serves this socket; stop it, or choose another path")

// maxSocketPath is what sockaddr_un holds, with a NUL at its end (unix(7)).
const maxSocketPath = 107

// listen makes a unix socket that only its owner may connect to, from the first
// moment on.
func listen(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path has %d bytes, a socket's at most %d", path, len(path), maxSocketPath)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// bind gives the file the mode that the socket has.
		var chmod error
		if err := c.Control(func(fd uintptr) { chmod = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return chmod
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// removeStale removes a socket that nobody serves, and nothing else.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Mode().Type() != fs.ModeSocket:
		return errors.New("a file that is no socket is in the way; remove it, or choose another path")
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return ErrInUse
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("see whether the socket there is in use: %w", err)
	}
	return os.Remove(path)
}
