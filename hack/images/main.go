// SPDX-License-Identifier: Apache-2.0

// Command images packs NetIO's programs as container images, without a container
// engine and without a registry: archives in the OCI image layout, which any runtime
// imports (ctr images import, podman load, skopeo copy oci-archive:...).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"netio.dev/netio/hack/images/debian"
	"netio.dev/netio/hack/images/image"
)

func main() {
	var n image.NetIO
	var toolchain bool
	flag.StringVar(&n.Bin, "bin", "bin", "`folder` of the programs")
	flag.StringVar(&n.To, "to", "build/images", "`folder` of the archives")
	flag.StringVar(&n.Version, "version", "devel", "the images' `tag`")
	flag.StringVar(&n.Revision, "revision", "", "`commit` of the sources")
	flag.StringVar(&n.Module, "module", "kmod", "`folder` of the kernel module's source")
	flag.BoolVar(&toolchain, "toolchain", true, "make netio-kmod too, of packages of Debian or Ubuntu")
	flag.Parse()
	if err := run(&n, toolchain); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

// toolchainPackages are what builds modules, and what the programs in kernels' headers
// (modpost, objtool) need of libraries.
var toolchainPackages = []string{"make", "gcc", "binutils", "libc6-dev", "libelf1", "zlib1g", "bash", "dash", "coreutils", "findutils", "grep", "sed", "gawk", "diffutils", "kmod", "perl-base"}

func run(n *image.NetIO, toolchain bool) error {
	if err := os.MkdirAll(n.To, 0o755); err != nil {
		return fmt.Errorf("make folder of archives: %w", err)
	}
	if toolchain {
		root, err := unpackToolchain(n.To)
		switch {
		case errors.Is(err, debian.ErrNoApt):
			fmt.Fprintln(os.Stderr, "images: netio-kmod is left out:", err)
		case err != nil:
			return err
		}
		n.Toolchain = root
	}
	if err := errors.Join(n.Write(), n.WriteSBOMs()); err != nil {
		return err
	}
	for _, archive := range n.Archives() {
		fmt.Println(archive)
	}
	return nil
}

// unpackToolchain makes the root of netio-kmod, unless it is there of the same packages.
func unpackToolchain(to string) (string, error) {
	root, err := filepath.Abs(filepath.Join(to, "toolchain"))
	if err != nil {
		return "", fmt.Errorf("find the folder of the toolchain: %w", err)
	}
	stamp, want := root+".packages", strings.Join(toolchainPackages, " ")
	if was, err := os.ReadFile(stamp); err == nil && string(was) == want {
		return root, nil
	}
	if err := debian.UnpackAll(context.Background(), root, toolchainPackages); err != nil {
		return "", fmt.Errorf("unpack the toolchain: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(root, "usr/share")); err != nil {
		return "", fmt.Errorf("leave documentation out: %w", err)
	}
	// What a package would link when it is installed.
	if err := os.Symlink("gawk", filepath.Join(root, "usr/bin/awk")); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("link awk: %w", err)
	}
	if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
		return "", fmt.Errorf("note what the toolchain is of: %w", err)
	}
	return root, nil
}
