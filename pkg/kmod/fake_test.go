// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	testRelease  = "6.1.0-47-amd64"
	testVermagic = testRelease + " SMP preempt mod_unload modversions "
)

// machine is a fake system: files in a temporary directory, and a kernel that does to
// /sys/module what the real one does.
type machine struct {
	*System
	t        *testing.T
	release  string
	loadErr  error
	log      string // what a load adds to the kernel's log
	logged   string
	knets    []string
	abi      string // what a loaded module says in sysfs, instead of the file's
	noABI    bool   // it says nothing there
	calls    []string
	unloaded error
	idle     map[string]bool // instances that EndIdle ends
}

// newMachine has what every kernel with modules has, and then these files: by
// path; a value that begins with "->" is a link.
func newMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{t: t, release: testRelease}
	m.System = &System{Root: t.TempDir(), Kernel: m}
	m.files(map[string]string{
		"/proc/modules":     "",
		"/proc/version":     "Linux version 6.1.0-47-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2026-05-01)\n",
		"/proc/self/status": "Name:\tx\nCapEff:\t000001ffffffffff\n",
		"/etc/os-release":   "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"/sys/firmware/x":   "",
		"/sys/module/module/parameters/sig_enforce": "N\n",
		"/dev/netio": "",
	})
	m.files(files)
	return m
}

func (m *machine) files(files map[string]string) {
	m.t.Helper()
	for name, content := range files {
		p := filepath.Join(m.Root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			m.t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			if err := os.Symlink(target, p); err != nil {
				m.t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
}

// loadedFiles are those of a loaded module.
func loadedFiles(abi, srcversion, refcnt string) map[string]string {
	files := map[string]string{
		sysModule + "/initstate": "live\n", sysModule + "/version": "1.0.0\n",
		sysModule + "/srcversion": srcversion + "\n", sysModule + "/refcnt": refcnt + "\n", sysModule + "/taint": "OE\n",
	}
	if abi != "" {
		files[sysModule+"/parameters/abi"] = abi + "\n"
	}
	return files
}

func (m *machine) Uname() (release, machine string, err error) { return m.release, "x86_64", nil }

func (m *machine) Load(f *os.File, params string) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	info, err := ReadModInfo(f, fi.Size())
	if err != nil {
		return err
	}
	m.calls = append(m.calls, strings.TrimSpace("load "+info.Name+" "+params))
	if m.loadErr != nil {
		m.logged += m.log
		return m.loadErr
	}
	if info.Name != Name {
		m.files(map[string]string{"/sys/module/" + info.Name + "/initstate": "live\n"})
		return nil
	}
	abi := info.ABI
	if m.abi != "" {
		abi = m.abi
	}
	if m.noABI {
		abi = ""
	}
	m.files(loadedFiles(abi, info.SrcVersion, "0"))
	return nil
}

func (m *machine) Unload(name string) error {
	m.calls = append(m.calls, "unload "+name)
	if m.unloaded != nil {
		return m.unloaded
	}
	return os.RemoveAll(filepath.Join(m.Root, sysModule))
}

func (m *machine) Log() (string, error) { return m.logged, nil }
func (m *machine) EndIdle(device, instance string) (bool, error) {
	m.calls = append(m.calls, "end "+instance)
	if m.idle[instance] {
		m.files(map[string]string{sysModule + "/refcnt": "0\n"})
		m.knets = nil
	}
	return m.idle[instance], nil
}

func (m *machine) Knets() ([]string, error) { return m.knets, nil }

// own are the options with their paths in the machine's directory.
func (m *machine) own(in Load) Load {
	m.ownPath(&in.Search.File)
	m.ownPath(&in.Search.Cache)
	for i := range in.Search.Dirs {
		m.ownPath(&in.Search.Dirs[i])
	}
	if in.Build != nil {
		b := *in.Build
		m.ownPath(&b.Source)
		m.ownPath(&b.Cache)
		in.Build = &b
	}
	return in
}

func (m *machine) ownPath(path *string) {
	if *path != "" {
		*path = filepath.Join(m.Root, *path)
	}
}

func (m *machine) called() string { return strings.Join(m.calls, ", ") }

func (m *machine) running() *Running {
	m.t.Helper()
	k, err := m.Running()
	if err != nil {
		m.t.Fatal(err)
	}
	return k
}

// module is a module with these fields in its .modinfo, over the usual ones; an
// empty value removes a field.
func module(fields ...string) []byte {
	all := map[string]string{"name": Name, "version": "1.0.0", "vermagic": testVermagic, "netio_abi": wantABI, "srcversion": "AAAA", "license": "GPL"}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, "=")
		all[name] = value
	}
	var names []string
	for name, value := range all {
		if value != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var info strings.Builder
	for _, name := range names {
		fmt.Fprintf(&info, "%s=%s\x00", name, all[name])
	}
	return object(elf.ET_REL, elf.EM_X86_64, ".modinfo", info.String())
}

// object is an ELF file with one section, beside that of the section names.
func object(kind elf.Type, machine elf.Machine, section, content string) []byte {
	const header, entry = 64, 64
	names := "\x00" + section + "\x00.shstrtab\x00"
	at := uint64(header)
	h := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(kind), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Shoff: at + uint64(len(content)+len(names)), Ehsize: header, Shentsize: entry, Shnum: 3, Shstrndx: 2,
	}
	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put(h)
	b.WriteString(content)
	b.WriteString(names)
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_PROGBITS), Flags: uint64(elf.SHF_ALLOC), Off: at, Size: uint64(len(content)), Addralign: 1})
	put(elf.Section64{Name: uint32(2 + len(section)), Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(content)), Size: uint64(len(names)), Addralign: 1})
	return b.Bytes()
}

// pack compresses.
func pack(t *testing.T, data []byte, writer func(io.Writer) (io.WriteCloser, error)) string {
	t.Helper()
	var b bytes.Buffer
	w, err := writer(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
