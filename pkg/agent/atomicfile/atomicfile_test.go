// SPDX-License-Identifier: Apache-2.0

package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteAndRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, want := range []string{"first, and longer", "second"} {
		if err := Write(path, []byte(want), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("read %q, %v", got, err)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o640 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}
	for range 2 {
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 0 {
		t.Fatalf("left %v, %v", left, err)
	}
}

// What cannot take the name leaves nothing behind.
func TestWriteFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.MkdirAll(filepath.Join(path, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("x"), 0o600); err == nil {
		t.Fatal("wrote over a folder")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Fatalf("left %v, %v", left, err)
	}
}

func TestIsStray(t *testing.T) {
	for name, want := range map[string]bool{".f.new-123": true, "f": false, "f.new-1": false, ".f": false} {
		if IsStray(name) != want {
			t.Errorf("IsStray(%q) = %v", name, !want)
		}
	}
}
