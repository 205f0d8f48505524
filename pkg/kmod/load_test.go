// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoad(t *testing.T) {
	fits := map[string]string{updates: string(module("srcversion=BBBB", "parmtype=deadman_ms:uint\x00parmtype=name:charp"))}
	tests := []struct {
		name   string
		files  map[string]string
		change func(*machine)
		load   Load
		action string
		calls  string
		reason Reason // of the Problem
		says   string // in error or notes
	}{
		{name: "from /lib/modules", files: fits, action: "loaded", calls: "load netio"},
		{name: "parameters", files: fits, load: Load{Params: []string{"deadman_ms=5", "name=a b"}}, action: "loaded", calls: `load netio deadman_ms=5 name="a b"`},
		{name: "unknown parameter", files: fits, load: Load{Params: []string{"dead=5"}}, reason: WrongParameter, says: "its parameters: deadman_ms, name"},
		{name: "no parameters", files: map[string]string{updates: string(module())}, load: Load{Params: []string{"dead=5"}}, reason: WrongParameter, says: "its parameters: none"},
		{name: "wrong parameter", files: fits, load: Load{Params: []string{"deadman"}}, says: "expected name=value"},
		{name: "a quote", files: fits, load: Load{Params: []string{`x="y`}}, says: "quotes"},
		{name: "file", files: merge(fits, map[string]string{"/opt/netio.ko": string(module())}), load: Load{Search: Search{File: "/opt/netio.ko"}}, action: "loaded", calls: "load netio"},
		{name: "file not there", files: fits, load: Load{Search: Search{File: "/opt/netio.ko"}}, says: "no such file"},
		{name: "folder by release", files: map[string]string{"/opt/k/" + testRelease + "/netio.ko": string(module()), "/opt/k/5.10/netio.ko": string(module("vermagic=5.10 SMP "))}, load: Load{Search: Search{Dirs: []string{"/opt/k"}}}, action: "loaded", calls: "load netio"},
		{name: "nothing there", reason: NoModule, says: "kmod load --build"},
		{name: "kept", files: merge(fits, loadedFiles(wantABI, "AAAA", "0")), action: "kept"},
		{name: "kept, parameters", files: merge(fits, loadedFiles(wantABI, "AAAA", "0")), load: Load{Params: []string{"a=1"}}, action: "kept", says: "not applied"},
		{name: "kept though modules are disabled now", files: merge(fits, loadedFiles(wantABI, "AAAA", "0"), map[string]string{"/proc/sys/kernel/modules_disabled": "1"}), action: "kept"},
		{name: "replaced on demand", files: merge(fits, loadedFiles(wantABI, "AAAA", "0")), load: Load{Replace: true}, action: "replaced", calls: "unload netio, load netio"},
		{name: "the same is not replaced", files: merge(fits, loadedFiles(wantABI, "BBBB", "0")), load: Load{Replace: true}, action: "kept", says: "is the one that is loaded"},
		{name: "the same source but for the ABI's header", files: merge(fits, loadedFiles("2.0", "BBBB", "0")), action: "replaced", calls: "unload netio, load netio"},
		{name: "in use, not replaced", files: merge(fits, loadedFiles(wantABI, "AAAA", "2")), load: Load{Replace: true}, action: "kept", says: "not replaced: the module is in use"},
		{name: "other ABI, idle", files: merge(fits, loadedFiles("2.0", "AAAA", "0")), action: "replaced", calls: "unload netio, load netio"},
		{name: "other ABI, in use", files: merge(fits, loadedFiles("2.0", "AAAA", "1")), reason: InUse, says: "has ABI 2.0, this program needs 1.1"},
		{name: "other ABI, knets", files: merge(fits, loadedFiles("2.0", "AAAA", "0")), change: func(m *machine) { m.knets = []string{"netio0"} }, reason: InUse, says: "for the interfaces netio0"},
		{name: "other ABI, came into use", files: merge(fits, loadedFiles("2.0", "AAAA", "0")), change: func(m *machine) { m.unloaded = unix.EWOULDBLOCK }, calls: "unload netio", reason: InUse, says: "try again"},
		{name: "other ABI, nothing in its place", files: loadedFiles("2.0", "AAAA", "0"), reason: NoModule},
		{name: "other ABI, unsigned in its place", files: merge(fits, loadedFiles("2.0", "AAAA", "0"), map[string]string{"/sys/module/module/parameters/sig_enforce": "Y"}), reason: KeyRejected, says: "the loaded module stays"},
		{name: "built in", files: merge(fits, map[string]string{"/lib/modules/" + testRelease + "/modules.builtin": "kernel/net/netio.ko\n"}), reason: BuiltIn},
		{name: "disabled", files: merge(fits, map[string]string{"/proc/sys/kernel/modules_disabled": "1"}), reason: ModulesDisabled},
		{name: "no ABI in sysfs", files: fits, change: func(m *machine) { m.noABI = true }, action: "loaded", calls: "load netio"},
		{name: "no ABI in sysfs, loaded before", files: merge(fits, loadedFiles("", "BBBB", "1")), action: "kept"},
		{name: "no ABI in sysfs, another", files: merge(fits, loadedFiles("", "AAAA", "1")), reason: InUse, says: "has no ABI version"},
		{name: "file lies", files: fits, change: func(m *machine) { m.abi = "3.0" }, calls: "load netio, unload netio", reason: WrongABI, says: "unloaded again"},
		{name: "somebody was faster", files: merge(fits), change: func(m *machine) {
			m.loadErr = unix.EEXIST
			m.files(map[string]string{sysModule + "/initstate": "live", sysModule + "/refcnt": "0", sysModule + "/parameters/abi": "2.0"})
		}, calls: "unload netio, load netio", reason: LoadFailed},
		{name: "dependencies", files: map[string]string{
			updates: string(module("depends=udp_tunnel,ip6_tunnel")), "/sys/module/ip6_tunnel/initstate": "live",
			"/lib/modules/" + testRelease + "/modules.dep":              "kernel/net/udp_tunnel.ko: kernel/net/base.ko\nkernel/net/base.ko:\n",
			"/lib/modules/" + testRelease + "/kernel/net/udp_tunnel.ko": string(module("name=udp_tunnel")), "/lib/modules/" + testRelease + "/kernel/net/base.ko": string(module("name=base")),
		}, action: "loaded", calls: "load base, load udp_tunnel, load netio"},
		{name: "dependency not there", files: map[string]string{updates: string(module("depends=udp_tunnel")), "/lib/modules/" + testRelease + "/modules.dep": ""}, reason: UnknownSymbol, says: "modprobe udp_tunnel"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, nil)
			m.files(tt.files)
			if tt.change != nil {
				tt.change(m)
			}
			res, err := m.LoadModule(context.Background(), m.running(), m.own(tt.load))
			said := ""
			if res != nil {
				said = strings.Join(res.Notes, "\n")
			}
			if err != nil {
				said = err.Error()
			}
			if (err == nil) != (tt.action != "") || err == nil && res.Action != tt.action {
				t.Errorf("%+v, %v; expected %q", res, err, tt.action)
			}
			var p *Problem
			if errors.As(err, &p) != (tt.reason != "") || p != nil && p.Reason != tt.reason {
				t.Errorf("%#v, expected %q", err, tt.reason)
			}
			if !strings.Contains(said, tt.says) {
				t.Errorf("said %q, expected %q in it", said, tt.says)
			}
			if m.called() != tt.calls {
				t.Errorf("called %q, expected %q", m.called(), tt.calls)
			}
			if err == nil && !abiServes(res.ABI) {
				t.Errorf("ABI %q", res.ABI)
			}
		})
	}
}

