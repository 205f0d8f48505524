// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// CommonModules are those of a kernel that NetIO and its tests may use: what
// pods are made of, what NetIO is compared with, and the wire between machines.
var CommonModules = []string{
	"virtio_pci", "virtio_net",
	"tun", "veth", "bridge", "br_netfilter", "dummy", "8021q", "pktgen",
	"nf_tables", "nf_conntrack", "nf_nat", "nft_ct", "nft_counter", "nft_chain_nat", "nft_nat", "nft_masq", "nft_reject_inet",
	"sch_ingress", "cls_bpf", "act_bpf",
}

// dependencies of modules, by name: what depmod found out.
type dependencies map[string]dependency

type dependency struct {
	path  string   // below the folder of modules.dep
	needs []string // names
}

// moduleName of a file: the kernel does not tell - from _.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// readDependencies reads modules.dep, and adds to it what modules ask the kernel
// for at run time (modules.softdep): libcrc32c, and by it nf_tables, needs
// any module that calls itself crc32c (modules.alias).
func readDependencies(dir string) (dependencies, error) {
	var texts [3]string
	for i, name := range []string{"modules.dep", "modules.softdep", "modules.alias"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		texts[i] = string(text)
	}
	return parseDependencies(texts[0], texts[1], texts[2]), nil
}

func parseDependencies(dep, softdep, alias string) dependencies {
	all := dependencies{}
	for line := range strings.Lines(dep) {
		path, needs, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		d := dependency{path: path}
		// modules.dep has those that are needed first last.
		for _, need := range slices.Backward(strings.Fields(needs)) {
			d.needs = append(d.needs, moduleName(need))
		}
		all[moduleName(path)] = d
	}

	aliases := map[string][]string{}
	for line := range strings.Lines(alias) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			aliases[f[1]] = append(aliases[f[1]], f[2])
		}
	}
	for line := range strings.Lines(softdep) {
		before, _, _ := strings.Cut(line, "post:")
		f := strings.Fields(before)
		if len(f) < 4 || f[0] != "softdep" || f[2] != "pre:" {
			continue
		}
		name := moduleName(f[1])
		d, ok := all[name]
		if !ok {
			continue
		}
		for _, need := range f[3:] {
			d.needs = slices.Concat(aliases[need], []string{need}, d.needs)
		}
		all[name] = d
	}
	return all
}

// order returns the files of the modules named, after those that they need.
// What is not a module of this kernel is built into it, or it does without:
// that shows when it is used.
func (all dependencies) order(names []string) []string {
	var paths []string
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		name = moduleName(name)
		d, ok := all[name]
		if !ok || seen[name] {
			return
		}
		seen[name] = true
		for _, need := range d.needs {
			visit(need)
		}
		paths = append(paths, d.path)
	}
	for _, name := range names {
		visit(name)
	}
	return paths
}

// readModule returns a module as the kernel loads it.
func readModule(file string) ([]byte, error) {
	var unpack *exec.Cmd
	switch filepath.Ext(file) {
	case ".xz":
		unpack = exec.Command("xz", "-dc", file)
	case ".zst":
		unpack = exec.Command("zstd", "-qdc", file)
	default:
		return os.ReadFile(file)
	}
	content, err := unpack.Output()
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", file, err)
	}
	return content, nil
}
