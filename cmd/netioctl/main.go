// SPDX-License-Identifier: Apache-2.0

// Command netioctl shows what NetIO does on this machine; see docs/netioctl.md.
package main

import (
	"os"

	"netio.dev/netio/pkg/netioctl"
	"netio.dev/netio/pkg/version"
)

func main() {
	os.Exit(netioctl.Main(version.String()))
}
