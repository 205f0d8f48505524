// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func addrs(list ...string) []netip.Addr { return addresses(list) }

// proxyNode is one that serves in kube-proxy's place.
func proxyNode() Node {
	return Node{
		Name: "n1", Proxy: true, ExternalIPs: true,
		Addresses: addrs("192.0.2.1", "2001:db8::1"), Sources: addrs("10.1.0.2", "fd01::2"), Others: addrs("192.0.2.2", "2001:db8::2"),
	}
}

// showAll is show, with what differs from outside.
func showAll(nats []*dataplanev1.DestinationNat) string {
	var lines []string
	for _, n := range nats {
		line := show([]*dataplanev1.DestinationNat{n})
		if n.Silent {
			line += " silent"
		}
		if n.Shared {
			line += " shared"
		}
		if e := n.External; e != nil {
			line += " outside:"
			for _, b := range e.Backends {
				line += fmt.Sprintf(" %s:%d", b.Address, b.Port)
			}
			if e.Silent {
				line += " silent"
			}
		}
		if len(n.Sources) > 0 {
			line += " from " + strings.Join(n.Sources, ",")
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestFrontends(t *testing.T) {
	one := func(s *corev1.Service) { s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1] }
	nodePort := func(s *corev1.Service) { s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080 }
	local := func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }
	internal := func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal) }
	balanced := func(ips ...string) func(*corev1.Service) {
		return func(s *corev1.Service) {
			s.Spec.Type = corev1.ServiceTypeLoadBalancer
			for _, ip := range ips {
				s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
			}
		}
	}
	ranges := func(list ...string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.LoadBalancerSourceRanges = list }
	}
	external := func(ips ...string) func(*corev1.Service) {
		return func(s *corev1.Service) { s.Spec.ExternalIPs = ips }
	}
	far, near := slice("a", "10.1.0.9 @n2"), slice("a", "10.1.0.9 @n2", "10.1.0.8 @n1")
	for _, test := range []struct {
		name    string
		service *corev1.Service
		slice   *discoveryv1.EndpointSlice
		node    func(*Node)
		want    string
	}{
		{"node ports, of both families", web(nodePort), near, nil, `10.96.0.7 80/6 -> 10.1.0.8:8080 10.1.0.9:8080
fd00:96::7 80/6 ->
10.1.0.2 30080/6 -> 10.1.0.8:8080 10.1.0.9:8080
192.0.2.1 30080/6 -> 10.1.0.8:8080 10.1.0.9:8080 shared
2001:db8::1 30080/6 -> shared
fd01::2 30080/6 ->`},
		{"beside kube-proxy", web(one, nodePort, balanced("198.51.100.1"), external("198.51.100.2")), near, func(n *Node) { n.Proxy = false },
			"10.96.0.7 80/6 -> 10.1.0.8:8080 10.1.0.9:8080"},
		{"outside only to this node's", web(one, nodePort, local), near, nil, `10.96.0.7 80/6 -> 10.1.0.8:8080 10.1.0.9:8080
10.1.0.2 30080/6 -> 10.1.0.8:8080 10.1.0.9:8080 outside: 10.1.0.8:8080
192.0.2.1 30080/6 -> 10.1.0.8:8080 10.1.0.9:8080 shared outside: 10.1.0.8:8080`},
		{"outside only to this node's, and there is none", web(one, balanced("198.51.100.1"), local), far, nil, `10.96.0.7 80/6 -> 10.1.0.9:8080
198.51.100.1 80/6 -> 10.1.0.9:8080 outside: silent`},
		{"outside only to this node's, and there is none anywhere", web(one, balanced("198.51.100.1"), local), nil, nil, `10.96.0.7 80/6 ->
198.51.100.1 80/6 -> outside:`},
		{"inside only to this node's", web(one, nodePort, internal), far, nil, `10.96.0.7 80/6 -> silent
10.1.0.2 30080/6 -> 10.1.0.9:8080
192.0.2.1 30080/6 -> 10.1.0.9:8080 shared`},
		{"a load balancer, for some clients", web(one, balanced("198.51.100.1"), ranges(" 10.0.0.1/8 ", "fd00::/8")), near, nil, `10.96.0.7 80/6 -> 10.1.0.8:8080 10.1.0.9:8080
198.51.100.1 80/6 -> 10.1.0.8:8080 10.1.0.9:8080 from 10.0.0.0/8`},
		{"for clients of the other family", web(balanced("198.51.100.1", "2001:db8:9::1"), ranges("10.0.0.0/8")), nil, nil, `10.96.0.7 80/6 ->
fd00:96::7 80/6 ->
198.51.100.1 80/6 -> from 10.0.0.0/8
2001:db8:9::1 80/6 -> from ::/128`},
		{"a load balancer that wants to see its traffic", web(one, balanced("198.51.100.1"), func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress[0].IPMode = ptr(corev1.LoadBalancerIPModeProxy)
		}), nil, nil, "10.96.0.7 80/6 ->"},
		{"what is left of a load balancer", web(one, balanced("198.51.100.1"), func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeClusterIP }), nil, nil, "10.96.0.7 80/6 ->"},
		{"addresses that no packet can have", web(one, balanced("127.0.0.1", "", "0.0.0.0", "::ffff:192.0.2.9", "224.0.0.1")), nil, nil, "10.96.0.7 80/6 ->"},
		{"external addresses, one of them a node's", web(one, external("198.51.100.2", "192.0.2.2")), nil, nil, `10.96.0.7 80/6 ->
192.0.2.2 80/6 -> shared
198.51.100.2 80/6 ->`},
		{"external addresses are off", web(one, external("198.51.100.2")), nil, func(n *Node) { n.ExternalIPs = false }, "10.96.0.7 80/6 ->"},
		{"one address in three roles", web(one, nodePort, balanced("192.0.2.1", "192.0.2.1"), external("192.0.2.1")), nil, nil, `10.96.0.7 80/6 ->
10.1.0.2 30080/6 ->
192.0.2.1 30080/6 -> shared
192.0.2.1 80/6 -> shared`},
	} {
		t.Run(test.name, func(t *testing.T) {
			node := proxyNode()
			if test.node != nil {
				test.node(&node)
			}
			c := NewCompiler()
			c.SetNode(node)
			c.SetService(test.service)
			if test.slice != nil {
				c.SetSlice(test.slice)
			}
			if diff := cmp.Diff(sorted(test.want), sorted(showAll(c.Result()))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func sorted(text string) []string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		for j := i; j > 0 && lines[j] < lines[j-1]; j-- {
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
	return lines
}

// TestNobodyTakesAClusterIP: an external address that is another service's cluster
// IP does not take its traffic.
func TestNobodyTakesAClusterIP(t *testing.T) {
	c := NewCompiler()
	c.SetNode(proxyNode())
	c.SetService(web())
	c.SetSlice(slice("a", "10.1.0.9"))
	c.SetService(web(func(s *corev1.Service) {
		s.Name, s.Spec.ClusterIPs, s.Spec.ExternalIPs = "a-thief", []string{"10.96.0.6"}, []string{"10.96.0.7"}
	}))
	for _, n := range c.Result() {
		if n.Address == "10.96.0.7" && len(n.Backends) != 1 {
			t.Errorf("%s", showAll(c.Result()))
		}
	}
}

func TestHostSide(t *testing.T) {
	services := map[string]*corev1.Service{
		"a": web(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeLoadBalancer, 30081
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}, {IP: "192.0.2.2"}}
		}),
		"b": web(func(s *corev1.Service) {
			s.Spec.ClusterIPs = []string{"10.96.0.8"}
			s.Spec.Type = corev1.ServiceTypeNodePort
			s.Spec.Ports = []corev1.ServicePort{{Port: 53, NodePort: 30080}, {Port: 53, NodePort: 30080, Protocol: corev1.ProtocolUDP}, {Port: 9, NodePort: 30009, Protocol: corev1.ProtocolSCTP}}
		}),
		"headless": web(func(s *corev1.Service) { s.Spec.ClusterIPs = []string{"None"} }),
	}
	want := HostSide{
		// Not the other node's, which is reached as it is.
		Addresses: addrs("10.96.0.7", "10.96.0.8", "198.51.100.1", "fd00:96::7"),
		TCP:       []uint16{30080, 30081}, UDP: []uint16{30080}, SCTP: []uint16{30009},
	}
	if diff := cmp.Diff(want, HostSideOf(services, proxyNode()), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if h := HostSideOf(services, Node{Name: "n1"}); len(h.Addresses)+len(h.TCP)+len(h.UDP)+len(h.SCTP) > 0 {
		t.Errorf("beside kube-proxy: %+v", h)
	}
}
