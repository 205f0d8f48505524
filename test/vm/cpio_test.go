// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// readCPIO is a slow and obvious reader of what cpioWriter writes.
func readCPIO(t *testing.T, archive []byte) []string {
	t.Helper()
	align := func(n int) int { return (n + 3) &^ 3 }
	var entries []string
	for at := 0; ; {
		header := string(archive[at : at+110])
		if header[:6] != "070701" {
			t.Fatalf("magic %q at %d", header[:6], at)
		}
		var f [13]int
		for i := range f {
			if _, err := fmt.Sscanf(header[6+8*i:14+8*i], "%X", &f[i]); err != nil {
				t.Fatal(err)
			}
		}
		mode, size, nameLen := f[1], f[6], f[11]
		name := string(archive[at+110 : at+110+nameLen-1])
		at = align(at + 110 + nameLen)
		if name == "TRAILER!!!" {
			if at != len(archive) {
				t.Errorf("%d bytes after the end", len(archive)-at)
			}
			return entries
		}
		entries = append(entries, fmt.Sprintf("%s %o %d:%d %q", name, mode, f[9], f[10], archive[at:at+size]))
		at = align(at + size)
	}
}

func TestCPIO(t *testing.T) {
	var out bytes.Buffer
	archive := newCPIO(&out)
	archive.dir("/a/b")
	archive.file("a/b/c", 0o755, []byte("12345"))
	archive.file("/a/empty", 0o644, nil)
	archive.char("dev/console", 5, 1)
	if err := archive.close(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`a 40755 0:0 ""`,
		`a/b 40755 0:0 ""`,
		`a/b/c 100755 0:0 "12345"`,
		`a/empty 100644 0:0 ""`,
		`dev 40755 0:0 ""`,
		`dev/console 20600 5:1 ""`,
	}
	if got := readCPIO(t, out.Bytes()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestCPIOProgram holds the archive against a program that everyone uses.
func TestCPIOProgram(t *testing.T) {
	program, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("no cpio here")
	}
	var in bytes.Buffer
	archive := newCPIO(&in)
	archive.file("x/y", 0o644, []byte("z"))
	archive.close()
	cmd := exec.Command(program, "--quiet", "-t")
	cmd.Stdin = &in
	got, err := cmd.CombinedOutput()
	if err != nil || string(got) != "x\nx/y\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// failing fails after some bytes.
type failing int

func (f *failing) Write(p []byte) (int, error) {
	if *f -= failing(len(p)); *f < 0 {
		return 0, errors.New("full")
	}
	return len(p), nil
}

func TestCPIOError(t *testing.T) {
	room := failing(200)
	archive := newCPIO(&room)
	archive.file("a", 0o644, make([]byte, 1000))
	archive.file("b", 0o644, nil)
	if err := archive.close(); err == nil || err.Error() != "full" {
		t.Errorf("got %v", err)
	}
}