// TestLoadRefused has every errno of finit_module in words.
func TestLoadRefused(t *testing.T) {
	user := map[string]string{"/proc/self/status": "CapEff:\t0000000000000000\n"}
	locked := map[string]string{"/sys/kernel/security/lockdown": "none integrity [confidentiality]\n", "/sys/firmware/efi/x": ""}
	tests := []struct {
		errno  error
		files  map[string]string
		log    string
		reason Reason
		says   []string
	}{
		{unix.EPERM, user, "", NoPermission, []string{"CAP_SYS_MODULE", "privileged"}},
		{unix.EPERM, locked, "[    5.0] Lockdown: netio-agent: unsigned module loading is restricted; see man kernel_lockdown.7\n", Lockdown,
			[]string{"locked down (confidentiality)", "it is not signed", "whether secure boot is on is unknown", "unsigned module loading is restricted"}},
		{unix.EPERM, nil, "", NoPermission, []string{"LoadPin", "seccomp"}},
		{unix.EACCES, nil, "", NoPermission, []string{"SELinux"}},
		{unix.EKEYREJECTED, nil, "[    5.0] Loading of unsigned module is rejected\n", KeyRejected, []string{"signed by a key that it trusts", "secure boot is off", "Loading of unsigned module is rejected"}},
		{unix.ENOKEY, map[string]string{"/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\x06\x00\x00\x00\x01"}, "", KeyRejected, []string{"secure boot is on", "mokutil --import CERT"}},
		{unix.EBADMSG, nil, "", KeyRejected, []string{"sign it anew"}},
		{unix.ENOEXEC, nil, "[    5.0] netio: version magic 'x' should be 'y'\n", WrongKernel, []string{"vermagic", "should be 'y'", "kmod build"}},
		{unix.EINVAL, nil, "[    5.0] netio: `x' invalid for parameter `lanes'\n", WrongParameter, []string{"invalid for parameter"}},
		{unix.EINVAL, nil, "[    5.0] netio: disagrees about version of symbol module_layout\n", WrongKernel, []string{"symbols of kernel", "disagrees about version"}},
		{unix.ENOENT, nil, "[    4.0] netio: old line\n[    5.0] netio: Unknown symbol skb_frobnicate (err -2)\n", UnknownSymbol, []string{"Unknown symbol skb_frobnicate"}},
		{unix.ENOSYS, nil, "", ModulesUnsupported, []string{"soft device"}},
		{unix.EBUSY, nil, "", LoadFailed, []string{"try again"}},
		{unix.ENOMEM, nil, "", LoadFailed, []string{"memory"}},
		{unix.ENODEV, nil, "", LoadFailed, []string{"does not start", "dmesg"}},
	}
	for _, tt := range tests {
		t.Run(tt.errno.Error(), func(t *testing.T) {
			m := newMachine(t, map[string]string{updates: string(module())})
			m.files(tt.files)
			m.loadErr, m.log, m.logged = tt.errno, tt.log, "[    1.0] Linux version 6.1\n[    2.0] netio: from before\n"
			_, err := m.LoadModule(context.Background(), m.running(), Load{})
			var p *Problem
			if !errors.As(err, &p) || p.Reason != tt.reason || !errors.Is(err, tt.errno) {
				t.Fatalf("%#v, expected %s", err, tt.reason)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q is not in %q", s, err)
				}
			}
			if strings.Contains(err.Error(), "from before") {
				t.Errorf("old lines of the log: %q", err)
			}
		})
	}
}

