// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sysModule is the module's directory in sysfs (Documentation/ABI/testing/sysfs-module).
const sysModule = "/sys/module/" + Name

// Loaded is the module in the kernel.
type Loaded struct {
	BuiltIn    bool     `json:"builtIn,omitempty"`
	State      string   `json:"state"` // live, coming, going
	Version    string   `json:"version,omitempty"`
	SrcVersion string   `json:"srcversion,omitempty"`
	ABI        string   `json:"abi,omitempty"`
	Taint      string   `json:"taint,omitempty"`     // O: not of the kernel's own tree, E: not signed
	References int      `json:"references"`          // -1: this kernel does not count
	Holders    []string `json:"holders,omitempty"`   // modules that need it
	Processes  []string `json:"processes,omitempty"` // that have the device open: "netio-agent (4711)"
	Knets      []string `json:"knets,omitempty"`     // in this network namespace
	Device     bool     `json:"device"`              // /dev/netio is there
}

// Loaded looks for the module in the kernel; nil if it is not there. Its
// error is that of asking for knets.
func (s *System) Loaded(k *Running) (*Loaded, error) {
	builtIn := s.builtIn(k.Release)
	if !s.isDir(sysModule) && !builtIn {
		return nil, nil
	}
	l := &Loaded{
		State:   s.line(sysModule + "/initstate"),
		Version: s.line(sysModule + "/version"), SrcVersion: s.line(sysModule + "/srcversion"),
		ABI: s.line(sysModule + "/parameters/abi"), Taint: s.line(sysModule + "/taint"),
		References: s.references(), Device: s.exists(DeviceFile),
	}
	if l.State == "" {
		// Only modules that were loaded have the file.
		info := s.builtInInfo(k.Release)
		l.BuiltIn, l.State, l.References = true, "live", 0
		l.ABI, l.Version = first(l.ABI, info.ABI), first(l.Version, info.Version)
	}
	if held, err := os.ReadDir(s.path(sysModule + "/holders")); err == nil {
		for _, h := range held {
			l.Holders = append(l.Holders, h.Name())
		}
	}
	l.Processes = s.deviceUsers()
	var err error
	if l.Knets, err = s.Kernel.Knets(); err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	return l, nil
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// references is how often the module is in use: the file refcnt, or the third word of its line
// in /proc/modules. Neither is there if the kernel was built without CONFIG_MODULE_UNLOAD.
func (s *System) references() int {
	if n, err := strconv.Atoi(s.line(sysModule + "/refcnt")); err == nil {
		return n
	}
	for line := range strings.Lines(s.line("/proc/modules")) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == Name {
			if n, err := strconv.Atoi(f[2]); err == nil {
				return n
			}
		}
	}
	return -1
}

// deviceUsers are the processes that have the device open, as far as this one may see.
func (s *System) deviceUsers() []string {
	fds, _ := filepath.Glob(filepath.Join(s.Root, "proc/[0-9]*/fd/*"))
	var users []string
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != DeviceFile {
			continue
		}
		pid := filepath.Base(filepath.Dir(filepath.Dir(fd)))
		user := fmt.Sprintf("%s (%s)", first(s.line("/proc/"+pid+"/comm"), "?"), pid)
		if !slices.Contains(users, user) {
			users = append(users, user)
		}
	}
	return users
}

// completeABI takes the ABI from a file that was built from the same source, if
// the kernel does not tell it.
func (l *Loaded) completeABI(files ...*File) {
	for _, f := range files {
		if l.ABI == "" && same(l, f) {
			l.ABI = f.ABI
		}
	}
}

// same tells whether a file is what is loaded, by its srcversion: a hash of the source, which
// modpost writes, and which leaves out headers of other folders, the ABI's among them.
func same(l *Loaded, f *File) bool {
	return l.SrcVersion != "" && l.SrcVersion == f.SrcVersion && (l.ABI == "" || l.ABI == f.ABI)
}

// inUse tells what uses the module, nil if nothing does. Knets count: they would go with it.
func (l *Loaded) inUse() *Problem {
	var by, cure []string
	if len(l.Holders) > 0 {
		by = append(by, "by the modules "+strings.Join(l.Holders, ", "))
		cure = append(cure, "unload "+strings.Join(l.Holders, ", "))
	}
	if len(l.Processes) > 0 {
		by = append(by, "by "+strings.Join(l.Processes, ", "))
		cure = append(cure, "stop "+strings.Join(l.Processes, ", "))
	}
	if len(l.Knets) > 0 {
		by = append(by, "for the interfaces "+strings.Join(l.Knets, ", "))
		cure = append(cure, "remove the instances that they belong to")
	}
	if l.References <= 0 && len(by) == 0 {
		return nil
	}
	if len(by) == 0 {
		by = append(by, fmt.Sprintf("%d times, by knets of pods or instances without a process", l.References))
		cure = append(cure, "remove the pods from this node, and the instances")
	}
	return problem(InUse, strings.Join(cure, "; "), "the module is in use %s", strings.Join(by, "; "))
}
