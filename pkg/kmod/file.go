// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// maxModule bounds a module, in bytes, after it was unpacked.
const maxModule = 256 << 20

// File is a module on disk.
type File struct {
	ModInfo
	Path string `json:"path"`
	Fits bool   `json:"fits"`          // this kernel and this program
	Why  string `json:"why,omitempty"` // it does not
	why  Reason
	data *os.File
}

// compression is how a file of this name is packed, "" if it is not.
// (Documentation/kbuild/modules.rst, CONFIG_MODULE_COMPRESS.)
func compression(path string) string {
	switch ext := filepath.Ext(path); ext {
	case ".gz", ".xz", ".zst":
		return ext
	}
	return ""
}

// moduleName of a file name, "" if it is not one of a module. The kernel
// writes an underscore for a dash.
func moduleName(path string) string {
	base := strings.TrimSuffix(filepath.Base(path), compression(path))
	name, ok := strings.CutSuffix(base, ".ko")
	if !ok {
		return ""
	}
	return strings.ReplaceAll(name, "-", "_")
}

// openFile opens a module. What is loaded is the file that was looked at: it
// is kept open, a packed one unpacked into memory. Close it.
// Errors are those of ReadModInfo, of unpacking, and of the file system.
func openFile(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if kind := compression(path); kind != "" {
		packed := f
		f, err = unpack(packed, kind)
		packed.Close()
		if err != nil {
			return nil, fmt.Errorf("unpack %s: %w", path, err)
		}
	}
	info, err := readOpen(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &File{ModInfo: *info, Path: path, data: f}, nil
}

func readOpen(f *os.File) (*ModInfo, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: not a regular file", ErrModule)
	}
	return ReadModInfo(f, fi.Size())
}

// ReadFile looks at a module, packed or not. Errors are those of ReadModInfo, of
// unpacking, and of the file system.
func ReadFile(path string) (*ModInfo, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	return &f.ModInfo, f.Close()
}

// Close closes the file.
func (f *File) Close() error { return f.data.Close() }

func unpack(packed io.Reader, kind string) (*os.File, error) {
	var r io.Reader
	var err error
	switch kind {
	case ".gz":
		r, err = gzip.NewReader(packed)
	case ".xz":
		r, err = xz.NewReader(packed)
	case ".zst":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(packed, zstd.WithDecoderConcurrency(1)); err == nil {
			defer z.Close()
			r = z
		}
	}
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("netio-module", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "netio-module")
	n, err := io.Copy(f, io.LimitReader(r, maxModule+1))
	if err == nil && n > maxModule {
		err = fmt.Errorf("%w: more than %d bytes", ErrModule, maxModule)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// machines are the ELF machines by uname -m.
var machines = map[string]elf.Machine{
	"x86_64": elf.EM_X86_64, "aarch64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV,
	"ppc64le": elf.EM_PPC64, "s390x": elf.EM_S390, "loongarch64": elf.EM_LOONGARCH,
}

// judge sets whether the file fits kernel and program. The vermagic is that of another
// module of this kernel, "" if there is none to compare with.
func (f *File) judge(k *Running, vermagic string) {
	f.Fits, f.Why, f.why = false, "", ""
	want, known := machines[k.Machine]
	switch {
	case f.Name != Name:
		f.why, f.Why = NoModule, fmt.Sprintf("it is the module %s", f.Name)
	case known && f.Machine != want:
		f.why, f.Why = WrongKernel, fmt.Sprintf("it is for %v, this machine is %s", f.Machine, k.Machine)
	case f.release() != k.Release:
		f.why, f.Why = WrongKernel, fmt.Sprintf("it is for kernel %s", f.release())
	case vermagic != "" && f.Vermagic != vermagic:
		f.why, f.Why = WrongKernel, fmt.Sprintf("vermagic %q, modules of this kernel have %q", f.Vermagic, vermagic)
	case !abiServes(f.ABI):
		f.why, f.Why = WrongABI, fmt.Sprintf("%s, this program needs %s", named(f.ABI), wantABI)
	default:
		f.Fits = true
	}
}
