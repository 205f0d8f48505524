// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestCompletion(t *testing.T) {
	b := newBed(t, goldenForwarder(), true)
	for _, c := range []struct {
		line []string
		want string
	}{
		{[]string{"capture", ""}, "default/client default/web host knet12c0 knet7f3a"},
		{[]string{"capture", "kn"}, "knet12c0 knet7f3a"},
		{[]string{"capture", "host", ""}, ""},
		{[]string{"ports", "host", ""}, "default/client default/web knet12c0 knet7f3a"},
		{[]string{"drops", "default/"}, "default/client default/web"},
		{[]string{"endpoints", ""}, "default/client default/web staging/web"},
		{[]string{"endpoints", "-n", ""}, "default staging"},
		{[]string{"policy", "explain", "default/c"}, "default/client"},
		{[]string{"policy", "explain", "default/web", "default/"}, "default/client: default/web:"},
		{[]string{"policy", "explain", "default/web", "default/client:"}, ""},
		{[]string{"trace", ""}, "default/client default/web host staging/web world"},
		{[]string{"trace", "world", "default/"}, "default/client: default/web:"},
		{[]string{"trace", "--ingress", "h"}, "host"},
		{[]string{"trace", "--tcp-flags", ""}, "ack fin psh rst syn urg"},
		{[]string{"policy", "show", ""}, "default/trace default/web"},
		{[]string{"policy", ""}, "explain list show"},
		{[]string{"connectivity", ""}, "test"},
		{[]string{"connectivity", "test", ""}, ""},
		{[]string{"monitor", "--port", "h"}, "host"},
		{[]string{"monitor", "--reason", ""}, "policy-ingress spoofed-source unknown-port"},
		{[]string{"monitor", "--verdict", ""}, "allow audit deny drop"},
		{[]string{"flows", "--protocol", ""}, "ah esp gre icmp icmpv6 igmp ipip ipv6 sctp tcp udp"},
		{[]string{"flows", "--sort", ""}, "bytes idle none packets"},
		{[]string{"status", "-o", ""}, "json table yaml"},
	} {
		if code := b.do(t, append([]string{cobra.ShellCompNoDescRequestCmd}, c.line...)...); code != exitOK {
			t.Errorf("%v: exit code %d", c.line, code)
		}
		var got []string
		for _, l := range strings.Split(strings.TrimSpace(b.out.String()), "\n") {
			if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, ":") {
				got = append(got, l)
			}
		}
		slices.Sort(got)
		if g := strings.Join(got, " "); g != c.want {
			t.Errorf("%v: %q, want %q", c.line, g, c.want)
		}
	}
}

// Without daemons there is nothing to complete, and nothing is said.
func TestCompletionWithoutDaemons(t *testing.T) {
	b := newBed(t, nil, false)
	for _, line := range [][]string{{"capture", ""}, {"policy", "explain", ""}, {"endpoints", "-n", ""}, {"monitor", "--reason", ""}, {"policy", "show", ""}, {"connectivity", "test", "--nodes", ""}} {
		if code := b.do(t, append([]string{cobra.ShellCompNoDescRequestCmd}, line...)...); code != exitOK || !strings.HasPrefix(b.out.String(), ":4") {
			t.Errorf("%v: exit code %d, %q", line, code, b.out.String())
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	b := newBed(t, nil, false)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code := b.do(t, "completion", shell); code != exitOK || !strings.Contains(b.out.String(), "netioctl") {
			t.Errorf("%s: exit code %d", shell, code)
		}
	}
}

// commandsAndFlags lists what there is, as people write it.
func commandsAndFlags(root *cobra.Command) []string {
	var list []string
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		list = append(list, c.CommandPath())
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { list = append(list, "--"+f.Name) })
		c.PersistentFlags().VisitAll(func(f *pflag.Flag) { list = append(list, "--"+f.Name) })
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return list
}
