// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// explainWrite makes a Problem of an error of writing below a directory.
func explainWrite(err error, dir string) error {
	switch {
	case errors.Is(err, unix.EROFS):
		return problem(ReadOnly, "choose a directory that can be written (--cache)", "%s is on a read-only file system", dir).of(err)
	case errors.Is(err, fs.ErrPermission):
		return problem(ReadOnly, "be root, or choose another directory (--cache)", "%s cannot be written", dir).of(err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return problem(ReadOnly, "make room, or choose another directory (--cache)", "the disk of %s is full", dir).of(err)
	}
	return err
}

// enrolCure tells how a key becomes one that the kernel trusts.
func enrolCure(sec Security, signed bool) string {
	sign := "sign it (netio-agent kmod sign --key KEY --cert CERT FILE)"
	if signed {
		sign = "sign it with a key that the kernel trusts"
	}
	if sec.SecureBoot != nil && !*sec.SecureBoot {
		without := "module.sig_enforce=1"
		if sec.lockedDown() {
			without = "lockdown"
		}
		return sign + "; secure boot is off, so the kernel trusts only keys that it was built with: turn secure boot on and enrol one (mokutil --import CERT, reboot, confirm), or boot without " + without
	}
	return sign + " and enrol that (mokutil --import CERT, reboot, confirm)"
}

// signedBy tells of a file's signature in words.
func (f *File) signedBy() string {
	switch {
	case f.Signature == nil:
		return "it is not signed"
	case f.Signature.Issuer == "":
		return "it is signed"
	}
	return fmt.Sprintf("it is signed by %q", f.Signature.Issuer)
}

// secureBootWords tells its state.
func (s Security) secureBootWords() string {
	switch {
	case s.SecureBoot == nil:
		return "whether secure boot is on is unknown"
	case *s.SecureBoot:
		return "secure boot is on"
	}
	return "secure boot is off"
}

// explainLoad puts the errno of finit_module(2) in words; log are the kernel's
// lines about it, "" if there were none. Which check gives which errno:
// kernel/module/main.c and kernel/module/signing.c.
func (s *System) explainLoad(err error, f *File, k *Running, sec Security, log string) error {
	p := s.loadProblem(err, f, k, sec).of(err)
	if errors.Is(err, unix.EINVAL) && strings.Contains(log, "for parameter") {
		p = problem(WrongParameter, "see modinfo "+f.Path, "a parameter has a value that it cannot have").of(err)
	}
	if log != "" {
		p.Message += fmt.Sprintf(" (%v; the kernel says: %s)", err, log)
	} else {
		p.Message += fmt.Sprintf(" (%v; dmesg may tell more)", err)
	}
	return p
}

func (s *System) loadProblem(err error, f *File, k *Running, sec Security) *Problem {
	switch {
	case errors.Is(err, unix.EPERM):
		if p := s.takesModules(k); p != nil {
			return p
		}
		switch {
		case !sec.Capable:
			return problem(NoPermission, "be root; in a container, run it privileged or give it CAP_SYS_MODULE", "loading modules needs CAP_SYS_MODULE")
		case sec.lockedDown():
			return problem(Lockdown, enrolCure(sec, f.Signature != nil), "the kernel is locked down (%s) and takes signed modules only; %s; %s",
				sec.Lockdown, f.signedBy(), sec.secureBootWords())
		}
		return problem(NoPermission, "look there: LoadPin, IMA, seccomp (the container's profile), a user namespace", "a security module or a sandbox forbids to load %s", f.Path)
	case errors.Is(err, unix.EACCES):
		return problem(NoPermission, "look into the audit log (SELinux: module_load), or move the file where modules belong", "a security module forbids to load %s", f.Path)
	case errors.Is(err, unix.EKEYREJECTED), errors.Is(err, unix.ENOKEY):
		return problem(KeyRejected, enrolCure(sec, f.Signature != nil), "the kernel takes only modules signed by a key that it trusts; %s; %s", f.signedBy(), sec.secureBootWords())
	case errors.Is(err, unix.EBADMSG), errors.Is(err, unix.ENOPKG), errors.Is(err, unix.ELIBBAD):
		return problem(KeyRejected, "sign it anew (netio-agent kmod sign), with --hash sha256 if the kernel lacks another", "the kernel cannot read the signature of %s", f.Path)
	case errors.Is(err, unix.ENOEXEC):
		return problem(WrongKernel, "build it for this kernel (netio-agent kmod build)", "%s is not for kernel %s: its vermagic is %q", f.Path, k.Release, f.Vermagic)
	case errors.Is(err, unix.EINVAL):
		return problem(WrongKernel, "build it for this kernel (netio-agent kmod build), and check the parameters", "the kernel refuses %s: symbols of kernel %s have other versions, or a parameter is wrong", f.Path, k.Release)
	case errors.Is(err, unix.ENOENT):
		cure := "build it for this kernel (netio-agent kmod build)"
		if len(f.Depends) > 0 {
			cure = "load what it depends on (modprobe " + strings.Join(f.Depends, " ") + "), or " + cure
		}
		return problem(UnknownSymbol, cure, "%s needs symbols that kernel %s does not have", f.Path, k.Release)
	case errors.Is(err, unix.ENOSYS):
		return problem(ModulesUnsupported, "boot a kernel with CONFIG_MODULES, or use the soft device", "kernel %s has no loadable modules", k.Release)
	case errors.Is(err, unix.EBUSY):
		return problem(LoadFailed, "try again", "the module is being loaded or unloaded by another")
	case errors.Is(err, unix.ENOMEM):
		return problem(LoadFailed, "free some memory", "there is not enough memory for the module")
	}
	return problem(LoadFailed, "", "the module does not start")
}

// explainUnload does the same for delete_module(2).
func (s *System) explainUnload(err error, l *Loaded, sec Security) error {
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EBUSY):
		if p := l.inUse(); p != nil {
			return p.of(err)
		}
		return problem(InUse, "try again", "the module has just come into use").of(err)
	case errors.Is(err, unix.EPERM) && !sec.Capable:
		return problem(NoPermission, "be root; in a container, run it privileged or give it CAP_SYS_MODULE", "unloading modules needs CAP_SYS_MODULE").of(err)
	case errors.Is(err, unix.ENOSYS):
		return problem(ModulesUnsupported, "reboot to be rid of it", "the kernel cannot unload modules (CONFIG_MODULE_UNLOAD)").of(err)
	}
	return problem(LoadFailed, "dmesg may tell more", "unload module: %v", err).of(err)
}

// newLines are lines about a module that a log has after another, older reading of it; the
// last three of them.
func newLines(before, after, module string) string {
	old := strings.TrimRight(before, "\n")
	if i := strings.LastIndexByte(old, '\n'); i >= 0 {
		old = old[i+1:]
	}
	if old != "" {
		if i := strings.LastIndex(after, old); i >= 0 {
			after = after[i+len(old):]
		}
	}
	var found []string
	for line := range strings.Lines(after) {
		// "<4>[   12.345678] netio: Unknown symbol"
		if i := strings.Index(line, "] "); i >= 0 {
			line = line[i+2:]
		}
		if line = strings.TrimSpace(line); strings.Contains(line, module) || strings.HasPrefix(line, "Lockdown:") || strings.Contains(line, "module") {
			found = append(found, line)
		}
	}
	if len(found) > 3 {
		found = found[len(found)-3:]
	}
	return strings.Join(found, "; ")
}
