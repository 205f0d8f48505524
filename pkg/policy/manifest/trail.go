// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links the kernel follows in a path.
const maxLinks = 40

// trail is what decides which file a path leads to: names in directories. A path
// leads elsewhere only if one of them is made, removed or replaced:
//
//	/etc/netio/policies -> current/policies     current -> v7
//
//	/etc/netio: policies, current     /etc/netio/v7: policies     / : etc ...
type trail map[string]map[string]bool

// everything, as a name, stands for all names in a directory.
const everything = "*"

func (t trail) add(dir, name string) {
	if t[dir] == nil {
		t[dir] = make(map[string]bool)
	}
	t[dir][name] = true
}

// follow adds the trail of an absolute path, as far as it leads, and returns where
// it leads to; "" if it does not lead all the way.
func (t trail) follow(path string) string {
	at := "/"
	ahead := strings.Split(strings.Trim(path, "/"), "/")
	for links := 0; len(ahead) > 0; {
		name := ahead[0]
		ahead = ahead[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		t.add(at, name)
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			return ""
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return ""
		}
		if strings.HasPrefix(target, "/") {
			at = "/"
		}
		ahead = append(strings.Split(strings.Trim(target, "/"), "/"), ahead...)
	}
	return at
}

// leads reports whether a change to the file decides where the trail leads.
func (t trail) leads(path string) bool {
	names := t[filepath.Dir(path)]
	return names[everything] || names[filepath.Base(path)] || t[path] != nil
}

// followManifests adds the trails of a directory and of the files in it that are
// symbolic links.
func (t trail) followManifests(dir string) {
	real := t.follow(dir)
	if real == "" {
		return
	}
	t.add(real, everything)
	entries, err := os.ReadDir(real)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Type()&os.ModeSymlink != 0 && isManifest(e.Name()) {
			t.follow(filepath.Join(real, e.Name()))
		}
	}
}
