// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"net/netip"
	"strings"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	dataplaneconfig "netio.dev/netio/pkg/dataplane/config"
)

func addrs(list string) (all []netip.Addr) {
	for _, s := range strings.Fields(list) {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}

func peerOf(name, addresses, pods string) Peer {
	p := Peer{Name: name, Addresses: addrs(addresses)}
	for _, s := range strings.Fields(pods) {
		p.PodCIDRs = append(p.PodCIDRs, netip.MustParsePrefix(s))
	}
	return p
}

// TestTunnels: whatever the cluster says of its nodes, the configuration is valid, and
// what is left out is told.
func TestTunnels(t *testing.T) {
	good := peerOf("n2", "192.0.2.2 2001:db8::2", "10.244.1.0/24 fd00:10:244:1::/64")
	for name, test := range map[string]struct {
		own      string
		peers    []Peer
		want     string // "port remote mtu", by name
		problems string
	}{
		"both families":         {"192.0.2.5 2001:db8::5", []Peer{good}, "tunnel-n2 192.0.2.2 1450", ""},
		"only IPv6 in common":   {"2001:db8::5", []Peer{good}, "tunnel-n2 2001:db8::2 1430", ""},
		"nothing in common":     {"2001:db8::5", []Peer{peerOf("n3", "192.0.2.3", "10.244.2.0/24"), good}, "tunnel-n2 2001:db8::2 1430", "node n3 has the addresses [192.0.2.3]"},
		"no forwarder there":    {"192.0.2.5", []Peer{peerOf("n3", "192.0.2.3", "")}, "", ""},
		"a node's address":      {"192.0.2.5", []Peer{good, peerOf("n3", "192.0.2.2", "10.244.2.0/24")}, "tunnel-n2 192.0.2.2 1450", "nodes n2 and n3 both have the address 192.0.2.2"},
		"this node's address":   {"192.0.2.5", []Peer{peerOf("n3", "192.0.2.5", "10.244.2.0/24")}, "", "nodes n1 and n3 both have the address"},
		"a node's prefix":       {"192.0.2.5", []Peer{good, peerOf("n3", "192.0.2.3", "10.244.1.0/24")}, "tunnel-n2 192.0.2.2 1450", "nodes n2 and n3 both have pods in 10.244.1.0/24"},
		"this node's prefix":    {"192.0.2.5", []Peer{peerOf("n3", "192.0.2.3", "10.244.0.0/24")}, "", "nodes n1 and n3 both have pods in"},
		"no address of its own": {"", []Peer{good}, "", "this one []"},
	} {
		t.Run(name, func(t *testing.T) {
			n := node()
			n.Name, n.KubeProxyReplacement, n.ServiceSources = "n1", true, addrs("10.244.0.2 fd00:10:244::2")
			n.Tunnel = &Tunnel{VNI: 7, Port: 4789, MTU: 1500, Addresses: addrs(test.own), Received: n.ServiceSources, Peers: test.peers}
			s, _ := NewBuilder().Build(State{Node: n}.With(pod(3, "web")))
			if err := dataplaneconfig.Validate(s); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range s.Ports {
				if p.Kind == dataplanev1.Port_TUNNEL {
					got = append(got, p.Name+" "+p.Remote+" "+map[uint32]string{1450: "1450", 1430: "1430"}[p.Mtu])
					for _, c := range []string{"10.244.1.0/24", "fd00:10:244:1::/64"} {
						if !hasRoute(s, c, p.Name) {
							t.Errorf("no route for %s by %s", c, p.Name)
						}
					}
				}
			}
			if text := strings.Join(got, ", "); text != test.want {
				t.Errorf("tunnels %q, want %q", text, test.want)
			}
			var problems []string
			for _, err := range n.Unreachable() {
				problems = append(problems, err.Error())
			}
			if text := strings.Join(problems, "\n"); (text == "") != (test.problems == "") || !strings.Contains(text, test.problems) {
				t.Errorf("problems %q, want %q", text, test.problems)
			}
		})
	}
}

func hasRoute(s *dataplanev1.Snapshot, prefix, port string) bool {
	for _, r := range s.Routes {
		if r.Prefix == prefix {
			return r.Port == port
		}
	}
	return false
}
