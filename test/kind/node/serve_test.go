// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/state"
	"netio.dev/netio/test/kind/topology"
)

func TestConfigs(t *testing.T) {
	nodes, err := topology.Nodes(2, topology.DualStack)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := (&machine{Node: nodes[1], record: &state.Record{}}).writeConfigs(dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "no value") {
			t.Errorf("%s: a value is missing: %s", name, text)
		}
		return text
	}
	var kubelet struct {
		ContainerRuntimeEndpoint, TLSCertFile string
		ClusterDNS                            []string
		MaxOpenFiles                          int
	}
	if err := yaml.Unmarshal(read("kubelet.yaml"), &kubelet); err != nil {
		t.Fatal(err)
	}
	if kubelet.TLSCertFile != "/etc/kubernetes/pki/kubelet-n2-serving.crt" || kubelet.ClusterDNS[0] != "10.96.0.10" ||
		kubelet.ContainerRuntimeEndpoint != "unix://"+containerdSocket || kubelet.MaxOpenFiles < 1 {
		t.Errorf("kubelet: %+v", kubelet)
	}
	var proxy struct {
		ClusterCIDR    string
		NodeIPOverride []string
	}
	if err := yaml.Unmarshal(read("kube-proxy.yaml"), &proxy); err != nil {
		t.Fatal(err)
	}
	if proxy.ClusterCIDR != "10.244.0.0/16,fd00:10:244::/56" || strings.Join(proxy.NodeIPOverride, " ") != "10.89.0.12 fd00:89::12" {
		t.Errorf("kube-proxy: %+v", proxy)
	}
	if text := string(read("containerd.toml")); !strings.Contains(text, `sandbox = "`+artifact.PauseImage+`"`) {
		t.Errorf("containerd: %s", text)
	}
}

func TestControlPlaneIsOnOneNode(t *testing.T) {
	nodes, err := topology.Nodes(2, topology.DualStack)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if list := (&machine{Node: n, record: &state.Record{}}).controlPlane(); (len(list) > 0) != n.ControlPlane {
			t.Errorf("%s runs %v", n.Name, list)
		}
	}
}
