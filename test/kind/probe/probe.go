// SPDX-License-Identifier: Apache-2.0

// Package probe is what test pods run: one static binary, alone in its image.
//
//	probe serve [PORT]      TCP and UDP: say who is asked and who asks; on TCP echo what follows
//	probe reach TARGET...   ask each of them, and print a line of JSON for each
//	probe echo BYTES TARGET...  have each echo so many bytes, by TCP, and compare them
//	probe hold HOST:PORT    questions over one connection until standard input ends
//	probe load RATE HOST:PORT   so many connections a second until standard input ends
//
// A TARGET is tcp4://HOST:PORT, tcp6://..., udp4://..., udp6://...; a HOST can be
// a name, which is looked up in the family that is asked for.
package probe

import (
	"fmt"
	"os"
)

// PortName is what pods call their port.
const PortName = "probe"

// DefaultPort is not a privileged one, since pods may run as anybody.
const DefaultPort = "8080"

// Main is the program.
func Main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		return serve(DefaultPort)
	case len(args) == 2 && args[0] == "serve":
		return serve(args[1])
	case len(args) > 1 && args[0] == "reach":
		return reach(args[1:])
	case len(args) > 2 && args[0] == "echo":
		return echo(args[1], args[2:])
	case len(args) == 2 && args[0] == "hold":
		return hold(args[1])
	case len(args) == 3 && args[0] == "load":
		return load(args[1], args[2], os.Stdin, os.Stdout)
	}
	return fmt.Errorf("usage: probe serve [PORT] | reach TARGET... | echo BYTES TARGET... | hold HOST:PORT | load RATE HOST:PORT")
}
