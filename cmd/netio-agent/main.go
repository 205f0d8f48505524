// SPDX-License-Identifier: Apache-2.0

// Command netio-agent wires containers to NetIO; see docs/standalone.md. Its
// subcommand forward is the forwarder, kmod looks after the kernel module.
package main

import (
	"os"

	"netio.dev/netio/pkg/agent/command"
	"netio.dev/netio/pkg/dataplane/process"
	kmod "netio.dev/netio/pkg/kmod/command"
	"netio.dev/netio/pkg/version"
)

func main() {
	v := version.String()
	os.Exit(command.Main(v, process.NewCommand(v), kmod.New(v)))
}
