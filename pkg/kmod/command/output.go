// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"netio.dev/netio/pkg/kmod"
)

// text collects lines; its writer's first error counts.
type text struct {
	*tabwriter.Writer
}

func newText(w io.Writer) text { return text{tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)} }

func (t text) line(cells ...string) {
	for i, c := range cells {
		if c == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(t, strings.Join(cells, "\t"))
}

// writeReport shows a report: the answer first, then what it rests on.
func writeReport(w io.Writer, r *kmod.Report) error {
	t := newText(w)
	t.line("state", string(r.State))
	t.line("", r.Summary)
	for _, p := range r.Problems {
		t.line("problem", fmt.Sprintf("%s: %s", p.Reason, p.Message))
		if p.Cure != "" {
			t.line("  to do", p.Cure)
		}
	}
	t.line("kernel", join(r.Kernel.Release, r.Kernel.Machine, r.Kernel.OS.Name))
	t.line("built with", r.Kernel.Compiler)
	t.line("configuration", r.Kernel.ConfigFile)
	t.line("security", security(r.Security))
	if l := r.Loaded; l != nil {
		loadedLines(t, l)
	}
	if r.Headers != nil {
		t.line("headers", r.Headers.Dir)
	}
	if len(r.Compiler) > 0 {
		t.line("compiler", strings.Join(r.Compiler, " "))
	}
	if r.Source != "" {
		t.line("source", r.Source)
	}
	if err := t.Flush(); err != nil || len(r.Files) == 0 {
		return err
	}
	fmt.Fprintln(w)
	t = newText(w)
	t.line("FILE", "VERSION", "ABI", "KERNEL", "SIGNED BY", "FITS")
	for _, f := range r.Files {
		kernel, _, _ := strings.Cut(f.Vermagic, " ")
		signer := ""
		if f.Signature != nil {
			if signer = f.Signature.Issuer; signer == "" {
				signer = "?"
			}
		}
		fits := "yes"
		if !f.Fits {
			fits = "no: " + f.Why
		}
		t.line(f.Path, f.Version, f.ABI, kernel, signer, fits)
	}
	return t.Flush()
}

func loadedLines(t text, l *kmod.Loaded) {
	t.line("version", l.Version)
	t.line("ABI", l.ABI)
	references := strconv.Itoa(l.References)
	if l.References < 0 {
		references = "unknown: this kernel does not count"
	}
	t.line("references", references)
	for _, users := range []struct {
		title string
		names []string
	}{{"modules", l.Holders}, {"processes", l.Processes}, {"knets here", l.Knets}} {
		if len(users.names) > 0 {
			t.line(users.title, strings.Join(users.names, ", "))
		}
	}
	device := kmod.DeviceFile
	if !l.Device {
		device += " is not there"
	}
	t.line("device", device)
}

func security(s kmod.Security) string {
	enforced := "unsigned modules are taken"
	switch {
	case s.NeedsSignature():
		enforced = "only modules signed by a trusted key are taken"
	case s.Enforced == nil:
		enforced = "whether signatures are enforced is unknown"
	}
	lockdown := "no lockdown"
	if s.Lockdown != "" {
		lockdown = "lockdown " + s.Lockdown
	}
	boot := "secure boot unknown"
	if s.SecureBoot != nil {
		boot = "secure boot off"
		if *s.SecureBoot {
			boot = "secure boot on"
		}
	}
	capable := "CAP_SYS_MODULE"
	if !s.Capable {
		capable = "no CAP_SYS_MODULE"
	}
	return strings.Join([]string{boot, lockdown, enforced, capable}, ", ")
}

func join(words ...string) string {
	var have []string
	for _, w := range words {
		if w != "" {
			have = append(have, w)
		}
	}
	return strings.Join(have, ", ")
}

// writeResult tells what was done, in a line.
func writeResult(w io.Writer, r *kmod.Result) error {
	t := newText(w)
	version := fmt.Sprintf("version %s, ABI %s", r.Version, r.ABI)
	if r.Version == "" {
		version = "ABI " + r.ABI
	}
	switch r.Action {
	case "kept":
		fmt.Fprintf(t, "the module is loaded already (%s)\n", version)
	case "replaced":
		fmt.Fprintf(t, "replaced the loaded module by %s (%s)\n", r.Path, version)
	default:
		fmt.Fprintf(t, "loaded %s (%s)\n", r.Path, version)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(t, "note:", n)
	}
	return t.Flush()
}

// signed is what kmod sign has done.
type signed struct {
	Key         string   `json:"key"`
	Certificate string   `json:"certificate"`
	Generated   bool     `json:"generated"`
	Files       []string `json:"files"`
}

func (s *signed) write(w io.Writer) error {
	t := newText(w)
	if s.Generated {
		fmt.Fprintf(t, "key          %s (keep it secret)\ncertificate  %s\n", s.Key, s.Certificate)
		fmt.Fprintf(t, `
The kernel does not trust it yet. On each machine with secure boot, once:
    mokutil --import %s    (asks for a password of your choice)
then reboot, and at the blue screen: Enroll MOK, Continue, the password.
Check with: mokutil --test-key %s
`, s.Certificate, s.Certificate)
	}
	for _, f := range s.Files {
		fmt.Fprintf(t, "signed %s\n", f)
	}
	return t.Flush()
}
