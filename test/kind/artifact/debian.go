// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// runc is the one of Debian or Ubuntu: it is C in part, and wants libseccomp. The
// package is unpacked and not installed, since to install it would remove
// Docker's own, where that is there.
func (b *Builder) runc(ctx context.Context) error {
	const what = "package runc"
	return b.once("runc", what, what, func() error {
		dir := filepath.Join(b.Dir.Debian(), "runc")
		if err := b.unpack(ctx, "runc", dir); err != nil {
			return err
		}
		for _, program := range []string{"usr/sbin/runc", "usr/bin/runc"} {
			if _, err := b.output(ctx, dir, "./"+program, "--version"); errors.Is(err, os.ErrNotExist) {
				continue
			} else if err != nil {
				return fmt.Errorf("%w; a library that it needs is missing: apt-get install libseccomp2", err)
			}
			return link(filepath.Join("..", "debian", "runc", program), filepath.Join(b.Dir.Bin(), "runc"))
		}
		return errors.New("there is no runc in the package")
	})
}

// unpack puts the files of a package into dir.
func (b *Builder) unpack(ctx context.Context, name, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	download := []string{"-qq", "-o", "APT::Sandbox::User=root", "download", name}
	if _, err := b.output(ctx, dir, "apt-get", download...); err != nil {
		// The lists of packages may be missing or too old.
		if _, err := b.output(ctx, dir, "apt-get", "-qq", "update"); err != nil {
			return err
		}
		if _, err := b.output(ctx, dir, "apt-get", download...); err != nil {
			return err
		}
	}
	packages, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("downloaded packages of %s: %v", name, packages)
	}
	_, err = b.output(ctx, dir, "dpkg", "-x", packages[0], ".")
	return errors.Join(err, os.Remove(packages[0]))
}
