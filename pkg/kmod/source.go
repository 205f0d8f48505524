// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Source is the module's source, a folder with a Kbuild.
type Source struct {
	Dir   string
	files []string // relative, in order
}

// FindSource takes the folder that is given; if none is, kmod/ beside the
// program or its folder, then /usr/src/netio-VERSION, this program's version before the
// newest. The error is a Problem with NoSource.
func (s *System) FindSource(dir, program, version string) (*Source, error) {
	if dir != "" {
		return openSource(dir)
	}
	var tries []string
	if program != "" {
		tries = append(tries, filepath.Join(filepath.Dir(program), "kmod"), filepath.Join(filepath.Dir(program), "..", "kmod"))
	}
	packaged, _ := filepath.Glob(filepath.Join(s.Root, "usr/src", Name+"-*"))
	slices.Sort(packaged)
	slices.Reverse(packaged)
	tries = append(tries, s.path("/usr/src/"+Name+"-"+strings.TrimPrefix(version, "v")))
	tries = append(tries, packaged...)
	for _, try := range tries {
		if src, err := openSource(try); err == nil {
			return src, nil
		}
	}
	return nil, problem(NoSource, "name the folder kmod of NetIO's source (--source)", "there is no source of the module (looked for %s)", strings.Join(tries, ", "))
}

func openSource(dir string) (*Source, error) {
	src := &Source{Dir: dir}
	err := filepath.WalkDir(src.Dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !IsSource(d.Name()) {
			return err
		}
		rel, err := filepath.Rel(src.Dir, p)
		src.files = append(src.files, rel)
		return err
	})
	cure := "name the folder kmod of NetIO's source (--source)"
	if err != nil {
		return nil, problem(NoSource, cure, "read source of the module: %v", err).of(err)
	}
	slices.Sort(src.files)
	if !slices.Contains(src.files, "Kbuild") && !slices.Contains(src.files, "Makefile") {
		return nil, problem(NoSource, cure, "%s has neither Kbuild nor Makefile", dir)
	}
	return src, nil
}

// IsSource tells the module's files that are written from those that a build makes, by
// their names.
func IsSource(name string) bool {
	switch {
	case strings.HasPrefix(name, "."), strings.HasSuffix(name, ".mod.c"):
		return false
	case name == "Kbuild", name == "Makefile", name == "Kconfig":
		return true
	}
	switch filepath.Ext(name) {
	case ".c", ".h", ".S", ".mk":
		return true
	}
	return false
}

// key is a hash over the version, names and content of the source, and other files, which may
// be missing.
func (src *Source) key(version string, others ...string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00", version)
	for _, name := range src.files {
		if err := hashFile(h, name, filepath.Join(src.Dir, name)); err != nil {
			return "", fmt.Errorf("read source of the module: %w", err)
		}
	}
	for _, p := range others {
		if _, err := os.Stat(p); err != nil {
			continue
		}
		if err := hashFile(h, filepath.Base(p), p); err != nil {
			return "", fmt.Errorf("read headers: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func hashFile(w io.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s\x00%d\x00", name, fi.Size())
	_, err = io.Copy(w, f)
	return err
}

// copyTo copies the source: builds leave files behind, and the folder may be read-only.
func (src *Source) copyTo(dir string) error {
	for _, name := range src.files {
		b, err := os.ReadFile(filepath.Join(src.Dir, name))
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
