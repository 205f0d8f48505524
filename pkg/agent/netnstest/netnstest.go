// SPDX-License-Identifier: Apache-2.0

// Package netnstest makes network namespaces and knets for tests. Everything
// it makes is gone when the test ends.
package netnstest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NeedRoot skips the test unless it may make namespaces.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
}

// New makes a network namespace and returns its path. Its loopback is up.
func New(t testing.TB) string {
	t.Helper()
	NeedRoot(t)
	path := filepath.Join(t.TempDir(), "netns")
	if err := Make(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Remove(path) })
	return path
}

// Make makes a network namespace at path, for tests that remove it themselves.
func Make(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o400)
	if err != nil {
		return err
	}
	f.Close()
	done := make(chan error)
	thread := 0
	go onThrowawayThread(done, func() error {
		thread = unix.Gettid()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	err = <-done
	for unix.Tgkill(unix.Getpid(), thread, 0) == nil {
		runtime.Gosched() // it ends at once; a test may look for threads that strayed
	}
	return err
}

// onThrowawayThread runs f on a thread that ends with it. The main thread never
// ends, so f goes elsewhere while that one is held.
func onThrowawayThread(done chan<- error, f func() error) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if unix.Gettid() == unix.Getpid() {
		inner := make(chan error)
		go onThrowawayThread(inner, f)
		err := <-inner
		runtime.UnlockOSThread()
		done <- err
		return
	}
	done <- f()
}

// Remove removes what Make made. What is gone already is no error.
func Remove(path string) {
	_ = unix.Unmount(path, unix.MNT_DETACH)
	_ = os.Remove(path)
}

// TUN makes an interface like a knet's: L3, point-to-point, down. It lasts
// until the file is closed.
func TUN(path, name string) (*os.File, error) {
	t := &netlink.Tuntap{LinkAttrs: netlink.NewLinkAttrs(), Mode: netlink.TUNTAP_MODE_TUN,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE, Queues: 1, NonPersist: true}
	t.Name = name
	if err := Do(path, func() error { return netlink.LinkAdd(t) }); err != nil {
		return nil, fmt.Errorf("make TUN %s: %w", name, err)
	}
	return t.Fds[0], nil
}

// Do runs f on a thread inside the namespace at path, "" for the caller's own.
func Do(path string, f func() error) error {
	if path == "" {
		return f()
	}
	return ns.WithNetNSPath(path, func(ns.NetNS) error { return f() })
}
