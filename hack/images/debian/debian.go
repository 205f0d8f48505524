// SPDX-License-Identifier: Apache-2.0

// Package debian unpacks packages of the machine's own Debian or Ubuntu mirror into folders,
// without installing them.
package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoApt is returned where there is no Debian or Ubuntu.
var ErrNoApt = errors.New("there is no apt-get: packages of Debian or Ubuntu cannot be had here")

// Unpack puts the files of one package into dir, which it empties before.
func Unpack(ctx context.Context, dir, name string) error {
	if err := renew(dir); err != nil {
		return err
	}
	if err := apt(ctx, dir, "download", name); err != nil {
		return err
	}
	return extract(ctx, dir, dir)
}

// UnpackAll puts the files of packages and of all that they depend on into dir,
// which can be a root then.
func UnpackAll(ctx context.Context, dir string, names []string) error {
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
	if err := apt(ctx, archives, args...); err != nil {
		return err
	}
	if err := extract(ctx, archives, dir); err != nil {
		return err
	}
	return os.RemoveAll(archives)
}

// apt calls apt-get, and again with new lists of packages: they may be missing or
// too old.
func apt(ctx context.Context, dir string, args ...string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return ErrNoApt
	}
	args = append([]string{"-qq", "-o", "APT::Sandbox::User=root"}, args...)
	if run(ctx, dir, "apt-get", args...) == nil {
		return nil
	}
	if err := run(ctx, dir, "apt-get", "-qq", "update"); err != nil {
		return err
	}
	return run(ctx, dir, "apt-get", args...)
}

// extract puts the files of all packages that lie in a folder into dir, and
// removes the packages.
func extract(ctx context.Context, packages, dir string) error {
	files, err := filepath.Glob(filepath.Join(packages, "*.deb"))
	if err != nil || len(files) == 0 {
		return errors.Join(fmt.Errorf("no package came to %s", packages), err)
	}
	for _, file := range files {
		if err := run(ctx, dir, "dpkg", "-x", file, "."); err != nil {
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

// run runs a command. An error has the end of its output.
func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	if err != nil {
		const enough = 4000
		return fmt.Errorf("%s %s: %w\n%s", name, args[0], err, out[max(0, len(out)-enough):])
	}
	return nil
}
