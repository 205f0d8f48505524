// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDeliver: what each mode comes to, on systems that lack something, and on those that
// do not.
func TestDeliver(t *testing.T) {
	image := func(folder, release string) Image { return Image{Dir: folder, Release: release} }
	matching := func(folder, expression string) Image {
		return Image{Dir: folder, Matching: regexp.MustCompile(expression)}
	}
	fits := string(module("srcversion=BBBB"))
	otherABI := string(module("netio_abi=2.0"))
	enforced := map[string]string{"/sys/module/module/parameters/sig_enforce": "Y"}
	instance := map[string]string{instancesFile: "netio: abi 2.0, lanes 1, epoch 3, owner 0\n  nbufs 64, free 64, process 0\n"}
	tests := []struct {
		name   string
		files  map[string]string
		change func(*machine)
		in     Delivery
		state  State
		origin string
		reason Reason
		says   []string // in problem, cure or notes
		calls  string
	}{
		{name: "the host's", in: Delivery{Mode: ModeAuto}, files: map[string]string{updates: fits}, state: StateLoaded, origin: OriginHost, calls: "load netio"},
		{name: "what is loaded", in: Delivery{Mode: ModeBuild}, files: loadedFiles(wantABI, "AAAA", "3"), state: StateLoaded, origin: OriginLoaded},
		{name: "what is loaded, and no image for it", in: Delivery{Mode: ModePrebuilt}, files: loadedFiles(wantABI, "AAAA", "3"), state: StateLoaded, origin: OriginLoaded},
		{
			name: "an image by release", state: StateLoaded, origin: OriginImage, calls: "load netio",
			in:    Delivery{Mode: ModePrebuilt, Images: []Image{image("/images/0", "6.1.0-46-amd64"), image("/images/1", testRelease)}},
			files: map[string]string{"/images/0/netio.ko": otherABI, "/images/1/" + testRelease + "/netio.ko": fits},
		},
		{
			name: "the first of two images that are for the kernel", state: StateLoaded, origin: OriginImage, calls: "load netio",
			in:    Delivery{Mode: ModeAuto, Images: []Image{matching("/images/0", `^6\.1\.`), image("/images/1", testRelease)}},
			files: map[string]string{"/images/0/netio.ko": fits, "/images/1/netio.ko": otherABI},
		},
		{
			name: "no image for the kernel", state: StateMissing, reason: NoModule, says: []string{"no image is for kernel " + testRelease, "kernelModule.images"},
			in: Delivery{Mode: ModePrebuilt, Images: []Image{image("/images/0", "5.10"), matching("/images/0", `^5\.`)}},
		},
		{
			name: "an image without a module for it", state: StateMissing, reason: NoModule, says: []string{"into the image"},
			in: Delivery{Mode: ModePrebuilt, Images: []Image{image("/images/0", testRelease)}}, files: map[string]string{"/images/0/README": ""},
		},
		{
			name: "Prebuilt does not take the host's", state: StateMissing, reason: NoModule,
			in: Delivery{Mode: ModePrebuilt, Images: []Image{image("/images/0", testRelease)}}, files: map[string]string{updates: fits, "/images/0/README": ""},
		},
		{name: "Host alone", in: Delivery{Mode: ModeHost}, state: StateMissing, reason: NoModule, says: []string{"/lib/modules of the node"}},
		{name: "Host with another ABI's", in: Delivery{Mode: ModeHost}, files: map[string]string{updates: otherABI}, state: StateMissing, reason: WrongABI, says: []string{"ABI 2.0, this program needs", "/lib/modules of the node"}},
		{
			name: "no headers", in: Delivery{Mode: ModeAuto}, files: map[string]string{"/src/Kbuild": "", "/src/main.c": ""}, state: StateMissing, reason: NoHeaders,
			says: []string{"there is no netio.ko for kernel", "there are no headers", "apt-get install linux-headers-" + testRelease, "or put one that fits"},
		},
		{name: "no modules", in: Delivery{Mode: ModeAuto}, change: func(m *machine) { os.Remove(filepath.Join(m.Root, "proc/modules")) }, state: StateUnsupported, reason: ModulesUnsupported, says: []string{"boot a kernel with CONFIG_MODULES"}},
		{name: "modules disabled", in: Delivery{Mode: ModeAuto}, files: map[string]string{updates: fits, "/proc/sys/kernel/modules_disabled": "1"}, state: StateUnsupported, reason: ModulesDisabled},
		{
			name: "not signed, and then no headers", in: Delivery{Mode: ModeAuto}, files: merge(enforced, map[string]string{updates: fits, "/src/Kbuild": ""}), calls: "load netio",
			change: func(m *machine) { m.loadErr = unix.EKEYREJECTED }, state: StateMissing, reason: KeyRejected, says: []string{"it is not signed", "there are no headers"},
		},
		{
			name: "another ABI in use", in: Delivery{Mode: ModeAuto}, files: merge(map[string]string{updates: fits}, instance, loadedFiles("2.0", "AAAA", "2")), state: StateOtherABI, reason: InUse,
			says: []string{"has ABI 2.0", "drain the node"}, calls: "end netio",
		},
		{
			name: "another ABI that only an instance without pods uses", in: Delivery{Mode: ModeAuto}, files: merge(map[string]string{updates: fits}, instance, loadedFiles("2.0", "AAAA", "1")),
			change: func(m *machine) { m.idle, m.knets = map[string]bool{"netio": true}, []string{"netio0"} },
			state:  StateLoaded, origin: OriginHost, calls: "end netio, unload netio, load netio", says: []string{"ended what nobody used of the module with ABI 2.0: netio"},
		},
		{
			name: "another ABI, a process", in: Delivery{Mode: ModeAuto}, files: merge(map[string]string{updates: fits, "/proc/7/fd/3": "->" + DeviceFile, "/proc/7/comm": "netio-agent\n"}, instance, loadedFiles("2.0", "AAAA", "1")),
			state: StateOtherABI, reason: InUse, says: []string{"netio-agent (7)"},
		},
		{name: "no such image folder", in: Delivery{Mode: ModePrebuilt, Images: []Image{image("/images/0", testRelease)}}, state: StateMissing, reason: LoadFailed, says: []string{"no such file"}},
		{
			name: "a module that brought the machine down", in: Delivery{Mode: ModeHost, Trial: "/cache/loading.json"}, state: StateMissing, reason: LoadFailed,
			files: map[string]string{updates: fits, "/proc/sys/kernel/random/boot_id": "two\n", "/cache/loading.json": `{"file":"/x/netio.ko","srcversion":"BBBB","boot":"one","began":"2026-01-02T03:04:05Z"}`},
			says:  []string{"went down at 2026-01-02T03:04:05Z, while /x/netio.ko was loaded", "remove /cache/loading.json"},
		},
		{
			name: "another module than that", in: Delivery{Mode: ModeHost, Trial: "/cache/loading.json"}, state: StateLoaded, origin: OriginHost, calls: "load netio",
			files: map[string]string{updates: fits, "/proc/sys/kernel/random/boot_id": "two\n", "/cache/loading.json": `{"file":"/x/netio.ko","srcversion":"AAAA","boot":"one","began":"2026-01-02T03:04:05Z"}`},
		},
		{
			name: "it was killed in this boot", in: Delivery{Mode: ModeHost, Trial: "/cache/loading.json"}, state: StateLoaded, origin: OriginHost, calls: "load netio",
			files: map[string]string{updates: fits, "/proc/sys/kernel/random/boot_id": "one\n", "/cache/loading.json": `{"srcversion":"BBBB","boot":"one"}`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, tt.files)
			if tt.change != nil {
				tt.change(m)
			}
			in := tt.in
			for i := range in.Images {
				m.ownPath(&in.Images[i].Dir)
			}
			m.ownPath(&in.Trial)
			in.Build.Source, in.Build.Cache = filepath.Join(m.Root, "src"), filepath.Join(m.Root, "cache")
			out := m.Deliver(context.Background(), in)
			if out.State != tt.state || out.Origin != tt.origin || out.Mode != in.Mode || out.Kernel != testRelease || m.called() != tt.calls {
				t.Errorf("%+v; calls %q, expected %s %q, %q", out, m.called(), tt.state, tt.origin, tt.calls)
			}
			said := strings.Join(out.Notes, "\n")
			switch p := out.Problem; {
			case p == nil && tt.reason != "":
				t.Errorf("no problem, expected %s", tt.reason)
			case p != nil && p.Reason != tt.reason:
				t.Errorf("%s: %v, expected %q", p.Reason, p, tt.reason)
			case p != nil:
				said += p.Error()
				if p.Cure == "" && tt.reason != LoadFailed {
					t.Errorf("no cure: %v", p)
				}
			}
			for _, want := range tt.says {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not in: %s", want, said)
				}
			}
			if strings.Contains(said, m.Root) {
				t.Errorf("the node's people do not know this path: %s", said)
			}
			if tt.in.Trial != "" && out.State == StateLoaded {
				if _, err := os.Stat(in.Trial); !os.IsNotExist(err) {
					t.Errorf("the note of the trial is there still: %v", err)
				}
			}
		})
	}
}

