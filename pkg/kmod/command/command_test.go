// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"netio.dev/netio/pkg/kmod"
)

func run(args ...string) (string, error) {
	cmd := New("v1.0.0")
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

// host is a root directory of a machine whose kernel takes no modules.
func host(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func code(err error) int {
	var e exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.ExitStatus()
	}
	return 1
}

func TestStatus(t *testing.T) {
	none := host(t, map[string]string{"/proc/version": "Linux version 6.1 (a@b) (gcc-12 12.2, ld) #1"})
	loaded := host(t, map[string]string{
		"/proc/modules": "", "/sys/module/netio/initstate": "live", "/sys/module/netio/parameters/abi": "1.1", "/sys/module/netio/version": "1.2.3", "/sys/module/netio/refcnt": "2",
		"/dev/netio": "", "/proc/self/status": "CapEff:\t000001ffffffffff\n",
	})
	tests := []struct {
		root string
		code int
		says string
	}{
		{none, kmod.ExitUnsupported, `state +Unsupported\n.*there is no /proc/modules`},
		{none, kmod.ExitUnsupported, `to do +boot a kernel with CONFIG_MODULES, or use the soft device`},
		{loaded, 0, `the module is loaded, version 1\.2\.3, ABI 1\.1`},
		{loaded, 0, `references +2\n`},
	}
	for _, tt := range tests {
		out, err := run("status", "--root", tt.root)
		if code(err) != tt.code || !regexp.MustCompile(tt.says).MatchString(out) {
			t.Errorf("exit code %d (%v), expected %d and %s in:\n%s", code(err), err, tt.code, tt.says, out)
		}
		if err != nil && err.Error() != "" {
			t.Errorf("said twice: %v", err)
		}
		out, err = run("status", "--root", tt.root, "-o", "json")
		var r kmod.Report
		if jerr := json.Unmarshal([]byte(out), &r); jerr != nil || code(err) != tt.code || r.State.ExitCode() != tt.code {
			t.Errorf("JSON: exit code %d, state %s, %v", code(err), r.State, jerr)
		}
	}
}

// TestStatusHere sees that the command has an answer for the machine that it runs on.
func TestStatusHere(t *testing.T) {
	out, err := run("status")
	if code(err) == 1 {
		t.Fatal(err)
	}
	t.Logf("exit code %d\n%s", code(err), out)
}

func TestProblems(t *testing.T) {
	root := host(t, map[string]string{"/proc/version": ""})
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "k.pem"), filepath.Join(dir, "c.der")
	tests := []struct {
		args string
		code int
		says string
	}{
		{"load --root " + root, kmod.ExitUnsupported, "has no loadable modules"},
		{"load --root " + root + " oops", 1, "expected name=value"},
		{"build --source /none --root " + root, kmod.ExitMissing, "--source"},
		{"build --kernel 1.2.3 --source " + dir, kmod.ExitMissing, "neither Kbuild nor Makefile"},
		{"unload --root " + root, 0, ""},
		{"load --key " + key, 1, "--key and --cert belong together"},
		{"load --key " + key + " --cert " + cert, 1, "read key"},
		{"sign netio.ko", 1, "--generate makes them"},
		{"sign --key " + key + " --cert " + cert, 1, "name the module files"},
		{"sign --generate --name me --key " + key + " --cert " + cert, 0, ""},
		{"sign --generate --key " + key + " --cert " + cert, 1, "leave --generate out"},
		{"sign --key " + key + " --cert " + cert + " /none/netio.ko", 1, "/none/netio.ko"},
		{"status -o yaml", 1, "expected table or json"},
		{"unload --end-idle --root " + root, 0, ""},
		{"deliver --mode Fast --result x", 1, `--mode "Fast": expected one of`},
		{"deliver", 1, "--result is missing"},
		{"deliver --result x --image /images/0", 1, "expected FOLDER=RELEASE or FOLDER~EXPRESSION"},
		{"deliver --result x --image /images/0~(", 1, "missing closing )"},
		{"deliver --result x --image =6.1", 1, "expected FOLDER=RELEASE"},
	}
	for _, tt := range tests {
		out, err := run(strings.Fields(tt.args)...)
		if code(err) != tt.code || (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: exit code %d, %v; expected %d, %q\n%s", tt.args, code(err), err, tt.code, tt.says, out)
		}
	}
	out, err := run("load", "-o", "json", "--root", root)
	var answer struct{ Problem kmod.Problem }
	if jerr := json.Unmarshal([]byte(out), &answer); jerr != nil || answer.Problem.Reason != kmod.ModulesUnsupported || err == nil {
		t.Errorf("JSON of a problem: %s (%v, %v)", out, jerr, err)
	}
}

