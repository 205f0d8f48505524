// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// Types of file, in the mode of a cpio entry.
const (
	modeDir     = 0o040000
	modeChar    = 0o020000
	modeRegular = 0o100000
)

// cpioWriter writes an initramfs: the newc format of cpio, as in the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst.
type cpioWriter struct {
	w       io.Writer
	written int64
	entries int
	dirs    map[string]bool
	err     error // the first one
}

func newCPIO(w io.Writer) *cpioWriter {
	return &cpioWriter{w: w, dirs: map[string]bool{"": true, ".": true, "/": true}}
}

func (c *cpioWriter) write(p []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(p)
	c.written += int64(n)
	c.err = err
}

// pad to four bytes, where each header and each file's content begin.
func (c *cpioWriter) pad() { c.write(make([]byte, (4-c.written%4)%4)) }

func (c *cpioWriter) entry(name string, mode, major, minor uint32, content []byte) {
	name = strings.TrimPrefix(name, "/")
	c.entries++
	// magic, inode, mode, uid, gid, links, mtime, size, device (2), special
	// device (2), length of the name, checksum
	fields := []uint32{uint32(c.entries), mode, 0, 0, 1, 0, uint32(len(content)), 0, 0, major, minor, uint32(len(name) + 1), 0}
	header := "070701"
	for _, f := range fields {
		header += fmt.Sprintf("%08X", f)
	}
	c.write([]byte(header + name + "\x00"))
	c.pad()
	c.write(content)
	c.pad()
}

// dir makes a folder and those above it, once.
func (c *cpioWriter) dir(name string) {
	name = strings.Trim(name, "/")
	if c.dirs[name] {
		return
	}
	c.dirs[name] = true
	c.dir(path.Dir(name))
	c.entry(name, modeDir|0o755, 0, 0, nil)
}

func (c *cpioWriter) file(name string, perm uint32, content []byte) {
	c.dir(path.Dir(name))
	c.entry(name, modeRegular|perm, 0, 0, content)
}

func (c *cpioWriter) char(name string, major, minor uint32) {
	c.dir(path.Dir(name))
	c.entry(name, modeChar|0o600, major, minor, nil)
}

// close ends the archive, and returns the first error there was.
func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, 0, 0, nil)
	return c.err
}
