// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// hierarchy is one of cgroups: those of version 1 by their controllers, that of
// version 2 without any.
type hierarchy struct {
	// controllers as the kernel writes them: "cpu,cpuacct", "name=systemd".
	controllers string
	// path of the process's cgroup, from the hierarchy's root.
	path string
}

// ErrCgroups is returned where there are no cgroups that a kubelet can use.
var ErrCgroups = errors.New("no usable cgroups")

// needed are the controllers without which a kubelet does not start.
var needed = []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "devices"}

// CgroupParents lists the folders that nodes' cgroups are to be in, one in each
// hierarchy, called name.
func CgroupParents(name string) ([]string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("read own cgroups: %w", err)
	}
	list := parseCgroups(text)
	if len(list) == 1 && list[0].controllers == "" {
		// Version 2 alone: at the top, since only there processes and limits of
		// children may be in one cgroup (cgroups(7), no internal processes).
		if _, err := os.Stat(cgroupRoot + "/cgroup.controllers"); err != nil {
			return nil, fmt.Errorf("%w: %w; mount cgroup2 on %s", ErrCgroups, err, cgroupRoot)
		}
		return []string{filepath.Join(cgroupRoot, name)}, nil
	}
	var parents, there []string
	for _, h := range list {
		if h.controllers == "" {
			continue // beside version 1 it has no controllers that would be needed
		}
		top := filepath.Join(cgroupRoot, strings.TrimPrefix(h.controllers, "name="))
		if _, err := os.Stat(filepath.Join(top, "cgroup.procs")); err != nil {
			continue
		}
		there = append(there, strings.Split(h.controllers, ",")...)
		parents = append(parents, filepath.Join(top, h.path, name))
	}
	for _, c := range needed {
		if !slices.Contains(there, c) {
			return nil, fmt.Errorf("%w: controller %s is not mounted below %s; mount it, or boot with cgroup version 2", ErrCgroups, c, cgroupRoot)
		}
	}
	return parents, nil
}

// parseCgroups reads proc_pid_cgroup: lines of "ID:CONTROLLERS:PATH".
func parseCgroups(text []byte) []hierarchy {
	var list []hierarchy
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if fields := strings.SplitN(s.Text(), ":", 3); len(fields) == 3 {
			list = append(list, hierarchy{controllers: fields[1], path: fields[2]})
		}
	}
	return list
}

// MakeCgroup makes a cgroup whose children can have all controllers.
func MakeCgroup(dir string) error {
	if err := enableControllers(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := makeCgroup(dir); err != nil {
		return err
	}
	return enableControllers(dir)
}

func makeCgroup(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	// A new cpuset of version 1 has neither CPUs nor memory, and takes nobody.
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		set, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
		if err != nil {
			continue // not a cpuset, or version 2
		}
		if err := os.WriteFile(filepath.Join(dir, file), set, 0o644); err != nil && isVersion1(dir) {
			return fmt.Errorf("set up cgroup: %w", err)
		}
	}
	return nil
}

func isVersion1(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.controllers"))
	return err != nil
}

// enableControllers gives the children of a version 2 cgroup all controllers.
func enableControllers(dir string) error {
	if isVersion1(dir) {
		return nil
	}
	names, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("read controllers: %w", err)
	}
	var enable []string
	for _, c := range strings.Fields(string(names)) {
		enable = append(enable, "+"+c)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(strings.Join(enable, " ")), 0o644); err != nil {
		return fmt.Errorf("enable controllers: %w", err)
	}
	return nil
}

// enterCgroup makes a cgroup and moves this process into it.
func enterCgroup(dir string) error {
	if err := makeCgroup(dir); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("enter cgroup: %w", err)
	}
	return nil
}

// mountCgroups mounts below root what the process sees of each hierarchy.
func mountCgroups(root string) error {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return fmt.Errorf("read own cgroups: %w", err)
	}
	list := parseCgroups(text)
	if len(list) == 1 && list[0].controllers == "" {
		return mountCgroup2(root)
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", root, err)
	}
	for _, h := range list {
		name, fstype, options := strings.TrimPrefix(h.controllers, "name="), "cgroup", h.controllers
		switch {
		case h.controllers == "":
			name, fstype, options = "unified", "cgroup2", ""
		case strings.HasPrefix(h.controllers, "name="):
			options = "none," + h.controllers
		}
		target := filepath.Join(root, name)
		if err := mount(fstype, target, fstype, 0, options); err != nil {
			return err
		}
	}
	return nil
}

// mountCgroup2 mounts version 2, and moves this process out of the way: the
// node's own cgroup is to have children with controllers.
func mountCgroup2(root string) error {
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", root, err)
	}
	if err := enterCgroup(filepath.Join(root, "init")); err != nil {
		return err
	}
	return enableControllers(root)
}
