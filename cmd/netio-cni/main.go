// SPDX-License-Identifier: Apache-2.0

// Command netio-cni is NetIO's CNI plugin; see docs/cni.md.
package main

import "netio.dev/netio/pkg/cni"

func main() {
	cni.Main()
}