func TestGenerateTells(t *testing.T) {
	dir := t.TempDir()
	out, err := run("sign", "--generate", "--key", filepath.Join(dir, "k.pem"), "--cert", filepath.Join(dir, "c.der"))
	if err != nil || !strings.Contains(out, "mokutil --import "+filepath.Join(dir, "c.der")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestDocumented holds the documentation against the code.
func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../../docs/kmod.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for _, s := range []kmod.State{kmod.StateLoaded, kmod.StateOtherABI, kmod.StateLoadable, kmod.StateBuildable, kmod.StateMissing, kmod.StateUnsupported} {
		if !strings.Contains(doc, "| "+strconv.Itoa(s.ExitCode())+" | `"+string(s)+"`") {
			t.Errorf("exit code %d of state %s is not documented", s.ExitCode(), s)
		}
	}
	for _, r := range kmod.Reasons() {
		if !strings.Contains(doc, "`"+string(r)+"`") {
			t.Errorf("reason %s is not documented", r)
		}
	}
}

// TestDeliver: whatever is in the way, it ends well, and the file has what came of it.
func TestDeliver(t *testing.T) {
	root := host(t, map[string]string{"/proc/version": ""})
	result := filepath.Join(t.TempDir(), "kernel-module.json")
	deliver := func(args ...string) string {
		t.Helper()
		out, err := run(append([]string{"deliver", "--root", root, "--cache", filepath.Join(root, "cache"), "--result", result}, args...)...)
		if err != nil {
			t.Errorf("%v: %v", args, err)
		}
		return out
	}
	out := deliver("--required", "--image", "/images/0=6.1.0", "--image", `/images/1~^6\.1\.`)
	if !regexp.MustCompile(`state +Unsupported\n(.*\n)*problem +ModulesUnsupported: .*\n +to do +boot a kernel with CONFIG_MODULES`).MatchString(out) {
		t.Error(out)
	}
	o, err := kmod.ReadOutcome(result)
	if err != nil || o.State != kmod.StateUnsupported || o.Problem.Reason != kmod.ModulesUnsupported || !o.Required || o.Mode != kmod.ModeAuto {
		t.Errorf("%+v, %v", o, err)
	}
	// A Secret that is not there, or is none, is no error either.
	out = deliver("--key", "/none/tls.key", "--cert", "/none/tls.crt", "-o", "json")
	var printed kmod.Outcome
	if err := json.Unmarshal([]byte(out), &printed); err != nil || len(printed.Notes) != 1 || !strings.Contains(printed.Notes[0], "has no tls.key") {
		t.Errorf("%v: %s", err, out)
	}
	if err := os.Mkdir(filepath.Join(root, "empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(root, "empty", "tls.key")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out = deliver("--key", empty, "--cert", empty); !strings.Contains(out, "modules are not signed: the Secret of kernelModule.signingSecret: ") {
		t.Error(out)
	}
	// Nowhere to note it, as on a disk that is full.
	if out, err := run("deliver", "--root", root, "--result", "/none/x.json"); err != nil || !strings.Contains(out, "cannot be noted") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestParseImage(t *testing.T) {
	for text, want := range map[string][2]string{
		"/images/0=6.1.0-47-amd64": {"/images/0", "6.1.0-47-amd64"},
		`/images/1~^5=\.14~`:       {"/images/1", `^5=\.14~`},
	} {
		i, err := parseImage(text)
		got := i.Release
		if i.Matching != nil {
			got = i.Matching.String()
		}
		if err != nil || i.Dir != want[0] || got != want[1] {
			t.Errorf("%s: %+v, %v", text, i, err)
		}
	}
}
