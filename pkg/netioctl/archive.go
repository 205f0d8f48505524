// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"time"
)

// archive is a tar.gz of parts, each of which may fail by itself.
type archive struct {
	dir   string // of everything in it
	at    time.Time
	room  int // bytes that files may still have, before compression
	limit int // bytes of one file
	gz    *gzip.Writer
	tar   *tar.Writer
	parts []archived
}

// archived is what became of a part.
type archived struct {
	name string
	size int
	err  error // why it is not there, or not whole
}

var errCut = errors.New("cut: it is larger than what is taken of it")

func newArchive(w io.Writer, dir string, at time.Time, room, limit int) *archive {
	gz := gzip.NewWriter(w)
	return &archive{dir: dir, at: at, room: room, limit: limit, gz: gz, tar: tar.NewWriter(gz)}
}

// add writes what the part tells as a file, also if the part fails midway: that is
// noted. Errors are those of writing the archive.
func (a *archive) add(name string, part func(io.Writer) error) error {
	b := &boundedBuffer{limit: min(a.limit, a.room)}
	err := part(b)
	if b.cut {
		err = errCut
	}
	content := b.content.Bytes()
	a.parts = append(a.parts, archived{name, len(content), err})
	if err != nil && len(content) == 0 {
		return nil
	}
	a.room -= len(content)
	return a.write(name, content)
}

// write adds a file, whatever room there is.
func (a *archive) write(name string, content []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: a.dir + "/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: a.at}
	if err := a.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if _, err := a.tar.Write(content); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// close completes the archive.
func (a *archive) close() error {
	if err := errors.Join(a.tar.Close(), a.gz.Close()); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// boundedBuffer takes the first limit bytes, and fails from then on. It has no other
// methods of bytes.Buffer than these: they would go past the limit.
type boundedBuffer struct {
	content bytes.Buffer
	limit   int
	cut     bool
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if room := b.limit - b.content.Len(); len(p) > room {
		b.cut = true
		n, _ := b.content.Write(p[:room]) // never fails
		return n, errCut
	}
	return b.content.Write(p)
}
