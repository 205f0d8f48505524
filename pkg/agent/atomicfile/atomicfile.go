// SPDX-License-Identifier: Apache-2.0

// Package atomicfile writes files that are either the old or the new one
// whole, whenever the process is killed or the power fails.
package atomicfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// stray marks the names of files that are not whole yet.
const stray = ".new-"

// Write puts data in the file and returns when that is on disk. The content
// goes to another file in the same folder first, which then takes the name.
func Write(path string, data []byte, mode os.FileMode) (err error) {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+name+stray+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// Remove deletes the file and returns when that is on disk. A file that is
// not there is no error.
func Remove(path string) error {
	switch err := os.Remove(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return syncDir(filepath.Dir(path))
}

// IsStray tells whether name is that of a file which Write did not finish.
func IsStray(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, stray)
}

func syncDir(dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