func TestUnload(t *testing.T) {
	tests := []struct {
		name   string
		files  map[string]string
		errno  error
		knets  []string
		was    bool
		reason Reason
		says   string
	}{
		{name: "not loaded"},
		{name: "idle", files: loadedFiles(wantABI, "A", "0"), was: true},
		{name: "references", files: loadedFiles(wantABI, "A", "4"), reason: InUse, says: "in use 4 times"},
		{name: "references, by /proc/modules", files: map[string]string{sysModule + "/initstate": "live", "/proc/modules": "tun 57344 0 - Live 0x0\nnetio 98304 2 netio_virtio, Live 0x0 (OE)\n"}, reason: InUse, says: "2 times"},
		{name: "uncounted", files: map[string]string{sysModule + "/initstate": "live", "/proc/modules": "netio 98304 - - Live 0x0 (OE)\n"}, errno: unix.ENOSYS, reason: ModulesUnsupported, says: "CONFIG_MODULE_UNLOAD"},
		{name: "knets", files: loadedFiles(wantABI, "A", "0"), knets: []string{"netio0"}, reason: InUse, says: "netio0"},
		{name: "used in the meantime", files: loadedFiles(wantABI, "A", "0"), errno: unix.EWOULDBLOCK, reason: InUse, says: "try again"},
		{name: "no capability", files: merge(loadedFiles(wantABI, "A", "0"), map[string]string{"/proc/self/status": ""}), errno: unix.EPERM, reason: NoPermission, says: "CAP_SYS_MODULE"},
		{name: "gone in the meantime", files: loadedFiles(wantABI, "A", "0"), errno: unix.ENOENT, was: true},
		{name: "built in", files: map[string]string{"/lib/modules/" + testRelease + "/modules.builtin": "kernel/net/netio.ko\n"}, reason: BuiltIn},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, nil)
			m.files(tt.files)
			m.unloaded, m.knets = tt.errno, tt.knets
			was, err := m.UnloadModule(m.running())
			var p *Problem
			if errors.As(err, &p) != (tt.reason != "") || p != nil && (p.Reason != tt.reason || !strings.Contains(p.Error(), tt.says)) {
				t.Fatalf("%v, expected %s %q", err, tt.reason, tt.says)
			}
			if err == nil && was != tt.was {
				t.Errorf("was loaded: %v", was)
			}
		})
	}
}

