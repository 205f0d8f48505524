// SPDX-License-Identifier: Apache-2.0

// Package netnsid tells network namespaces apart. A path does not: another
// namespace can be at it later.
package netnsid

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ID is the identity of a network namespace: device and inode number of its
// file, which are unique among those that live, and the boot it lives in. The
// zero ID is no namespace's.
type ID struct {
	Dev   uint64 `json:"dev"`
	Inode uint64 `json:"inode"`
	Boot  string `json:"boot"`
}

// At returns the identity of what is at path. That it is a network namespace is
// not checked.
func At(path string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ID{}, fmt.Errorf("stat network namespace %s: %w", path, err)
	}
	return of(&st)
}

// Of returns the identity of an open network namespace.
func Of(fd uintptr) (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(fd), &st); err != nil {
		return ID{}, fmt.Errorf("stat network namespace: %w", err)
	}
	return of(&st)
}

func of(st *unix.Stat_t) (ID, error) {
	boot, err := bootID()
	if err != nil {
		return ID{}, err
	}
	return ID{Dev: st.Dev, Inode: st.Ino, Boot: boot}, nil
}

// bootID tells the runs of a machine apart: inode numbers come again after a
// reboot. See random(4).
var bootID = sync.OnceValues(func() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot ID: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
})
