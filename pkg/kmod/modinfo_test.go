// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

func TestReadModInfo(t *testing.T) {
	b := module("depends=udp_tunnel,ip6_udp_tunnel", "version=1.2.3")
	got, err := ReadModInfo(bytes.NewReader(b), int64(len(b)))
	want := &ModInfo{Name: "netio", Version: "1.2.3", SrcVersion: "AAAA", Vermagic: "6.1.0-47-amd64 SMP preempt mod_unload modversions",
		ABI: wantABI, Depends: []string{"udp_tunnel", "ip6_udp_tunnel"}, Machine: elf.EM_X86_64}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(Signature{})); d != "" {
		t.Error(d)
	}
}

func TestReadModInfoWrong(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":      nil,
		"text":       []byte("#!/bin/sh\n"),
		"executable": object(elf.ET_EXEC, elf.EM_X86_64, ".modinfo", "name=netio\x00"),
		"no section": object(elf.ET_REL, elf.EM_X86_64, ".text", "name=netio\x00"),
		"no name":    module("name="),
		"too large":  object(elf.ET_REL, elf.EM_X86_64, ".modinfo", string(make([]byte, maxModInfo+1))),
		"cut short":  module()[:100],
	} {
		if _, err := ReadModInfo(bytes.NewReader(b), int64(len(b))); !errors.Is(err, ErrModule) {
			t.Errorf("%s: error %v, expected ErrModule", name, err)
		}
	}
}

// TestCompiled reads what a compiler makes of a module's declarations.
func TestCompiled(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("there is no gcc")
	}
	dir := t.TempDir()
	source, out := filepath.Join(dir, "x.c"), filepath.Join(dir, "netio.ko")
	text := `#define INFO(n, v) static const char info_##n[] __attribute__((section(".modinfo"), used, aligned(1))) = #n "=" v;
INFO(name, "netio") INFO(vermagic, "6.1.0 SMP ") INFO(netio_abi, "1.0") INFO(depends, "")
`
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command(gcc, "-c", "-o", out, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	m, err := ReadFile(out)
	if err != nil || m.Name != "netio" || m.ABI != "1.0" || m.Vermagic != "6.1.0 SMP" || len(m.Depends) != 0 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestPackedFiles(t *testing.T) {
	dir := t.TempDir()
	for ext, writer := range map[string]func(io.Writer) (io.WriteCloser, error){
		".gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		".xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		".zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	} {
		p := filepath.Join(dir, "netio.ko"+ext)
		if err := os.WriteFile(p, []byte(pack(t, module(), writer)), 0o644); err != nil {
			t.Fatal(err)
		}
		if m, err := ReadFile(p); err != nil || m.ABI != wantABI {
			t.Errorf("%s: %+v, %v", ext, m, err)
		}
		if err := os.WriteFile(p, []byte("garbage, not packed"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadFile(p); err == nil {
			t.Errorf("%s: garbage was read", ext)
		}
		if moduleName(p) != Name {
			t.Errorf("%s: module name %q", ext, moduleName(p))
		}
	}
}

func FuzzModInfo(f *testing.F) {
	f.Add(module())
	f.Add(module("vermagic="))
	f.Add(append(module(), trailer(10)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ReadModInfo(bytes.NewReader(b), int64(len(b)))
		if (m == nil) == (err == nil) {
			t.Errorf("%v, %v", m, err)
		}
		if m != nil {
			file := File{ModInfo: *m}
			if file.judge(&Running{Release: testRelease, Machine: "x86_64"}, ""); file.Fits && !abiServes(m.ABI) {
				t.Errorf("%+v fits", m)
			}
		}
	})
}
