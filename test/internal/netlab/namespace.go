// SPDX-License-Identifier: Apache-2.0

// Package netlab makes network namespaces and what joins them, for tests and
// measurements that need a small network of their own.
package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is a named network namespace, as `ip netns` makes them. Its methods
// may be called from any goroutine.
type Namespace struct {
	Name string
	// Path of the bind mount that keeps the namespace: /run/netns/NAME.
	Path string
	// Netlink talks to the kernel inside the namespace.
	Netlink *netlink.Handle
	handle  netns.NsHandle
}

// New makes a namespace with its loopback interface up.
func New(name string) (*Namespace, error) {
	n := &Namespace{Name: name, Path: "/run/netns/" + name}
	err := onThread(func() (err error) {
		if n.handle, err = netns.NewNamed(name); err != nil {
			return err
		}
		n.Netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", name, err)
	}
	lo, err := n.Netlink.LinkByName("lo")
	if err == nil {
		err = n.Netlink.LinkSetUp(lo)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up lo in %s: %w", name, err), n.Close())
	}
	return n, nil
}

// Here is the namespace that the program runs in.
func Here() (*Namespace, error) { return Open("host", "/proc/self/ns/net") }

// Open opens a namespace that somebody else made, such as a process's
// /proc/PID/ns/net. The name is for messages.
func Open(name, path string) (*Namespace, error) {
	n := &Namespace{Name: name, Path: path}
	var err error
	if n.handle, err = netns.GetFromPath(path); err != nil {
		return nil, fmt.Errorf("open network namespace of %s: %w", name, err)
	}
	err = n.Do(func() (err error) {
		n.Netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink in %s: %w", name, err), n.handle.Close())
	}
	return n, nil
}

// Close removes the namespace's name; it ends with its last process.
func (n *Namespace) Close() error {
	n.Netlink.Close()
	err := n.handle.Close()
	if strings.HasPrefix(n.Path, "/run/netns/") {
		err = errors.Join(err, netns.DeleteNamed(n.Name))
	}
	return err
}

// Do calls f on a thread inside the namespace.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.handle), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// Start starts a command inside the namespace. The command must not have
// Pdeathsig set: the thread that starts it ends at once.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	return n.Do(cmd.Start)
}

// Output runs a command inside the namespace and returns what it printed on
// both outputs; an error carries it too.
func (n *Namespace) Output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := n.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("%s in %s: %w: %s", strings.Join(cmd.Args, " "), n.Name, err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Sysctl sets a kernel parameter of the namespace, named with slashes:
// "net/ipv4/ip_forward".
func (n *Namespace) Sysctl(name, value string) error {
	return n.Do(func() error {
		return os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)
	})
}

// onThread calls f on a thread of its own, that ends with f: whatever
// namespace f leaves it in, no other goroutine will run there.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}
