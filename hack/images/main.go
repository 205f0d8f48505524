// SPDX-License-Identifier: Apache-2.0

// Command images packs NetIO's programs as container images, without a container
// engine and without a registry: archives in the OCI image layout, which any runtime
// imports (ctr images import, podman load, skopeo copy oci-archive:...).
package main

import (
	"flag"
	"fmt"
	"os"

	"netio.dev/netio/hack/images/image"
)

func main() {
	var n image.NetIO
	flag.StringVar(&n.Bin, "bin", "bin", "`folder` of the programs")
	flag.StringVar(&n.To, "to", "build/images", "`folder` of the archives")
	flag.StringVar(&n.Version, "version", "devel", "the images' `tag`")
	flag.StringVar(&n.Revision, "revision", "", "`commit` of the sources")
	flag.Parse()
	if err := run(&n); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(n *image.NetIO) error {
	if err := os.MkdirAll(n.To, 0o755); err != nil {
		return fmt.Errorf("make folder of archives: %w", err)
	}
	if err := n.Write(); err != nil {
		return err
	}
	for _, archive := range n.Archives() {
		fmt.Println(archive)
	}
	return nil
}
