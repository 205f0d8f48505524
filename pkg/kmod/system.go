// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"

	securejoin "github.com/cyphar/filepath-securejoin"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device/kernel"
)

// Kernel is what is asked of the kernel by system calls.
type Kernel interface {
	// Uname is the release and the machine (x86_64).
	Uname() (release, machine string, err error)
	// Load is finit_module(2): errors are bare errno values.
	Load(file *os.File, params string) error
	// Unload is delete_module(2), which does not wait for users to go away;
	// errors are bare errno values.
	Unload(name string) error
	// Log is the kernel's log, as far as the caller may read it.
	Log() (string, error)
	// EndIdle ends an instance of the module, as kernel.EndIdle does.
	EndIdle(device, instance string) (bool, error)
	// Knets are the names of the knets in this network namespace.
	Knets() ([]string, error)
}

// System is the machine: its files below Root, and its kernel. Root is "/"
// but in tests, and in a container where the host's root is mounted elsewhere.
// Paths that a caller gives (Search, Build, KeyFiles) are the process's own, and not
// below Root.
type System struct {
	Root   string
	Kernel Kernel
}

// Host is the machine that the program runs on, with its files below root.
func Host(root string) *System { return &System{Root: root, Kernel: running{}} }

// path is where a file of the system is. Symbolic links are followed as the
// system itself would, so /lib/modules/RELEASE/build stays below Root.
func (s *System) path(name string) string {
	p, err := securejoin.SecureJoin(s.Root, name)
	if err != nil {
		// A loop of links: opening the plain path says so.
		return filepath.Join(s.Root, name)
	}
	return p
}

// holds tells whether a path of this process is one of the system's files.
func (s *System) holds(path string) bool {
	return s.Root == "/" || strings.HasPrefix(path, filepath.Clean(s.Root)+"/")
}

// shown is a path as people of the system know it.
func (s *System) shown(path string) string {
	if s.Root == "/" {
		return path
	}
	if rest, ok := strings.CutPrefix(path, filepath.Clean(s.Root)+"/"); ok {
		return "/" + rest
	}
	return path
}

func (s *System) read(name string) ([]byte, error) { return os.ReadFile(s.path(name)) }

// line is the content of a file of one line, "" if there is none.
func (s *System) line(name string) string {
	b, err := s.read(name)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

func (s *System) exists(name string) bool {
	_, err := os.Lstat(s.path(name))
	return err == nil
}

func (s *System) isDir(name string) bool {
	fi, err := os.Stat(s.path(name))
	return err == nil && fi.IsDir()
}

// running is the kernel that runs.
type running struct{}

func (running) Uname() (release, machine string, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", "", os.NewSyscallError("uname", err)
	}
	return unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), nil
}

func (running) Load(file *os.File, params string) error {
	return unix.FinitModule(int(file.Fd()), params, 0)
}

func (running) Unload(name string) error { return unix.DeleteModule(name, unix.O_NONBLOCK) }

func (running) Log() (string, error) {
	size, err := unix.Klogctl(unix.SYSLOG_ACTION_SIZE_BUFFER, nil)
	if err != nil {
		return "", os.NewSyscallError("syslog", err)
	}
	b := make([]byte, size)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, b)
	if err != nil {
		return "", os.NewSyscallError("syslog", err)
	}
	return string(b[:n]), nil
}

func (running) EndIdle(device, instance string) (bool, error) {
	return kernel.EndIdle(device, instance)
}

func (running) Knets() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	var names []string
	for _, l := range links {
		if l.Type() == "knet" {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}
