// SPDX-License-Identifier: Apache-2.0

package node

import (
	"path/filepath"

	"netio.dev/netio/test/kind/pki"
)

// The sockets at which agent and forwarder can be asked, on the node.
const (
	AgentSocket     = "/run/netio/agent.sock"
	ForwarderSocket = "/run/netio/forwarder.sock"
)

// netio is what runs from the beginning.
func (m *machine) netio() []service {
	return []service{{"netio-forwarder", filepath.Join(netioDir, "netio-agent"), []string{"forward", "--device", "soft"}}}
}

// agent waits for the API server, and for NetIO's objects, by itself.
func (m *machine) agent() service {
	return service{"netio-agent", filepath.Join(netioDir, "netio-agent"), []string{
		"--config", filepath.Join(configDir, "agent.yaml"),
		"--kubeconfig", filepath.Join(pkiDir, pki.AgentConfig),
		"--node", m.Name}}
}

// operator is on the node that has the control plane.
func (m *machine) operator() []service {
	if !m.ControlPlane {
		return nil
	}
	return []service{{"netio-operator", filepath.Join(netioDir, "netio-operator"), []string{
		"--kubeconfig", filepath.Join(pkiDir, pki.OperatorConfig)}}}
}