// TestOutcome: the file of a delivery says how it stands, and after it was begun in vain some
// times that it is not begun any more.
func TestOutcome(t *testing.T) {
	file := filepath.Join(t.TempDir(), "outcome.json")
	for n := 1; n <= maxAttempts; n++ {
		if o, err := Begin(file, Outcome{Mode: ModeAuto, Required: true}); o != nil || err != nil {
			t.Fatalf("attempt %d: %+v, %v", n, o, err)
		}
		if o, err := ReadOutcome(file); err != nil || o.State != StateBegun || o.Attempts != n || !o.Required {
			t.Fatalf("attempt %d: %+v, %v", n, o, err)
		}
	}
	last, err := Begin(file, Outcome{Mode: ModeAuto})
	if err != nil || last == nil || last.Problem.Reason != Interrupted || last.State != StateMissing {
		t.Fatalf("%+v, %v", last, err)
	}
	if o, err := ReadOutcome(file); err != nil || o.Problem.Reason != Interrupted || o.Problem.Cure == "" {
		t.Fatalf("%+v, %v", o, err)
	}
	if o, err := Begin(file, Outcome{Mode: ModeAuto}); o != nil || err != nil {
		t.Fatalf("the next pod does not begin: %+v, %v", o, err)
	}
	want := Outcome{State: StateLoaded, Mode: ModeHost, Kernel: testRelease, Version: "1.0.0", ABI: wantABI, Origin: OriginHost, Notes: []string{"x"}}
	if err := want.Write(file); err != nil {
		t.Fatal(err)
	}
	if o, err := ReadOutcome(file); err != nil || o.Origin != OriginHost || o.Version != "1.0.0" || o.Notes[0] != "x" {
		t.Errorf("%+v, %v", o, err)
	}
	for text, says := range map[string]string{"{}": "no state", "": "unexpected end", strings.Repeat(" ", outcomeMax+1): "no outcome"} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadOutcome(file); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, expected %q", err, says)
		}
	}
}

