// SPDX-License-Identifier: Apache-2.0

// Command netio-agent wires containers to NetIO; see docs/standalone.md. Its
// subcommand forward is the forwarder.
package main

import (
	"os"

	"netio.dev/netio/pkg/agent/command"
	"netio.dev/netio/pkg/dataplane/process"
	"netio.dev/netio/pkg/version"
)

func main() {
	v := version.String()
	os.Exit(command.Main(v, process.NewCommand(v)))
}
