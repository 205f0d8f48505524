// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// utsRelease is where the release is that vermagic gets. include/config/kernel.release
// is another on Debian.
const utsRelease = "include/generated/utsrelease.h"

// Headers are a kernel's headers, or its built tree.
type Headers struct {
	Dir     string `json:"dir"`
	Release string `json:"release"`
	config  Config
}

// FindHeaders finds what modules of the running kernel are built against. The
// error is a Problem with NoHeaders.
func (s *System) FindHeaders(k *Running, dir string) (*Headers, error) {
	at, link := dir, dir
	if dir == "" {
		dir = path.Join("/lib/modules", k.Release, "build")
		at, link = s.path(dir), filepath.Join(s.path(path.Dir(dir)), "build")
	}
	if _, err := os.Stat(filepath.Join(at, "Makefile")); err != nil {
		missing := "there are no headers of kernel " + k.Release + " (" + dir + ")"
		if fi, lerr := os.Lstat(link); lerr == nil && fi.Mode()&fs.ModeSymlink != 0 {
			missing = fmt.Sprintf("there are no headers of kernel %s (%s is a link to nowhere; in a container, mount what it points to)", k.Release, dir)
		}
		return nil, problem(NoHeaders, k.OS.headersCure(k.Release), "%s", missing).of(err)
	}
	h := &Headers{Dir: at}
	text, err := os.ReadFile(filepath.Join(at, utsRelease))
	if err != nil {
		return nil, problem(NoHeaders, "prepare them (make modules_prepare), or "+k.OS.headersCure(k.Release),
			"%s is not prepared for modules: %v", dir, err).of(err)
	}
	h.Release = parseUTSRelease(string(text))
	if h.Release != k.Release {
		return nil, problem(NoHeaders, k.OS.headersCure(k.Release), "%s is for kernel %s, the running one is %s", dir, h.Release, k.Release)
	}
	b, err := os.ReadFile(filepath.Join(at, ".config"))
	if errors.Is(err, fs.ErrNotExist) {
		b, err = os.ReadFile(filepath.Join(at, "include/config/auto.conf"))
	}
	if err == nil {
		h.config, err = ParseConfig(bytes.NewReader(b))
	}
	if err != nil {
		return nil, problem(NoHeaders, "", "read configuration in %s: %v", dir, err).of(err)
	}
	return h, nil
}

// parseUTSRelease reads `#define UTS_RELEASE "6.1.0-56-amd64"`, "" if it is not there.
func parseUTSRelease(text string) string {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "#define UTS_RELEASE "); ok {
			return unquote(strings.TrimSpace(value))
		}
	}
	return ""
}

// Toolchain is what to build with.
type Toolchain struct {
	Args []string // of make: CC=gcc-12, or LLVM=1
	Note string   // if it is not the one that the kernel was built with
	// Root is where its programs run (chroot(2)), "" for this process's own root.
	Root string
	make string // path of make there
}

// lookPath finds programs: exec.LookPath, or another in a test.
type lookPath func(string) (string, error)

// FindToolchain finds make and the compiler of the kernel, by the name that its configuration
// tells (CONFIG_CC_VERSION_TEXT), or one of the same kind. The compiler may be given. Of a
// system with its files elsewhere that is its own toolchain, if it has all of it and if
// headers and cache are among its files: headers hold programs, for the system's
// libraries. The error is a Problem with NoToolchain.
func (s *System) FindToolchain(k *Running, h *Headers, b Build) (*Toolchain, error) {
	if s.Root != "/" && s.holds(h.Dir) && s.holds(b.Cache) {
		if t, err := findToolchain(k, h, b.CC, s.lookPath); err == nil {
			t.Root = filepath.Clean(s.Root)
			return t, nil
		}
	}
	return findToolchain(k, h, b.CC, exec.LookPath)
}

// programDirs are where a system has its programs.
var programDirs = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"}

// lookPath finds a program of the system, and its path there.
func (s *System) lookPath(program string) (string, error) {
	for _, dir := range programDirs {
		name := path.Join(dir, program)
		if path.IsAbs(program) {
			name = program
		}
		if fi, err := os.Stat(s.path(name)); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return name, nil
		}
	}
	return "", &exec.Error{Name: program, Err: exec.ErrNotFound}
}

func findToolchain(k *Running, h *Headers, cc string, look lookPath) (*Toolchain, error) {
	var missing []string
	have := func(program string) bool {
		_, err := look(program)
		return err == nil
	}
	t := &Toolchain{}
	var err error
	if t.make, err = look("make"); err != nil {
		missing = append(missing, "make")
	}
	text := first(h.config["CC_VERSION_TEXT"], k.Compiler)
	kind, major := "gcc", version(h.config["GCC_VERSION"])
	if h.config.On("CC_IS_CLANG") {
		kind, major = "clang", version(h.config["CLANG_VERSION"])
	}
	named := fmt.Sprintf("%s-%d", kind, major)
	switch {
	case cc != "":
		if !have(cc) {
			missing = append(missing, cc)
		}
		t.use(cc)
	case major > 0 && have(named):
		t.use(named)
	case have(program(text)):
		t.use(program(text))
	case have(kind):
		t.use(kind)
		t.Note = fmt.Sprintf("the kernel was built with %q, and %s is another or has another name", text, kind)
	case major > 0:
		missing = append(missing, named)
	default:
		missing = append(missing, kind)
	}
	// Binutils come with gcc, not with clang.
	if linker := "ld"; kind == "gcc" && !have(linker) {
		missing = append(missing, "binutils")
	}
	if len(missing) > 0 {
		return nil, problem(NoToolchain, k.OS.toolsCure(missing...), "to build the module %s is missing (the kernel was built with %q)",
			strings.Join(missing, " and "), text)
	}
	return t, nil
}

// use sets make's arguments (Documentation/kbuild/llvm.rst): with clang, all
// of LLVM's tools, of the same version.
func (t *Toolchain) use(cc string) {
	dir, base := filepath.Split(cc)
	suffix, isClang := strings.CutPrefix(base, "clang")
	switch {
	case !isClang:
		t.Args = []string{"CC=" + cc}
	case dir != "":
		t.Args = []string{"LLVM=" + dir}
	case suffix == "":
		t.Args = []string{"LLVM=1"}
	default:
		t.Args = []string{"LLVM=" + suffix}
	}
}

// program is the first word of a compiler's version, if it names one. That is not
// so of "Debian clang version 14.0.6".
func program(text string) string {
	word, _, _ := strings.Cut(text, " ")
	if strings.Contains(word, "gcc") || strings.HasPrefix(word, "clang") {
		return word
	}
	return "unknown-compiler"
}

// version is the major version: of 120200 that is 12.
func version(number string) int {
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n / 10000
}
