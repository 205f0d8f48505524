// SPDX-License-Identifier: Apache-2.0

// Command netio-operator does for a cluster what is no single node's business; see
// docs/kubernetes.md.
package main

import (
	"os"

	"netio.dev/netio/pkg/operator/command"
	"netio.dev/netio/pkg/version"
)

func main() { os.Exit(command.Main(version.String())) }
