// SPDX-License-Identifier: Apache-2.0

// Probe is what test pods run; see package probe.
package main

import "netio.dev/netio/test/kind/probe"

func main() { probe.Main() }