// TestInstances: their names are those of the lines that are not indented.
func TestInstances(t *testing.T) {
	got := instances("netio: abi 1.1, lanes 1, epoch 1, owner 7\n  nbufs 64, free 1, process 2\n  lane 0: inq tail 1\na: abi 1.1, lanes 2\nwrong\n: abi\n")
	if strings.Join(got, " ") != "netio a" {
		t.Errorf("%q", got)
	}
}

// TestHostToolchain: where the system's own files have all that is needed, the module is built
// with that.
func TestHostToolchain(t *testing.T) {
	m := newMachine(t, map[string]string{"/usr/bin/make": "x", "/usr/bin/gcc-12": "->gcc-12.3", "/usr/bin/gcc-12.3": "x", "/usr/bin/ld": "x"})
	for _, p := range []string{"make", "gcc-12.3", "ld"} {
		if err := os.Chmod(filepath.Join(m.Root, "usr/bin", p), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h := &Headers{Dir: filepath.Join(m.Root, "usr/src/h"), config: Config{"GCC_VERSION": "120200", "CC_VERSION_TEXT": "gcc-12 (Debian 12.2.0-14) 12.2.0"}}
	own, err := m.FindToolchain(m.running(), h, Build{Cache: filepath.Join(m.Root, "cache")})
	if err != nil || own.Root != m.Root || own.Args[0] != "CC=gcc-12" || own.make != "/usr/bin/make" {
		t.Errorf("%+v, %v", own, err)
	}
	if got, err := m.FindToolchain(m.running(), h, Build{Cache: t.TempDir()}); err == nil && got.Root != "" {
		t.Errorf("the cache is not among the system's files: %+v", got)
	}
}
