// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Running is the kernel that runs.
type Running struct {
	Release    string  `json:"release"`              // uname -r
	Machine    string  `json:"machine"`              // uname -m
	Compiler   string  `json:"compiler,omitempty"`   // that it was built with, as it says itself
	ConfigFile string  `json:"configFile,omitempty"` // where its configuration was read; "" if none was found
	OS         Release `json:"os"`
	Config     Config  `json:"-"`
}

// Running looks at the kernel that runs. A configuration that is missing is no error;
// errors are those of uname and of a configuration that cannot be read.
func (s *System) Running() (*Running, error) {
	release, machine, err := s.Kernel.Uname()
	if err != nil {
		return nil, err
	}
	k := &Running{Release: release, Machine: machine, Compiler: compiler(s.line("/proc/version"))}
	for _, file := range []string{"/proc/config.gz", "/boot/config-" + release, "/lib/modules/" + release + "/config", "/lib/modules/" + release + "/build/.config"} {
		b, err := s.read(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			k.Config, err = ParseConfig(bytes.NewReader(b))
		}
		if err != nil {
			return nil, fmt.Errorf("read configuration of the kernel: %s: %w", file, err)
		}
		k.ConfigFile = file
		break
	}
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		b, err := s.read(file)
		if err != nil {
			continue
		}
		if k.OS, err = ParseRelease(bytes.NewReader(b)); err == nil {
			break
		}
	}
	return k, nil
}

// compiler is what /proc/version says of it: the second pair of parentheses,
// up to the linker. "Linux version 6.1.0 (who@where) (gcc-12 (Debian
// 12.2.0-14) 12.2.0, GNU ld ...) #1 SMP ...".
func compiler(version string) string {
	_, rest, ok := strings.Cut(version, ") (")
	if !ok {
		return ""
	}
	depth := 1
	for i, c := range rest {
		switch c {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return rest[:i]
			}
		case ',':
			if depth == 1 {
				return rest[:i]
			}
		}
	}
	return ""
}

// takesModules tells why the kernel takes no modules, nil if it does
// (Documentation/admin-guide/sysctl/kernel.rst, modules_disabled).
func (s *System) takesModules(k *Running) *Problem {
	if k.Config.Off("MODULES") {
		return problem(ModulesUnsupported, "boot a kernel with CONFIG_MODULES, or use the soft device",
			"kernel %s was built without loadable modules (CONFIG_MODULES is not set, says %s)", k.Release, k.ConfigFile)
	}
	if !s.exists("/proc/modules") {
		return problem(ModulesUnsupported, "boot a kernel with CONFIG_MODULES, or use the soft device",
			"kernel %s has no loadable modules (there is no /proc/modules)", k.Release)
	}
	if s.line("/proc/sys/kernel/modules_disabled") == "1" {
		why := "it cannot be turned on again; reboot, and load the module before something sets the sysctl"
		for _, word := range strings.Fields(s.line("/proc/cmdline")) {
			if word == "nomodule" {
				why = `boot without the parameter "nomodule"`
			}
		}
		return problem(ModulesDisabled, why+"; or use the soft device", "loading of modules is disabled until the next boot (kernel.modules_disabled is 1)")
	}
	return nil
}
