// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoKernel says that a kernel series is not on this machine.
var ErrNoKernel = errors.New("kernel series is not there")

// Series is a kernel that hack/kernels.sh fetched or hack/debug-kernels.sh
// compiled. Fields are paths unless they say otherwise.
type Series struct {
	Name    string // as in hack/kernels.sh --list
	Release string // as in uname -r
	Image   string // what is booted
	Modules string // the folder with modules.dep; empty: all is built in
	UML     bool   // a User Mode Linux kernel: a program, with one CPU
	Debug   bool   // compiled to find mistakes, and slower
}

// cache is the folder that hack/kernels-env.sh calls kernels.
func cache() string {
	dir := os.Getenv("NETIO_CACHE")
	if dir == "" {
		base := os.Getenv("XDG_CACHE_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				home = "/root"
			}
			base = filepath.Join(home, ".cache")
		}
		dir = filepath.Join(base, "netio")
	}
	return filepath.Join(dir, "kernels")
}

// Find returns a kernel series, or ErrNoKernel.
func Find(name string) (Series, error) { return find(cache(), name) }

func find(cache, name string) (Series, error) {
	file := filepath.Join(cache, "series", name, "about")
	about, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return Series{}, fmt.Errorf("%w: %s; run `make vm-bootstrap` (or `make vm-kernels-debug` for a debug kernel)", ErrNoKernel, name)
	}
	if err != nil {
		return Series{}, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(about)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[key] = value
	}
	s := Series{
		Name: name, Release: fields["release"], Image: fields["image"], Modules: fields["modules"],
		UML: fields["arch"] == "um", Debug: fields["settings"] != "",
	}
	if s.Release == "" || s.Image == "" {
		return Series{}, fmt.Errorf("%s: no release or no image", file)
	}
	return s, nil
}
