// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// searchDepth is how deep below a directory modules are looked for; DIR/RELEASE/HASH/netio.ko is 2.
const searchDepth = 3

// Search says where modules are looked for.
type Search struct {
	File  string   // this file and no other
	Dirs  []string // first
	Cache string   // then what Build has made; "": none
	Only  bool     // and not in /lib/modules
}

// moduleDirs are those that are not the kernel's own, below /lib/modules/RELEASE
// (depmod.d(5) looks at updates first; DKMS uses updates/dkms or extra).
var moduleDirs = []string{"updates", "extra", "dkms", "weak-updates", "kernel/drivers/net"}

// Files are the modules that were found, those that fit first. What cannot be read is
// among them, with the reason. The error of a directory in Dirs or of File is
// returned.
func (s *System) Files(k *Running, in Search) ([]*File, error) {
	vermagic := s.vermagic(k.Release)
	if in.File != "" {
		if _, err := os.Stat(in.File); err != nil {
			return nil, err
		}
		return []*File{s.look(k, in.File, vermagic)}, nil
	}
	var paths []string
	for _, dir := range in.Dirs {
		found, err := modulesBelow(dir)
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	if in.Cache != "" {
		// None has been built yet: not an error.
		found, _ := modulesBelow(filepath.Join(in.Cache, k.Release))
		newestFirst(found)
		paths = append(paths, found...)
	}
	for _, dir := range moduleDirs {
		if in.Only {
			break
		}
		found, _ := modulesBelow(s.path(path.Join("/lib/modules", k.Release, dir)))
		paths = append(paths, found...)
	}
	var files []*File
	for _, p := range paths {
		files = append(files, s.look(k, p, vermagic))
	}
	slices.SortStableFunc(files, func(a, b *File) int {
		switch {
		case a.Fits == b.Fits:
			return 0
		case a.Fits:
			return -1
		}
		return 1
	})
	return files, nil
}

// look reads one file and closes it again.
func (s *System) look(k *Running, path, vermagic string) *File {
	f, err := openFile(path)
	if err != nil {
		return &File{Path: path, Why: strings.TrimPrefix(err.Error(), path+": "), why: NoModule}
	}
	f.Close()
	f.judge(k, vermagic)
	return f
}

// modulesBelow are the files netio.ko, packed or not, below a directory.
func modulesBelow(dir string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && p == dir:
			return err
		case err != nil:
			return nil
		case d.IsDir() && p != dir:
			rel, _ := filepath.Rel(dir, p)
			if strings.Count(rel, string(filepath.Separator)) >= searchDepth {
				return fs.SkipDir
			}
		case !d.IsDir() && moduleName(p) == Name:
			found = append(found, p)
		}
		return nil
	})
	return found, err
}

func newestFirst(paths []string) {
	when := map[string]time.Time{}
	for _, p := range paths {
		if fi, err := os.Stat(p); err == nil {
			when[p] = fi.ModTime()
		}
	}
	slices.SortStableFunc(paths, func(a, b string) int { return when[b].Compare(when[a]) })
}

// vermagic is that of the first of the kernel's own modules that can be read: the running
// kernel does not tell its own.
func (s *System) vermagic(release string) string {
	var magic string
	_ = filepath.WalkDir(s.path(path.Join("/lib/modules", release, "kernel")), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || moduleName(p) == "" || moduleName(p) == Name {
			return nil
		}
		if info, err := ReadFile(p); err == nil && info.release() == release {
			magic = info.Vermagic
			return fs.SkipAll
		}
		return nil
	})
	return magic
}

// builtIn tells whether the kernel has the module within
// (Documentation/kbuild/kbuild.rst, modules.builtin).
func (s *System) builtIn(release string) bool {
	b, err := s.read(path.Join("/lib/modules", release, "modules.builtin"))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if moduleName(strings.TrimSpace(line)) == Name {
			return true
		}
	}
	return false
}

// builtInInfo is what a built-in module says of itself: strings
// "netio.version=1.0.0" in modules.builtin.modinfo, each with a zero byte after it.
func (s *System) builtInInfo(release string) *ModInfo {
	m := &ModInfo{Name: Name}
	b, err := s.read(path.Join("/lib/modules", release, "modules.builtin.modinfo"))
	if err != nil {
		return m
	}
	for entry := range strings.SplitSeq(string(b), "\x00") {
		if entry, ok := strings.CutPrefix(entry, Name+"."); ok {
			name, value, _ := strings.Cut(entry, "=")
			m.set(name, value)
		}
	}
	return m
}

// dependencies are the files that must be loaded before a module which depends on these,
// in this order; modules.dep names each with all of its own, the
// last to be loaded first (depmod(8)).
func (s *System) dependencies(release string, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	base := path.Join("/lib/modules", release)
	f, err := os.Open(s.path(path.Join(base, "modules.dep")))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := map[string][]string{}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		file, needs, ok := strings.Cut(sc.Text(), ":")
		if !ok {
			continue
		}
		order := append([]string{file}, strings.Fields(needs)...)
		slices.Reverse(order)
		lines[moduleName(file)] = order
	}
	var files []string
	var missing []error
	for _, name := range names {
		order, ok := lines[strings.ReplaceAll(name, "-", "_")]
		if !ok {
			missing = append(missing, errors.New(name))
		}
		for _, file := range order {
			if !path.IsAbs(file) {
				file = path.Join(base, file)
			}
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files, errors.Join(missing...)
}
