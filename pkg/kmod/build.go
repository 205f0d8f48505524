// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DefaultCache is where modules that were built are kept.
const DefaultCache = "/var/cache/netio/kmod"

// buildLog is make's output, in the cache.
const buildLog = "build.log"

// Build says how a module is built.
type Build struct {
	Source  string // folder; "": FindSource's
	Program string // path of this program, beside which source is looked for
	Version string // of this program
	Headers string // folder; "": those of the running kernel
	CC      string // compiler; "": the kernel's
	Cache   string // DefaultCache, or another
	Key     *Key   // signs; nil: not signed
	Hash    string // of the signature; "": the kernel's own
	// Link makes links in this process's root to where headers are below the
	// system's, as they refer to each other by absolute paths: for a container, whose
	// root goes with it.
	Link bool
}

// Built is a module that was built.
type Built struct {
	Path   string `json:"path"`
	Cached bool   `json:"cached"` // it was there already
	Note   string `json:"note,omitempty"`
}

// BuildModule builds the module for the running kernel, signs it if it has a key, and keeps it in the cache
// under the kernel's release and a hash of source, headers and key. Processes that build at
// the same time wait for each other. Errors are Problems: NoSource,
// NoHeaders, NoToolchain, ReadOnly, BuildFailed, and those of signing.
func (s *System) BuildModule(ctx context.Context, k *Running, b Build) (*Built, error) {
	src, err := s.FindSource(b.Source, b.Program, b.Version)
	if err != nil {
		return nil, err
	}
	h, err := s.FindHeaders(k, b.Headers)
	if err != nil {
		return nil, err
	}
	if b.Hash == "" {
		b.Hash = signatureHash(h.config)
	}
	key, err := src.key(moduleVersion(b.Version), filepath.Join(h.Dir, "Module.symvers"), filepath.Join(h.Dir, ".config"))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.Cache, k.Release, key+b.keyTag())
	out := &Built{Path: filepath.Join(dir, Name+".ko")}
	parent := filepath.Dir(dir)
	if _, err := ReadFile(out.Path); err == nil {
		out.Cached = true
		return out, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, explainWrite(err, b.Cache)
	}
	unlock, err := lock(filepath.Join(parent, "lock"))
	if err != nil {
		return nil, explainWrite(err, b.Cache)
	}
	defer unlock()
	if _, err := ReadFile(out.Path); err == nil {
		out.Cached = true
		return out, nil
	}
	tools, err := s.FindToolchain(k, h, b)
	if err != nil {
		return nil, err
	}
	out.Note = tools.Note
	work, err := os.MkdirTemp(parent, ".build-")
	if err != nil {
		return nil, explainWrite(err, b.Cache)
	}
	defer os.RemoveAll(work)
	if err := src.copyTo(work); err != nil {
		return nil, explainWrite(err, work)
	}
	if b.Link && tools.Root == "" {
		s.linkHeaders(k.Release)
	}
	at := s.shown(h.Dir)
	switch {
	case tools.Root != "":
		h.Dir = at
	case at != h.Dir && Host("/").exists(at+"/Makefile"):
		// Makefiles of headers include each other by absolute paths, which
		// a container has to mount where they are on the host.
		h.Dir = at
	}
	log := filepath.Join(parent, buildLog)
	if err := s.runMake(ctx, h, work, tools, b.Version, log); err != nil {
		return nil, err
	}
	return out, b.keep(work, dir)
}

// keyTag tells signed modules from others, and by whom.
func (b Build) keyTag() string {
	if b.Key == nil {
		return ""
	}
	return fmt.Sprintf("-%s-%.16x", b.Hash, b.Key.Certificate.SubjectKeyId)
}

// signatureHash is what the kernel's own modules are signed with.
func signatureHash(c Config) string {
	if _, ok := hashes[c["MODULE_SIG_HASH"]]; ok {
		return c["MODULE_SIG_HASH"]
	}
	return defaultHash
}

// linkHeaders makes links to what headers are made of, where nothing else is. What is
// missing then, the build tells.
func (s *System) linkHeaders(release string) {
	for _, pattern := range []string{"/usr/src/*", "/usr/lib/linux-kbuild-*", "/lib/modules/" + release, "/usr/lib/modules/" + release} {
		found, _ := filepath.Glob(filepath.Join(s.Root, pattern))
		for _, there := range found {
			here := s.shown(there)
			if _, err := os.Lstat(here); err != nil && os.MkdirAll(filepath.Dir(here), 0o755) == nil {
				_ = os.Symlink(there, here)
			}
		}
	}
}