func TestBuild(t *testing.T) {
	key, _ := testKey(t)
	newBuilder := func(t *testing.T) *machine {
		m := newMachine(t, nil)
		m.files(headersFiles())
		m.files(map[string]string{"/prepared/netio.ko": string(module())})
		return m
	}
	in := Build{Version: "v1.0.0", Cache: "/var/cache/netio/kmod"}
	ctx := context.Background()

	m := newBuilder(t)
	k := m.running()
	first, err := m.BuildModule(ctx, k, *m.own(Load{Build: &in}).Build)
	if err != nil || first.Cached {
		t.Fatalf("%+v, %v", first, err)
	}
	again, err := m.BuildModule(ctx, k, *m.own(Load{Build: &in}).Build)
	if err != nil || !again.Cached || again.Path != first.Path {
		t.Errorf("a second time: %+v, %v", again, err)
	}
	in.Key = key
	signed, err := m.BuildModule(ctx, k, *m.own(Load{Build: &in}).Build)
	if err != nil || signed.Path == first.Path {
		t.Fatalf("signed: %+v, %v", signed, err)
	}
	if info, err := ReadFile(signed.Path); err != nil || info.Signature == nil || !strings.Contains(signed.Path, "sha512") {
		t.Errorf("signed: %s: %+v, %v", signed.Path, info, err)
	}
	in.Key = nil
	m.files(map[string]string{"/usr/src/netio-1.0.0/netio.c": "/* changed */\n"})
	changed, err := m.BuildModule(ctx, k, *m.own(Load{Build: &in}).Build)
	if err != nil || changed.Cached || changed.Path == first.Path {
		t.Errorf("changed source: %+v, %v", changed, err)
	}
	m.files(map[string]string{"/usr/src/netio-1.0.0/netio.o": "object"})
	if again, err := m.BuildModule(ctx, k, *m.own(Load{Build: &in}).Build); err != nil || !again.Cached {
		t.Errorf("an object file in the source: %+v, %v", again, err)
	}
	left, _ := os.ReadDir(filepath.Join(m.Root, "var/cache/netio/kmod", testRelease))
	var names []string
	for _, e := range left {
		if strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	if len(names) != 0 {
		t.Errorf("left in the cache: %v", names)
	}
	res, err := m.LoadModule(ctx, k, m.own(Load{Search: Search{Cache: in.Cache}}))
	if err != nil || res.Action != "loaded" || !strings.Contains(res.Path, "/var/cache") {
		t.Errorf("load from the cache: %+v, %v", res, err)
	}

	m = newBuilder(t)
	res, err = m.LoadModule(ctx, m.running(), m.own(Load{Search: Search{Cache: in.Cache}, Build: &in}))
	if err != nil || res.Built == nil || m.called() != "load netio" {
		t.Errorf("build and load: %+v, %v, %s", res, err, m.called())
	}

	m = newBuilder(t)
	m.files(map[string]string{"/prepared/netio.ko": string(module("netio_abi=0.1"))})
	if _, err = m.LoadModule(ctx, m.running(), m.own(Load{Build: &in})); reasonOf(err) != WrongABI {
		t.Errorf("source of another version: %v", err)
	}
}

func reasonOf(err error) Reason {
	var p *Problem
	if errors.As(err, &p) {
		return p.Reason
	}
	return ""
}

func TestBuildFails(t *testing.T) {
	tests := []struct {
		name   string
		files  map[string]string
		in     Build
		reason Reason
		says   string
	}{
		{"make fails", map[string]string{testHeaders + "/Makefile": "modules:\n\t@echo 'netio.c:3:1: error: unknown type name foo' >&2; false\n"}, Build{}, BuildFailed, "netio.c:3:1: error: unknown type name foo"},
		{"make makes nothing", map[string]string{testHeaders + "/Makefile": "modules:\n\ttrue\n"}, Build{}, BuildFailed, "no module"},
		{"other headers", map[string]string{testHeaders + "/" + utsRelease: "#define UTS_RELEASE \"6.1.0-46-amd64\"\n"}, Build{}, NoHeaders, "is for kernel 6.1.0-46-amd64"},
		{"no compiler", nil, Build{CC: "gcc-of-nobody"}, NoToolchain, "apt-get install gcc-of-nobody"},
		{"no source", nil, Build{Source: "/none"}, NoSource, "--source"},
		{"no Kbuild", map[string]string{"/src/x.c": ""}, Build{Source: "/src"}, NoSource, "neither Kbuild nor Makefile"},
		{"cache is a file", map[string]string{"/var/cache/netio": "x"}, Build{}, "", "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, nil)
			m.files(headersFiles())
			m.files(tt.files)
			tt.in.Version = "1.0.0"
			if tt.in.Cache == "" {
				tt.in.Cache = DefaultCache
			}
			_, err := m.BuildModule(context.Background(), m.running(), *m.own(Load{Build: &tt.in}).Build)
			if err == nil || reasonOf(err) != tt.reason || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, expected %s %q", err, tt.reason, tt.says)
			}
		})
	}
}

