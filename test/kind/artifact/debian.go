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
	if err := renew(dir); err != nil {
		return err
	}
	if err := b.apt(ctx, dir, "download", name); err != nil {
		return err
	}
	return b.extract(ctx, dir, dir)
}

// unpackAll puts the files of packages and of all that they depend on into dir,
// which can be a root then.
func (b *Builder) unpackAll(ctx context.Context, dir string, names []string) error {
	archives := dir + ".archives"
	if err := errors.Join(renew(dir), renew(archives)); err != nil {
		return err
	}
	// As on a machine on which nothing is installed.
	const status = "status"
	if err := os.WriteFile(filepath.Join(archives, status), nil, 0o644); err != nil {
		return err
	}
	args := append([]string{"-y", "--no-install-recommends", "--download-only",
		"-o", "Dir::State::status=" + filepath.Join(archives, status),
		"-o", "Dir::Cache::archives=" + archives, "install"}, names...)
	if err := b.apt(ctx, archives, args...); err != nil {
		return err
	}
	if err := b.extract(ctx, archives, dir); err != nil {
		return err
	}
	return os.RemoveAll(archives)
}

// apt calls apt-get, and again with new lists of packages: they may be missing or
// too old.
func (b *Builder) apt(ctx context.Context, dir string, args ...string) error {
	args = append([]string{"-qq", "-o", "APT::Sandbox::User=root"}, args...)
	if _, err := b.output(ctx, dir, "apt-get", args...); err == nil {
		return nil
	}
	if _, err := b.output(ctx, dir, "apt-get", "-qq", "update"); err != nil {
		return err
	}
	_, err := b.output(ctx, dir, "apt-get", args...)
	return err
}

// extract puts the files of all packages that lie in a folder into dir, and
// removes the packages.
func (b *Builder) extract(ctx context.Context, packages, dir string) error {
	files, err := filepath.Glob(filepath.Join(packages, "*.deb"))
	if err != nil || len(files) == 0 {
		return errors.Join(fmt.Errorf("no package came to %s", packages), err)
	}
	for _, file := range files {
		if _, err := b.output(ctx, dir, "dpkg", "-x", file, "."); err != nil {
			return err
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// renew makes an empty folder.
func renew(dir string) error {
	return errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
}
