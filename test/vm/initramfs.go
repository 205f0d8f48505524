// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"netio.dev/netio/test/vm/control"
)

// File of the host that a machine has: a folder is taken with all that is in
// it.
type File struct {
	Guest string // absolute path in the machine
	Host  string
}

// ModuleFiles are the kernel modules among the host's files, in /modules of the
// machine.
func ModuleFiles(files ...string) []File {
	var out []File
	for _, file := range files {
		out = append(out, File{"/modules/" + filepath.Base(file), file})
	}
	return out
}

// Program is a program of the host, found in PATH, and the libraries it needs.
// In the machine it is in /bin.
func Program(name string) ([]File, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	files := []File{{"/bin/" + filepath.Base(name), path}}
	// ldd fails for a program that needs none.
	libraries, _ := exec.Command("ldd", path).Output()
	for word := range strings.FieldsSeq(string(libraries)) {
		if filepath.IsAbs(word) {
			files = append(files, File{word, word})
		}
	}
	return files, nil
}

// writeInitramfs writes an archive that is not compressed: an emulated CPU
// would take longer to unpack it than QEMU takes to copy it.
func writeInitramfs(file, init string, series Series, modules []string, files []File) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buffer := bufio.NewWriterSize(f, 1<<20)
	archive := newCPIO(buffer)
	for _, dir := range []string{"proc", "sys", "dev", "run", "tmp", "etc", "bin", "sbin", "var/lib", "var/run"} {
		archive.dir(dir)
	}
	// The kernel opens it before devtmpfs is mounted.
	archive.char("dev/console", 5, 1)

	if err := addTree(archive, File{"/init", init}); err != nil {
		return err
	}
	if err := addKernelModules(archive, series, modules); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, file := range files {
		if seen[file.Guest] {
			continue // libraries that programs share
		}
		seen[file.Guest] = true
		if err := addTree(archive, file); err != nil {
			return err
		}
	}
	if err := archive.close(); err != nil {
		return err
	}
	return buffer.Flush()
}

func addKernelModules(archive *cpioWriter, series Series, modules []string) error {
	if series.Modules == "" {
		return nil
	}
	dependencies, err := readDependencies(series.Modules)
	if err != nil {
		return fmt.Errorf("modules of %s: %w", series.Name, err)
	}
	var list strings.Builder
	for _, path := range dependencies.order(modules) {
		content, err := readModule(filepath.Join(series.Modules, path))
		if err != nil {
			return err
		}
		guest := "/lib/modules/" + moduleName(path) + ".ko"
		archive.file(guest, 0o644, content)
		fmt.Fprintln(&list, guest)
	}
	archive.file(control.ModuleList, 0o644, []byte(list.String()))
	return nil
}

// addTree adds a file, or a folder with what is in it. Links are followed: the
// machine has what they point at.
func addTree(archive *cpioWriter, file File) error {
	info, err := os.Stat(file.Host)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		content, err := os.ReadFile(file.Host)
		if err != nil {
			return err
		}
		archive.file(file.Guest, uint32(info.Mode().Perm()), content)
		return nil
	}
	return filepath.WalkDir(file.Host, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(file.Host, path)
		if err != nil {
			return err
		}
		guest := filepath.Join(file.Guest, below)
		if entry.IsDir() {
			archive.dir(guest)
			return nil
		}
		return addTree(archive, File{guest, path})
	})
}
