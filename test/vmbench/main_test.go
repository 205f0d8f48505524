// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // in the error; "": none
	}{
		{"", ""},
		{"-kinds rates -topologies netio,direct -phases udp4,rr -o json", ""},
		{"-kinds speed", `-kinds: "speed" is none of instructions, rates`},
		{"-kinds=", `-kinds: "" is none of`},
		{"-topologies netio,veth", `-topologies: "veth" is none of direct, netio, bridge`},
		{"-phases udp", `-phases: "udp" is none of udp4, udp6, tcp, rr`},
		{"-o yaml", "use table or json"},
		{"extra", `unexpected argument "extra"`},
	} {
		_, err := parse(strings.Fields(c.args))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}
