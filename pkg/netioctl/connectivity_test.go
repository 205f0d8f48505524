// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"netio.dev/netio/pkg/netioctl/connectivity"
	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

func TestConnectivityUsage(t *testing.T) {
	t.Setenv("KUBECONFIG", "/none/config")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for args, c := range map[string]struct {
		code int
		want string
	}{
		"connectivity test":                         {exitError, "find the cluster"},
		"connectivity test n1":                      {exitUsage, `"n1" is too much`},
		"connectivity test --world example.com:80":  {exitUsage, "expected ADDRESS:PORT"},
		"connectivity test --world 192.0.2.1":       {exitUsage, "expected ADDRESS:PORT"},
		"connectivity test --wait 0s":               {exitUsage, "--wait"},
		"connectivity test --timeout -1s":           {exitUsage, "--timeout"},
		"connectivity test --max-nodes -1":          {exitUsage, "--max-nodes"},
		"connectivity test --host-port 0":           {exitUsage, "--host-port"},
		"connectivity test --host-port 70000":       {exitUsage, "--host-port"},
		"connectivity tset":                         {exitUsage, "did you mean test?"},
		"connectivity":                              {exitOK, "test"},
		"connectivity test --kubeconfig /none/here": {exitError, "/none/here"},
	} {
		b := newBed(t, nil, false)
		if code := b.do(t, strings.Fields(args)...); code != c.code || !strings.Contains(b.out.String()+b.errOut.String(), c.want) {
			t.Errorf("%s: exit code %d, %q, %q", args, code, b.out.String(), b.errOut.String())
		}
	}
}

func TestShowConnectivity(t *testing.T) {
	link := func(kind connectivity.Kind, from, to connectivity.End, family int, by probe.How) connectivity.Link {
		return connectivity.Link{Kind: kind, From: from, To: to, Family: family, By: by}
	}
	n1, n2, node := connectivity.End{What: connectivity.Pod, Node: "n1"}, connectivity.End{What: connectivity.Pod, Node: "n2"}, connectivity.End{What: connectivity.Node, Node: "n1"}
	ok := connectivity.Result{Link: link(connectivity.OtherNode, n1, n2, 4, probe.UDP), State: connectivity.OK}
	broken := connectivity.Result{Link: link(connectivity.OtherNode, n1, n2, 6, probe.TCP), State: connectivity.Failed, Why: "no answer within 3s", Trace: "on n2: dropped: policy-ingress, by ingress policy, shop/db", Dropped: true}
	skipped := connectivity.Result{Link: link(connectivity.PodToNode, n1, node, 6, probe.Echo), State: connectivity.Skipped, Why: "the node n1 has no IPv6 address"}
	for name, c := range map[string]struct {
		report connectivity.Report
		want   string
	}{
		"well": {
			connectivity.Report{Nodes: []string{"n1", "n2"}, OK: 1, Links: []connectivity.Result{ok}},
			`LINKS                    OK   FAILED   SKIPPED   BY
pod to pod, other node    1        0         0   IPv4, UDP

All is well: 1 link on 2 nodes
`,
		},
		"broken": {
			connectivity.Report{
				Nodes: []string{"n1", "n2"}, OK: 1, Failed: 1, Skipped: 1, Links: []connectivity.Result{ok, broken, skipped},
				Conclusions: []string{"IPv6 between n1 and n2: NetIO drops packets"}, Notes: []string{"the world is not tested"},
			},
			`LINKS                    OK   FAILED   SKIPPED   BY
pod to pod, other node    1        1         0   IPv4, IPv6, UDP, TCP
pod to node               0        0         1   IPv6, ICMP echo

Where it is broken
  IPv6 between n1 and n2: NetIO drops packets

Broken links
  pod on n1 -> pod on n2, IPv6, TCP: no answer within 3s
      netioctl trace: on n2: dropped: policy-ingress, by ingress policy, shop/db

Skipped
  pod to node (1): the node n1 has no IPv6 address

Not tested
  the world is not tested

Broken: 1 of 2 links
`,
		},
		"not done": {
			connectivity.Report{Nodes: []string{"n1"}, OK: 1, Links: []connectivity.Result{ok}, Ended: "not done within 5m0s (--timeout)"},
			`LINKS                    OK   FAILED   SKIPPED   BY
pod to pod, other node    1        0         0   IPv4, UDP

Not done: not done within 5m0s (--timeout)
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := newApp("", &out, nil).showConnectivity(&out, &c.report); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestObserver: what a connectivity test asks of forwarders.
func TestObserver(t *testing.T) {
	b := newBed(t, goldenForwarder(), true)
	b.timeout, b.forwarderSocket, b.agentSocket = time.Minute, filepath.Join(b.dir, "forwarder.sock"), filepath.Join(b.dir, "agent.sock")
	o := observer{b.app}
	count, err := o.Drops(t.Context(), "node-a")
	if err != nil || count["policy-ingress"] != 112 || count["unknown-port"] != 15_200 {
		t.Errorf("%v, %v", count, err)
	}
	client := netip.MustParseAddr("10.42.0.5")
	for to, c := range map[string]struct {
		text    string
		dropped bool
	}{
		"10.42.0.7:80":   {"on node-a: dropped: policy-ingress, by ingress policy, isolation by default/web", true},
		"10.42.0.7:8080": {"delivered to default/web, port knet7f3a", false},
	} {
		text, dropped, err := o.Trace(t.Context(), "node-a", "default/client", client, netip.MustParseAddrPort(to), probe.TCP)
		if err != nil || text != c.text || dropped != c.dropped {
			t.Errorf("%s: %q, %v, %v", to, text, dropped, err)
		}
	}
	if _, _, err := o.Trace(t.Context(), "node-a", "default/nobody", client, netip.MustParseAddrPort("10.42.0.7:80"), probe.TCP); err == nil {
		t.Error("no error for a pod that is not there")
	}
}
