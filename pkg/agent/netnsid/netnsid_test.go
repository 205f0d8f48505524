// SPDX-License-Identifier: Apache-2.0

package netnsid

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// A namespace is the same by whichever path, and open.
func TestSame(t *testing.T) {
	link := filepath.Join(t.TempDir(), "ns")
	if err := os.Symlink("/proc/self/ns/net", link); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	open, err := Of(f.Fd())
	if err != nil || open.Inode == 0 || open.Boot == "" {
		t.Fatalf("open: %+v, %v", open, err)
	}
	for _, path := range []string{link, "/proc/self/ns/net"} {
		if id, err := At(path); id != open || err != nil {
			t.Errorf("%s: %+v, %v; expected %+v", path, id, err, open)
		}
	}
	if id, err := At("/proc/self/ns/mnt"); id == open || err != nil {
		t.Errorf("another namespace: %+v, %v", id, err)
	}
}

func TestNotThere(t *testing.T) {
	if id, err := At(filepath.Join(t.TempDir(), "none")); id != (ID{}) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %+v, %v", id, err)
	}
	if _, err := Of(^uintptr(0)); err == nil {
		t.Error("no error for a file that is not open")
	}
}
