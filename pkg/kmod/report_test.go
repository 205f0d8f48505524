// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"maps"
	"strings"
	"testing"
)

const testHeaders = "/usr/src/linux-headers-" + testRelease

// headersFiles are headers whose Makefile builds what is in /prepared/netio.ko.
func headersFiles() map[string]string {
	return map[string]string{
		"/lib/modules/" + testRelease + "/build":         "->" + testHeaders,
		testHeaders + "/Makefile":                        "modules:\n\tcp ../../../prepared/netio.ko $(M)/netio.ko\n",
		testHeaders + "/include/config/kernel.release":   "6.1.170\n",
		testHeaders + "/" + utsRelease:                   "#define UTS_RELEASE \"" + testRelease + "\"\n",
		testHeaders + "/.config":                         "CONFIG_CC_IS_GCC=y\nCONFIG_CC_VERSION_TEXT=\"gcc\"\nCONFIG_MODULE_SIG_HASH=\"sha512\"\n",
		"/usr/src/netio-1.0.0/Kbuild":                    "obj-m := netio.o\n",
		"/usr/src/netio-1.0.0/netio.c":                   "/* */\n",
		"/usr/src/netio-1.0.0/include/uapi/linux/a.h":    "/* */\n",
		"/usr/src/netio-1.0.0/netio.mod.c":               "/* made by a build */\n",
		"/lib/modules/" + testRelease + "/kernel/tun.ko": string(module("name=tun")),
	}
}

func merge(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range all {
		maps.Copy(out, m)
	}
	return out
}

const updates = "/lib/modules/" + testRelease + "/updates/dkms/netio.ko"

func TestReport(t *testing.T) {
	enforced := map[string]string{"/sys/module/module/parameters/sig_enforce": "Y\n"}
	locked := map[string]string{"/sys/kernel/security/lockdown": "none [integrity] confidentiality\n", "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\x06\x00\x00\x00\x01"}
	builtIn := map[string]string{"/lib/modules/" + testRelease + "/modules.builtin": "kernel/drivers/net/tun.ko\nkernel/drivers/net/netio.ko\n"}
	tests := []struct {
		name     string
		files    map[string]string
		state    State
		problems string   // their reasons
		says     []string // in summary, messages and cures
	}{
		{"loaded", loadedFiles(wantABI, "AAAA", "3"), StateLoaded, "", []string{"version 1.0.0, ABI 1.1"}},
		{"other ABI", loadedFiles("2.0", "AAAA", "0"), StateOtherABI, "WrongABI", []string{"with ABI 2.0, this program needs 1.1", "netio-agent kmod load"}},
		{"no ABI", loadedFiles("", "AAAA", "0"), StateOtherABI, "WrongABI", []string{"with no ABI version"}},
		{"other ABI in use", merge(loadedFiles("2.0", "AAAA", "2"), map[string]string{"/sys/module/netio/holders/netio_virtio": ""}), StateOtherABI, "WrongABI InUse", []string{"by the modules netio_virtio", "unload netio_virtio"}},
		{"other ABI, device open", merge(loadedFiles("2.0", "AAAA", "1"), map[string]string{"/proc/77/fd/5": "->/dev/netio", "/proc/77/comm": "netio-agent\n", "/proc/77/fd/1": "->/dev/null"}), StateOtherABI, "WrongABI InUse", []string{"by netio-agent (77)"}},
		{"built in", merge(builtIn, map[string]string{"/lib/modules/" + testRelease + "/modules.builtin.modinfo": "tun.version=1\x00netio.netio_abi=1.1\x00netio.version=1.1.0\x00"}), StateLoaded, "", []string{"built into the kernel, version 1.1.0"}},
		{"built in, other ABI", merge(builtIn, map[string]string{"/sys/module/netio/parameters/abi": "0.9\n"}), StateOtherABI, "BuiltIn", []string{"CONFIG_NETIO"}},
		{"no modules", map[string]string{"/boot/config-" + testRelease: "# CONFIG_MODULES is not set\n"}, StateUnsupported, "ModulesUnsupported", []string{"says /boot/config-", "soft device"}},
		{"disabled", map[string]string{"/proc/sys/kernel/modules_disabled": "1\n"}, StateUnsupported, "ModulesDisabled", []string{"reboot"}},
		{"nomodule", map[string]string{"/proc/sys/kernel/modules_disabled": "1\n", "/proc/cmdline": "quiet nomodule\n"}, StateUnsupported, "ModulesDisabled", []string{`boot without the parameter "nomodule"`}},
		{"loadable", map[string]string{updates: string(module())}, StateLoadable, "", []string{updates + " fits"}},
		{"unsigned, enforced", merge(enforced, map[string]string{updates: string(module())}), StateMissing, "KeyRejected", []string{"secure boot is off"}},
		{"unsigned, locked down", merge(locked, map[string]string{updates: string(module())}), StateMissing, "Lockdown", []string{"integrity", "mokutil --import"}},
		{"no capability", map[string]string{updates: string(module()), "/proc/self/status": "CapEff:\t00000000a80425fb\n"}, StateMissing, "NoPermission", []string{"CAP_SYS_MODULE"}},
		{"other kernel", map[string]string{updates: string(module("vermagic=6.1.0-46-amd64 SMP preempt mod_unload modversions "))}, StateMissing, "WrongKernel NoHeaders NoSource", []string{"it is for kernel 6.1.0-46-amd64", "apt-get install linux-headers-6.1.0-47-amd64"}},
		{"other options", map[string]string{updates: string(module("vermagic=" + testRelease + " SMP mod_unload ")), "/lib/modules/" + testRelease + "/kernel/a/tun.ko": string(module("name=tun"))}, StateMissing, "WrongKernel NoHeaders NoSource", []string{"modules of this kernel have"}},
		{"older ABI", map[string]string{updates: string(module("netio_abi=0.7"))}, StateMissing, "WrongABI NoHeaders NoSource", []string{"ABI 0.7, this program needs 1.1"}},
		{"a broken file", map[string]string{updates: "garbage"}, StateMissing, "NoModule NoHeaders NoSource", []string{"not a kernel module"}},
		{"nothing", nil, StateMissing, "NoModule NoHeaders NoSource", []string{"no netio.ko", "--source"}},
		{"headers to nowhere", map[string]string{"/lib/modules/" + testRelease + "/build": "->/usr/src/gone"}, StateMissing, "NoModule NoHeaders NoSource", []string{"link to nowhere"}},
		{"headers not prepared", map[string]string{"/lib/modules/" + testRelease + "/build/Makefile": ""}, StateMissing, "NoModule NoHeaders NoSource", []string{"modules_prepare"}},
		{"Talos", map[string]string{"/etc/os-release": "ID=talos\n"}, StateMissing, "NoModule NoHeaders NoSource", []string{"Talos takes no packages"}},
		{"buildable", headersFiles(), StateBuildable, "", []string{"kmod load --build"}},
		{"buildable, no key", merge(headersFiles(), enforced), StateMissing, "KeyRejected", []string{"no key to sign with"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t, nil)
			m.files(tt.files)
			r, err := m.Report(m.own(Load{Search: Search{Cache: DefaultCache}}).Search, Build{Version: "v1.0.0", Cache: DefaultCache})
			if err != nil {
				t.Fatal(err)
			}
			said := r.Summary
			var reasons []string
			for _, p := range r.Problems {
				reasons = append(reasons, string(p.Reason))
				said += "\n" + p.Error()
			}
			if r.State != tt.state || strings.Join(reasons, " ") != tt.problems {
				t.Errorf("%s (%s), expected %s (%s):\n%s", r.State, strings.Join(reasons, " "), tt.state, tt.problems, said)
			}
			for _, s := range tt.says {
				if !strings.Contains(said, s) {
					t.Errorf("%q is not said in:\n%s", s, said)
				}
			}
			if len(m.calls) != 0 {
				t.Errorf("it did something: %s", m.called())
			}
		})
	}
}

