// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"netio.dev/netio/test/vm/control"
)

// mounts in their order. Those that are optional are not in every kernel.
var mounts = []struct {
	fstype, target string
	optional       bool
}{
	{"proc", "/proc", false},
	{"sysfs", "/sys", false},
	{"devtmpfs", "/dev", false},
	{"devpts", "/dev/pts", true},
	{"tmpfs", "/dev/shm", false},
	{"tmpfs", "/run", false},
	{"tmpfs", "/tmp", false},
	{"debugfs", "/sys/kernel/debug", true},
	{"tracefs", "/sys/kernel/tracing", true},
	{"cgroup2", "/sys/fs/cgroup", true},
}

func setUp() error {
	for _, m := range mounts {
		err := os.MkdirAll(m.target, 0o755)
		if err == nil {
			err = unix.Mount(m.fstype, m.target, m.fstype, 0, "")
		}
		if err != nil && !m.optional {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	// All that is said from now on is wanted: boot messages were not, they
	// take long on a serial line.
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("8"), 0); err != nil {
		return fmt.Errorf("set the log level: %w", err)
	}
	for name, value := range map[string]string{
		"PATH": "/bin:/sbin:/usr/bin:/usr/sbin", "HOME": "/tmp", "TMPDIR": "/tmp",
		// By it a test knows that it is in a machine of its own, and must not skip
		// what it would skip elsewhere.
		"NETIO_VM": "1",
	} {
		os.Setenv(name, value)
	}
	unix.Sethostname([]byte("vm"))
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20})
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return loadListed()
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

func loadListed() error {
	list, err := os.ReadFile(control.ModuleList)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for path := range strings.FieldsSeq(string(list)) {
		// A module for hardware that is not there does not load. If it matters,
		// that shows when it is used.
		if err := insert(path, ""); err != nil {
			kernelLog(5, "%v", err)
		}
	}
	return nil
}

// insert loads a module file. One that is loaded already is no error.
func insert(path, parameters string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), parameters, 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", filepath.Base(path), err)
	}
	return nil
}
