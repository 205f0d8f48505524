// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"testing"

	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/test/kind/state"
	"netio.dev/netio/test/kind/topology"
)

func TestAgentConfigIsValid(t *testing.T) {
	nodes, err := topology.Nodes(1)
	if err != nil {
		t.Fatal(err)
	}
	for _, kubeProxy := range []bool{true, false} {
		dir := t.TempDir()
		if err := (&machine{Node: nodes[0], record: &state.Record{KubeProxy: kubeProxy}}).writeConfigs(dir); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "agent.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.ParseNode("agent.yaml", text)
		if err != nil {
			t.Fatal(err)
		}
		if c.InstallCNI == nil || c.KubeProxyReplacement == kubeProxy {
			t.Errorf("kube-proxy %v: %+v", kubeProxy, c)
		}
	}
}