func TestReportErrors(t *testing.T) {
	m := newMachine(t, map[string]string{"/boot/config-" + testRelease: "not a configuration\n"})
	if _, err := m.Report(Search{}, Build{}); err == nil || !strings.Contains(err.Error(), "/boot/config-") {
		t.Errorf("broken configuration: %v", err)
	}
	m = newMachine(t, nil)
	if _, err := m.Report(Search{Dirs: []string{"/none"}}, Build{}); err == nil {
		t.Error("a directory that is not there is passed over")
	}
}

func TestExitCodes(t *testing.T) {
	seen := map[int]State{}
	for _, s := range []State{StateLoaded, StateOtherABI, StateLoadable, StateBuildable, StateMissing, StateUnsupported} {
		if other, ok := seen[s.ExitCode()]; ok {
			t.Errorf("%s and %s have the same exit code", s, other)
		}
		seen[s.ExitCode()] = s
	}
	for reason, code := range map[Reason]int{WrongABI: 3, NoHeaders: 6, KeyRejected: 6, ModulesDisabled: 7, ModulesUnsupported: 7, InUse: 8} {
		if got := problem(reason, "", "").ExitCode(); got != code {
			t.Errorf("%s: %d, expected %d", reason, got, code)
		}
	}
}

func TestCompilerOf(t *testing.T) {
	for line, want := range map[string]string{
		"Linux version 6.1.0 (a@b) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld 2.40) #1 SMP":            "gcc-12 (Debian 12.2.0-14) 12.2.0",
		"Linux version 6.8.0 (a@b) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0) 13.2.0, GNU ld 2.42) #45": "x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0) 13.2.0",
		"Linux version 6.1.0 (a@b) (Debian clang version 14.0.6, Debian LLD 14.0.6) #1":               "Debian clang version 14.0.6",
		"Linux version 4.4.0 (a@b) (gcc version 5.4.0 20160609 (Ubuntu 5.4.0) ) #1":                   "gcc version 5.4.0 20160609 (Ubuntu 5.4.0) ",
		"Linux version 6.1.0 (a@b":       "",
		"Linux version 6.1.0 (a@b) (gcc": "",
		"":                               "",
	} {
		if got := compiler(line); got != want {
			t.Errorf("%q: %q, expected %q", line, got, want)
		}
	}
}

func TestABIServes(t *testing.T) {
	for v, want := range map[string]bool{"1.0": false, "1.1": true, "1.7": true, "0.9": false, "2.0": false, "1": false, "": false, "1.x": false, "-1.0": false, "1.99999": false} {
		if abiServes(v) != want {
			t.Errorf("%q: %v", v, !want)
		}
	}
}