func TestExplainWrite(t *testing.T) {
	for _, tt := range []struct {
		errno  error
		reason Reason
		says   string
	}{
		{unix.EROFS, ReadOnly, "read-only file system"},
		{unix.EACCES, ReadOnly, "be root"},
		{unix.ENOSPC, ReadOnly, "full"},
		{unix.EIO, "", "input/output error"},
	} {
		err := explainWrite(&os.PathError{Op: "mkdir", Path: "/x", Err: tt.errno}, "/x")
		if reasonOf(err) != tt.reason || !errors.Is(err, tt.errno) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v: %v", tt.errno, err)
		}
	}
}

// TestBuildReal builds a module against headers that are installed, for a kernel that need
// not be running.
func TestBuildReal(t *testing.T) {
	found, _ := filepath.Glob("/lib/modules/*/build/" + utsRelease)
	if len(found) == 0 {
		t.Skip("there are no kernel headers")
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	release := parseUTSRelease(string(text))
	src := t.TempDir()
	for name, text := range map[string]string{"Kbuild": "obj-m := netio.o\n", "netio.c": `#include <linux/module.h>
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0.0");
MODULE_INFO(netio_abi, "1.1");
`} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := Host("/")
	key, _ := testKey(t)
	k := &Running{Release: release, Machine: "x86_64"}
	built, err := s.BuildModule(context.Background(), k, Build{Source: src, Cache: t.TempDir(), Key: key})
	if reasonOf(err) == NoToolchain {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := s.Files(k, Search{File: built.Path})
	if err != nil || len(files) != 1 || files[0].Version != "1.0.0" || files[0].Signature == nil {
		t.Fatalf("%+v, %v", files, err)
	}
	if f := files[0]; f.why == WrongKernel || f.ABI != "1.1" {
		t.Errorf("it does not fit: %+v", f)
	}
}

func TestToolchain(t *testing.T) {
	k := &Running{OS: Release{ID: "fedora"}}
	gcc12 := Config{"CC_IS_GCC": "y", "GCC_VERSION": "120200", "CC_VERSION_TEXT": "x86_64-linux-gnu-gcc-12 (Ubuntu) 12.2.0"}
	clang16 := Config{"CC_IS_CLANG": "y", "CLANG_VERSION": "160000", "CC_VERSION_TEXT": "Debian clang version 16.0.6"}
	tests := []struct {
		name   string
		config Config
		have   string
		cc     string
		args   string
		err    string
		note   bool
	}{
		{"the kernel's", gcc12, "make ld gcc gcc-12", "", "CC=gcc-12", "", false},
		{"by its full name", gcc12, "make ld gcc x86_64-linux-gnu-gcc-12", "", "CC=x86_64-linux-gnu-gcc-12", "", false},
		{"another", gcc12, "make ld gcc", "", "CC=gcc", "", true},
		{"given", gcc12, "make ld gcc gcc-13", "gcc-13", "CC=gcc-13", "", false},
		{"none", gcc12, "ld", "", "", "dnf install make gcc-12", false},
		{"no linker", gcc12, "make gcc-12", "", "", "dnf install binutils", false},
		{"clang", clang16, "make clang-16", "", "LLVM=-16", "", false},
		{"another clang", clang16, "make clang", "", "LLVM=1", "", true},
		{"clang by path", clang16, "make /opt/llvm/bin/clang", "/opt/llvm/bin/clang", "LLVM=/opt/llvm/bin/", "", false},
		{"no clang", clang16, "make ld gcc", "", "", "clang-16", false},
		{"unknown", Config{}, "make ld gcc", "", "CC=gcc", "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tools, err := findToolchain(k, &Headers{config: tt.config}, tt.cc, func(p string) (string, error) {
				if slices.Contains(strings.Fields(tt.have), p) {
					return p, nil
				}
				return "", os.ErrNotExist
			})
			if tt.err != "" {
				if reasonOf(err) != NoToolchain || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("%v, expected %q", err, tt.err)
				}
				return
			}
			if err != nil || strings.Join(tools.Args, " ") != tt.args || (tools.Note != "") != tt.note {
				t.Errorf("%+v, %v; expected %s", tools, err, tt.args)
			}
		})
	}
}
