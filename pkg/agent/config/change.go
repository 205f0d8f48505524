// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"reflect"
)

// fixed are the fields that only a restart of the agent changes: pods that
// run hold what was made from them.
var fixed = []struct {
	name  string
	value func(*Config) any
}{
	{"node", func(c *Config) any { return c.Node }},
	{"podCIDRs", func(c *Config) any { return c.PodCIDRs }},
	{"routerAddresses", func(c *Config) any { return c.RouterAddresses }},
	{"hostInterface", func(c *Config) any { return c.HostInterface }},
	{"runDir", func(c *Config) any { return c.RunDir }},
	{"stateDir", func(c *Config) any { return c.StateDir }},
	{"socket", func(c *Config) any { return c.Socket }},
	{"forwarderSocket", func(c *Config) any { return c.ForwarderSocket }},
	{"coolDown", func(c *Config) any { return c.CoolDown }},
	{"tunnel", func(c *Config) any { return c.Tunnel.String() }},
	{"metrics", func(c *Config) any { return c.Metrics.String() }},
}

// Merge takes over from next what can change while the agent runs. Fields
// that cannot keep the value of c, and there is one mistake for each that
// differs.
func (c *Config) Merge(file string, next *Config) (*Config, Mistakes) {
	var kept Mistakes
	for _, f := range fixed {
		if was, is := f.value(c), f.value(next); !reflect.DeepEqual(was, is) {
			kept = append(kept, Mistake{File: file, Field: f.name, Message: fmt.Sprintf(
				"changed from %v to %v, which takes effect when the agent is restarted (pods keep running); everything else is in force", was, is)})
		}
	}
	merged := *c
	merged.MTU = next.MTU
	merged.Masquerade = next.Masquerade
	merged.MasqueradeExcept = next.MasqueradeExcept
	merged.Connections = next.Connections
	merged.InstallCNI = next.InstallCNI
	merged.KubeProxyReplacement, merged.ExternalIPs = next.KubeProxyReplacement, next.ExternalIPs
	return &merged, kept
}
