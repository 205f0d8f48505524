// SPDX-License-Identifier: Apache-2.0

package node

// The sockets at which agent and forwarder can be asked, on the node.
const (
	AgentSocket     = "/run/netio/agent.sock"
	ForwarderSocket = "/run/netio/forwarder.sock"
)
