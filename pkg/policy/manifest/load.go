// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"netio.dev/netio/api/v1alpha1"
)

// Set is the policies that are in force. It is shared and must not be changed.
type Set struct {
	// Policies, sorted by namespace and name, with defaults filled in.
	Policies        []*v1alpha1.NetIOPolicy
	ClusterPolicies []*v1alpha1.NetIOClusterPolicy
	// Sources tells where each of them was read.
	Sources map[ID]Source
}

// Source is a place in a file.
type Source struct {
	File string // path
	Line int    // from 1
}

// Load reads a directory once. A file with a mistake contributes nothing, and so
// does a directory that cannot be read.
func Load(dir string) (Set, []Problem) {
	l := loader{dir: dir}
	set, problems, _ := l.load()
	return set, problems
}

// Parse reads the content of one file. If there is a mistake in it, the set is
// empty. The name is for problems and sources only.
func Parse(name string, content []byte) (Set, []Problem) {
	objects, problems := parse(name, content)
	for i := range problems {
		problems[i].Effect = Dropped
	}
	return newSet(map[string]*version{name: {objects: objects}}), problems
}

// loader reads a directory again and again. It remembers which version of each
// file is in force.
type loader struct {
	dir     string
	inForce map[string]*version // by file name
	seen    map[string]*version // last parsed, good or bad, by file name
}

// version is a file as it was at a time.
type version struct {
	data     []byte
	objects  []object
	problems []Problem
}

// state is what a file contributes in the course of one load.
type state struct {
	name     string
	version  *version // nil: nothing
	now      bool     // the version is what the file says now
	problems []Problem
}

// load reads the directory. It reports whether other versions of files are in
// force than before.
func (l *loader) load() (set Set, problems []Problem, changed bool) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		problems = append(problems, l.unreadable(err))
		return newSet(l.inForce), problems, false
	}
	var states []*state
	seen := make(map[string]*version)
	for _, entry := range entries {
		name := entry.Name()
		if !isManifest(name) {
			continue
		}
		v, err := l.read(name)
		if errors.Is(err, fs.ErrNotExist) && !linked(filepath.Join(l.dir, name)) {
			continue // removed since the directory was read
		}
		s := &state{name: name, version: v, now: true}
		if err != nil {
			s.problems = []Problem{{File: filepath.Join(l.dir, name), Message: err.Error()}}
		} else {
			seen[name] = v
			s.problems = v.problems
		}
		if len(s.problems) > 0 {
			s.fallBack(l.inForce[name])
		}
		states = append(states, s)
	}
	l.seen = seen
	l.settle(states)

	inForce := make(map[string]*version)
	for _, s := range states {
		for _, p := range s.problems {
			p.Effect = effect(len(s.objects()) > 0)
			problems = append(problems, p)
		}
		if s.version != nil {
			inForce[s.name] = s.version
		}
	}
	changed = len(inForce) != len(l.inForce)
	for name, v := range inForce {
		changed = changed || l.inForce[name] == nil || !bytes.Equal(l.inForce[name].data, v.data)
	}
	l.inForce = inForce
	return newSet(inForce), problems, changed
}

func effect(kept bool) Effect {
	if kept {
		return Kept
	}
	return Dropped
}

// fallBack makes an earlier version count, nil for none.
func (s *state) fallBack(v *version) { s.version, s.now = v, false }

// isManifest reports whether a file is read. Those that begin with a dot belong
// to editors and to kubelet.
func isManifest(name string) bool {
	ext := filepath.Ext(name)
	return (ext == ".yaml" || ext == ".yml") && !strings.HasPrefix(name, ".")
}

// linked reports whether there is a link, which then leads nowhere.
func linked(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (l *loader) unreadable(err error) Problem {
	p := Problem{File: l.dir, Effect: effect(len(l.inForce) > 0)}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		p.Message = "the directory is missing: create it, empty if there are to be no policies"
	case errors.Is(err, syscall.ENOTDIR):
		p.Message = "is not a directory: give the directory that the files are in"
	default:
		p.Message = fmt.Sprintf("cannot be read: %v", err)
	}
	return p
}

// read returns the file as it is now, the version that was seen last if it has
// not changed since.
func (l *loader) read(name string) (*version, error) {
	path := filepath.Join(l.dir, name)
	// Nonblocking, for a FIFO that nobody writes to.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file: rename it if it is not meant to be read here")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	case len(data) > maxFileSize:
		return nil, fmt.Errorf("is larger than %d MiB: split it", maxFileSize>>20)
	}
	if last := l.seen[name]; last != nil && bytes.Equal(last.data, data) {
		return last, nil
	}
	v := &version{data: data}
	v.objects, v.problems = parse(path, data)
	return v, nil
}

// settle resolves objects that are in two files: the file that has the object in
// force keeps it, the first one by name if neither has. The other one falls back
// to its version in force. Those do not conflict among themselves; should they
// (they were remembered half written), the second contributes nothing. So each
// file falls at most twice, and this ends.
func (l *loader) settle(states []*state) {
	for {
		owner := make(map[ID]*state)
		clean := true
		for _, s := range states {
			for _, o := range s.objects() {
				other := owner[o.id]
				if other == nil {
					owner[o.id] = s
					continue
				}
				keeps, loses := other, s
				if l.has(s.name, o.id) && !l.has(other.name, o.id) {
					keeps, loses = s, other
				}
				loses.problems = append(loses.problems, l.conflict(loses, keeps, o.id))
				if loses.now {
					loses.fallBack(l.inForce[loses.name])
				} else {
					loses.version = nil
				}
				clean = false
				break
			}
			if !clean {
				break
			}
		}
		if clean {
			return
		}
	}
}

func (s *state) objects() []object {
	if s.version == nil {
		return nil
	}
	return s.version.objects
}

// has reports whether the file's version in force has the object.
func (l *loader) has(file string, id ID) bool {
	v := l.inForce[file]
	return v != nil && slices.ContainsFunc(v.objects, func(o object) bool { return o.id == id })
}

func (l *loader) conflict(loses, keeps *state, id ID) Problem {
	line := func(s *state) int {
		i := slices.IndexFunc(s.version.objects, func(o object) bool { return o.id == id })
		return s.version.objects[i].line
	}
	return Problem{
		File: filepath.Join(l.dir, loses.name), Line: line(loses),
		Object: id.String(), Field: "metadata.name",
		Message: fmt.Sprintf("is also in %s, line %d: rename or remove one", filepath.Join(l.dir, keeps.name), line(keeps)),
	}
}

func newSet(versions map[string]*version) Set {
	set := Set{Sources: make(map[ID]Source)}
	for _, v := range versions {
		for _, o := range v.objects {
			if o.policy != nil {
				set.Policies = append(set.Policies, o.policy)
			}
			if o.clusterPolicy != nil {
				set.ClusterPolicies = append(set.ClusterPolicies, o.clusterPolicy)
			}
			set.Sources[o.id] = Source{File: o.file, Line: o.line}
		}
	}
	slices.SortFunc(set.Policies, func(a, b *v1alpha1.NetIOPolicy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(set.ClusterPolicies, func(a, b *v1alpha1.NetIOClusterPolicy) int { return cmp.Compare(a.Name, b.Name) })
	return set
}
