// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeHost has a few files, and no nft.
func fakeHost(t *testing.T) *host {
	root := t.TempDir()
	for name, content := range map[string]string{
		"etc/netio/agent.yaml":                       "podCIDRs: [10.42.0.0/24]\n",
		"proc/version":                               "Linux version 6.1.0\n",
		"proc/meminfo":                               "MemTotal: 1 kB\nMemFree: 1 kB\n",
		"proc/sys/net/ipv4/ip_forward":               "1\n",
		"proc/sys/net/ipv4/conf/netio0/accept_local": "1\n",
		"proc/net/dev":                               "lo: 1 2 3\n",
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return &host{root, func(_ context.Context, w io.Writer, name string, args ...string) error {
		if name == "nft" {
			return errors.New("nft: not found")
		}
		_, err := fmt.Fprintln(w, name, strings.Join(args, " "))
		return err
	}}
}

// unpack returns the files of an archive; all are in one folder, and the owner's.
func unpack(t *testing.T, data []byte) map[string]string {
	t.Helper()
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(gz); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name, ok := strings.CutPrefix(h.Name, "netio-sysdump-20260301T120000Z/")
		if !ok || h.Mode != 0o600 {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		files[name] = string(content)
	}
}

func TestSysdump(t *testing.T) {
	b := newBed(t, goldenForwarder(), true)
	b.host = fakeHost(t)
	path := filepath.Join(b.dir, "dump.tar.gz")
	if code := b.do(t, "sysdump", "-w", path); code != exitOK {
		t.Fatalf("exit code %d: %s", code, b.errOut.String())
	}
	golden(t, "sysdump", "sysdump -w "+path, b)
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("file %v, %v", st, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, data)
	for name, want := range map[string]string{
		"agent/config.yaml":     "podCIDRs: [10.42.0.0/24]",
		"agent/info.json":       `"node": "node-a"`,
		"agent/endpoints.json":  `"namespace": "staging"`,
		"forwarder/status.json": `"pid": 4711`,
		"forwarder/config.json": `"isolatesIngress": true`,
		"forwarder/ports.json":  `"knet7f3a"`,
		"forwarder/drops.json":  `"spoofed-source"`,
		"forwarder/flows.jsonl": `"src":"10.42.0.5"`,
		"host/kernel.txt":       "/proc/version = Linux version 6.1.0\n/proc/meminfo:\nMemTotal: 1 kB\n",
		"host/sysctls.txt":      "/proc/sys/net/ipv4/ip_forward = 1\n/proc/sys/net/ipv4/conf/netio0/accept_local = 1\n",
		"host/links.txt":        "ip -details -statistics link show",
		"host/routes6.txt":      "ip -6 route show table all",
		"version.txt":           "netioctl v0.1.0 at 2026-03-01T12:00:00Z",
		"contents.txt":          "nft: not found",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s has no %s:\n%s", name, want, files[name])
		}
	}
	for name := range files {
		if name != "contents.txt" && !strings.Contains(files["contents.txt"], name) {
			t.Errorf("contents.txt does not have %s", name)
		}
	}

	// It writes nothing over.
	if code := b.do(t, "sysdump", "-w", path); code != exitError || !strings.Contains(b.errOut.String(), "file exists") {
		t.Errorf("a second time: exit code %d, %s", code, b.errOut.String())
	}
	if again, err := os.ReadFile(path); err != nil || !bytes.Equal(again, data) {
		t.Errorf("the first dump was changed: %v", err)
	}
}

// Without daemons there is all the rest, and why they are missing.
func TestSysdumpAlone(t *testing.T) {
	b := newBed(t, nil, false)
	b.host = fakeHost(t)
	if code := b.do(t, "sysdump", "-w", "-", "--agent-config", "/etc/netio/other.yaml"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, b.errOut.String())
	}
	files := unpack(t, b.out.Bytes())
	for _, want := range []string{"the forwarder has no socket at", "the agent has no socket at", "--agent-config says where it is"} {
		if !strings.Contains(files["contents.txt"], want) || !strings.Contains(b.errOut.String(), want) {
			t.Errorf("no %q in\n%s\nshown:\n%s", want, files["contents.txt"], b.errOut.String())
		}
	}
	if files["host/links.txt"] == "" || files["forwarder/status.json"] != "" {
		t.Errorf("got %v", files)
	}
}

func TestSysdumpToTerminal(t *testing.T) {
	b := newBed(t, nil, false)
	b.terminal = true
	if code := b.do(t, "sysdump", "-w", "-"); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}

// A file has its limit, and all files together have theirs; what was had of a part
// that failed is kept.
func TestArchiveBounds(t *testing.T) {
	var out bytes.Buffer
	a := newArchive(&out, "netio-sysdump-20260301T120000Z", fakeNow, 10, 6)
	for _, p := range []struct {
		content string
		err     error
		kept    int
	}{
		{"abcdef", nil, 6}, // 6 bytes: just fits
		{"abc", errDenied, 3},
		{"abc", nil, 1}, // only one byte is left
		{"", errDenied, 0},
	} {
		name := fmt.Sprint(len(a.parts))
		if err := a.add(name, func(w io.Writer) error {
			_, err := io.WriteString(w, p.content)
			return errors.Join(err, p.err)
		}); err != nil {
			t.Fatal(err)
		}
		got := a.parts[len(a.parts)-1]
		if got.size != p.kept || (got.err == nil) != (p.err == nil && p.kept == len(p.content)) {
			t.Errorf("%q: %+v", p.content, got)
		}
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	files := unpack(t, out.Bytes())
	if len(files) != 3 || files["0"] != "abcdef" || files["1"] != "abc" || files["2"] != "a" {
		t.Errorf("files %v", files)
	}
	if a.parts[2].err != errCut {
		t.Errorf("not noted as cut: %v", a.parts[2].err)
	}
}

func TestRunCommand(t *testing.T) {
	var out bytes.Buffer
	if err := runCommand(t.Context(), &out, "echo", "a"); err != nil || out.String() != "a\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := runCommand(t.Context(), &out, "sh", "-c", "echo no such table >&2; echo but others >&2; exit 3"); err == nil || err.Error() != "sh: exit status 3: no such table" {
		t.Errorf("%v", err)
	}
	if err := runCommand(t.Context(), &out, "no-such-program"); err == nil {
		t.Error("a program that is not there ran")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := runCommand(ended, &out, "sleep", "1000"); err == nil {
		t.Error("ran without time")
	}
}
