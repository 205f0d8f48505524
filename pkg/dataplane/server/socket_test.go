// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func TestSocket(t *testing.T) {
	t.Run("is its owner's only, and goes with the server", func(t *testing.T) {
		old := unix.Umask(0)
		defer unix.Umask(old)
		b := newBed(t, t.TempDir())
		if _, err := b.config.Get(b.ctx(), &dataplanev1.GetRequest{}); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Lstat(b.socket)
		if err != nil || fi.Mode() != os.ModeSocket|0o600 {
			t.Errorf("mode %v, error %v", fi.Mode(), err)
		}
		b.stop()
		if _, err := os.Lstat(b.socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is still there; error %v", err)
		}
	})
	t.Run("of a process that has died is replaced", func(t *testing.T) {
		dir := t.TempDir()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "forwarder.sock"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
		b := newBed(t, dir)
		b.apply(twoPods(1))
	})
	t.Run("of a process that lives is left alone", func(t *testing.T) {
		b := newBed(t, t.TempDir())
		b.apply(twoPods(1))
		if err := b.s.Serve(t.Context(), b.socket); !errors.Is(err, ErrInUse) {
			t.Errorf("error %v, want %v", err, ErrInUse)
		}
		b.apply(twoPods(2))
	})
	t.Run("where a file is", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := (&Server{}).Serve(t.Context(), path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("error %v", err)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != "precious" {
			t.Errorf("the file has %q, error %v", raw, err)
		}
	})
	t.Run("where a link is", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink("elsewhere", path); err != nil {
			t.Fatal(err)
		}
		if err := (&Server{}).Serve(t.Context(), path); err == nil {
			t.Error("no error")
		}
	})
	t.Run("in a folder that is not there", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "missing", "socket")
		if err := (&Server{}).Serve(t.Context(), path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("with a path that is too long", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
		if err := (&Server{}).Serve(t.Context(), path); err == nil || !strings.Contains(err.Error(), "at most 107") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("of a server that is told to stop before it starts", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = (&Server{}).Serve(ctx, filepath.Join(t.TempDir(), "socket"))
	})
}