// runMake builds external modules (Documentation/kbuild/modules.rst). BTF
// is left out: it needs the kernel's vmlinux, which headers do not have.
func (s *System) runMake(ctx context.Context, h *Headers, work string, tools *Toolchain, version, log string) error {
	f, err := os.Create(log)
	if err != nil {
		return explainWrite(err, filepath.Dir(log))
	}
	defer f.Close()
	search := os.Getenv("PATH")
	if tools.Root != "" {
		work, search = s.shown(work), strings.Join(programDirs, ":")
	}
	args := append([]string{"-C", h.Dir, "M=" + work, fmt.Sprintf("-j%d", runtime.NumCPU()), "CONFIG_DEBUG_INFO_BTF_MODULES="}, tools.Args...)
	if v := moduleVersion(version); v != "" {
		args = append(args, "NETIO_VERSION="+v)
	}
	cmd := exec.CommandContext(ctx, tools.make, append(args, "modules")...)
	// Variables of ours, as ARCH or MAKEFLAGS, would become make's.
	cmd.Env = []string{"PATH=" + search, "HOME=" + work, "LC_ALL=C", "TMPDIR=" + work}
	// What make has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Chroot: tools.Root}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	if tools.Root != "" {
		cmd.Dir = "/"
	}
	cmd.Stdout, cmd.Stderr = f, f
	fmt.Fprintf(f, "%s\n", strings.Join(cmd.Args, " "))
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("build module: %w", ctx.Err())
		}
		return problem(BuildFailed, "see "+log, "the module does not build: %v%s", err, complaints(log)).of(err)
	}
	return nil
}

// moduleVersion is what the module gets as its version (kmod/Kbuild): this program's, "" if that
// is not fit for a macro in C.
func moduleVersion(version string) string {
	for _, c := range version {
		if !strings.ContainsRune("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.+~_-", c) {
			return ""
		}
	}
	return strings.TrimPrefix(version, "v")
}

// complaints are the first lines of a log that say what is wrong.
func complaints(log string) string {
	b, err := os.ReadFile(log)
	if err != nil {
		return ""
	}
	var found []string
	for line := range bytes.Lines(b) {
		text := strings.TrimSpace(string(line))
		if strings.HasPrefix(text, "make") && len(found) > 0 {
			continue
		}
		lower := strings.ToLower(text)
		if strings.Contains(lower, "error") || strings.Contains(lower, "not found") || strings.Contains(lower, "undefined!") || strings.Contains(text, "***") {
			found = append(found, text)
		}
		if len(found) == 4 {
			break
		}
	}
	if len(found) == 0 {
		return ""
	}
	return ":\n  " + strings.Join(found, "\n  ")
}

// keep moves the modules that were built into the cache, signed.
func (b Build) keep(work, dir string) error {
	modules, err := filepath.Glob(filepath.Join(work, "*.ko"))
	if err != nil {
		return err
	}
	if len(modules) == 0 {
		return problem(BuildFailed, "see "+filepath.Join(filepath.Dir(dir), buildLog), "make succeeded, but there is no module")
	}
	out := work + ".out"
	if err := os.Mkdir(out, 0o755); err != nil {
		return explainWrite(err, filepath.Dir(dir))
	}
	defer os.RemoveAll(out)
	for _, m := range modules {
		data, err := os.ReadFile(m)
		if err != nil {
			return err
		}
		if b.Key != nil {
			if data, err = Sign(data, b.Key, b.Hash); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(out, filepath.Base(m)), data, 0o644); err != nil {
			return explainWrite(err, filepath.Dir(dir))
		}
	}
	// What is there could not be read: left by a crash.
	if err := os.RemoveAll(dir); err != nil {
		return explainWrite(err, filepath.Dir(dir))
	}
	if err := os.Rename(out, dir); err != nil {
		return explainWrite(err, filepath.Dir(dir))
	}
	return nil
}

// lock waits for an exclusive lock on a file. The kernel releases it with the process.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return func() { f.Close() }, nil
}

// SignatureHash is the hash that the running kernel's modules are signed with, as far as its
// configuration tells.
func (s *System) SignatureHash() string {
	k, err := s.Running()
	if err != nil {
		return defaultHash
	}
	return signatureHash(k.Config)
}
