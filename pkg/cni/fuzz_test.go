// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"google.golang.org/protobuf/proto"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// FuzzStdin feeds the configuration readers: no panic, and what they accept
// makes a request that gRPC can carry and results in every version.
func FuzzStdin(f *testing.F) {
	base := `{"cniVersion": "1.1.0", "name": "net", "type": "netio-cni"`
	for _, members := range []string{
		``,
		`, "agentSocket": "/run/netio/agent.sock", "mtu": 1450, "timeoutSeconds": 5, "stateDir": "/var/lib/netio"`,
		`, "args": {"cni": {"labels": [{"key": "app", "value": "web"}], "ips": ["10.0.0.5/24"]}}`,
		`, "runtimeConfig": {"ips": ["fd00::5"], "dns": {"servers": ["10.0.0.10"]}, "portMappings": []}, "ipMasq": true`,
		`, "dns": {"nameservers": ["10.0.0.10"], "search": ["x"]}, "ipam": {}, "capabilities": {"ips": true}`,
		`, "cni.dev/valid-attachments": [{"containerID": "abc", "ifname": "eth0"}], "cni.dev/attachments": null`,
		`, ` + prevOfCheck,
		`, "prevResult": {"ips": [null], "routes": [{"dst": "0.0.0.0/0"}]}`,
	} {
		f.Add([]byte(base + members + "}"))
	}
	f.Add([]byte(`{"cniVersion": "0.3.1", "name": "net", "prevResult": {"interfaces": [{"name": "x"}], "ips": [{"version": "4", "address": "10.0.0.1/8", "interface": 0}]}}`))
	f.Add([]byte(`{"cniVersion": "0.4.0", "name": "net", "unknown": "field"}`))
	f.Fuzz(func(t *testing.T, stdin []byte) {
		_, _ = readDelConfig(stdin)
		c, err := readConfig(stdin)
		if err != nil {
			return
		}
		args := &skel.CmdArgs{ContainerID: "abc", Netns: netnsNo, IfName: "eth0", StdinData: stdin}
		req, err := c.addRequest(args)
		if err != nil {
			t.Fatalf("a configuration that is right makes no request: %v", err)
		}
		if _, err := proto.Marshal(req); err != nil {
			t.Fatal(err)
		}
		r, err := c.result(args, answer(&agentv1.AddRequest{Id: req.GetId()}))
		if err != nil {
			t.Fatal(err)
		}
		if i := interfaceOf(r, "eth0"); i >= 0 {
			addresses(r, i)
		}
		for _, v := range Versions.SupportedVersions() {
			out, err := r.GetAsVersion(v)
			if err != nil {
				t.Fatalf("as %s: %v", v, err)
			}
			if err := out.PrintTo(new(bytes.Buffer)); err != nil {
				t.Fatalf("as %s: %v", v, err)
			}
		}
	})
}

// FuzzArgs feeds CNI_ARGS: no panic, and what is accepted can be sent.
func FuzzArgs(f *testing.F) {
	for _, s := range []string{
		"", ";", "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=d",
		"IP=10.0.0.5", "IP=fd00::5/64", "FOO=BAR", "IgnoreUnknown=True;FOO", "K8S_POD_NAME==;=", "IP=\xff",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := readPodArgs(s)
		if err != nil {
			if strings.TrimSpace(err.Error()) == "" {
				t.Error("an error without words")
			}
			return
		}
		req := &agentv1.AddRequest{PodNamespace: p.namespace, PodName: p.name, PodUid: p.uid}
		if p.ip.IsValid() {
			req.RequestedIps = []string{p.ip.String()}
		}
		if _, err := proto.Marshal(req); err != nil {
			t.Error(err)
		}
	})
}
