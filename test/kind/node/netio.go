// SPDX-License-Identifier: Apache-2.0

package node

import "path/filepath"

// NetIO serves each node as a host of its own (docs/standalone.md): what the
// cluster tells a node, its prefixes, is brought by package cluster.

// AgentConfig is the agent's configuration, on the node. At the sockets agent and
// forwarder can be asked.
const (
	AgentConfig     = "/etc/netio/agent.yaml"
	AgentSocket     = "/run/netio/agent.sock"
	ForwarderSocket = "/run/netio/forwarder.sock"
)

// netio is what runs from the beginning.
func (m *machine) netio() []service {
	return []service{{"netio-forwarder", filepath.Join(netioDir, "netio-agent"), []string{"forward", "--device", "soft"}}}
}

func (m *machine) agent() service {
	return service{"netio-agent", filepath.Join(netioDir, "netio-agent"), []string{"--standalone", "--config", AgentConfig}}
}
