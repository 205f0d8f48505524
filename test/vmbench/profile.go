// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"netio.dev/netio/test/vm"
)

// symbol is where a function begins.
type symbol struct {
	address uint64
	name    string
}

// symbols are sorted.
type symbols []symbol

// shared is what is not in a program of ours: the kernel maps its own code, such as
// that of the clock, far above them.
const shared = 1 << 32

// find returns the function that an address is in.
func (s symbols) find(address uint64) string {
	if address>>63 == 0 && address >= shared {
		return "[vdso]"
	}
	i, exact := slices.BinarySearchFunc(s, address, func(s symbol, a uint64) int { return cmp.Compare(s.address, a) })
	if !exact {
		i--
	}
	if i < 0 {
		return "?"
	}
	return s[i].name
}

func (s symbols) sort() {
	slices.SortStableFunc(s, func(a, b symbol) int { return cmp.Compare(a.address, b.address) })
}

// kernelSymbols asks the machine.
func kernelSymbols(ctx context.Context, m *vm.Machine) (symbols, error) {
	r, err := m.Run(ctx, vm.Command{Args: []string{guestPath, "symbols"}})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return nil, err
	}
	text, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(r.Output)))
	if err != nil {
		return nil, err
	}
	var all symbols
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		word, name, _ := strings.Cut(lines.Text(), " ")
		address, err := strconv.ParseUint(word, 16, 64)
		if err != nil {
			return nil, err
		}
		all = append(all, symbol{address, name})
	}
	all.sort()
	return all, lines.Err()
}

// programSymbols reads those of static programs that are linked to addresses of
// their own.
func programSymbols(paths ...string) (all symbols, err error) {
	for _, path := range paths {
		f, err := elf.Open(path)
		if err != nil {
			return nil, err
		}
		list, err := f.Symbols()
		err = errors.Join(err, f.Close())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, s := range list {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
				all = append(all, symbol{s.Value, filepath.Base(path) + ": " + s.Name})
			}
		}
	}
	all.sort()
	return all, nil
}

// agent is the program whose worker forwards.
const agent = "netio-agent"

// profile is the instructions of a window by function: "NAME [MODULE]" or
// "PROGRAM: NAME".
type profile map[string]uint64

func (p profile) sum(chosen func(name string) bool) float64 {
	sum := uint64(0)
	for name, n := range p {
		if chosen(name) {
			sum += n
		}
	}
	return float64(sum)
}

func (o options) profiles(ctx context.Context, m *vm.Machine, windows []window) ([]profile, error) {
	kernel, err := kernelSymbols(ctx, m)
	if err != nil {
		return nil, err
	}
	programs, err := programSymbols(filepath.Join(o.build, "guest"), filepath.Join(o.bin, agent))
	if err != nil {
		return nil, err
	}
	var all []profile
	for _, w := range windows {
		p := profile{}
		for address, n := range w.at {
			if address>>63 != 0 {
				p[kernel.find(address)] += n
			} else {
				p[programs.find(address)] += n
			}
		}
		all = append(all, p)
	}
	return all, nil
}

func writeProfiles(file string, all []measured, profiles []profile) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for i, p := range profiles {
		if err := p.print(f, all[i]); err != nil {
			return err
		}
	}
	return nil
}

func (p profile) print(out io.Writer, r measured) error {
	names := slices.SortedFunc(maps.Keys(p), func(a, b string) int { return cmp.Or(cmp.Compare(p[b], p[a]), cmp.Compare(a, b)) })
	_, err := fmt.Fprintf(out, "%s %s: %.1f instructions a unit\n", r.Topology, r.Phase, p.sum(func(string) bool { return true })/r.Units)
	for _, name := range names {
		if each := float64(p[name]) / r.Units; each >= 0.5 && err == nil {
			_, err = fmt.Fprintf(out, "%10.1f  %s\n", each, name)
		}
	}
	return err
}
