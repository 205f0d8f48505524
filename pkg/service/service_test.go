// SPDX-License-Identifier: Apache-2.0

package service

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func ptr[T any](v T) *T { return &v }

// web is a service of both families with a named port.
func web(changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7", ClusterIPs: []string{"10.96.0.7", "fd00:96::7"},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// slice has endpoints of web's port, by words: ADDRESS, then any of @NODE,
// not-ready, serving, zone=Z, node=N.
func slice(name string, endpoints ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("http"), Port: ptr(int32(8080)), Protocol: ptr(corev1.ProtocolTCP)}},
	}
	for _, text := range endpoints {
		words := strings.Fields(text)
		if strings.Contains(words[0], ":") {
			s.AddressType = discoveryv1.AddressTypeIPv6
		}
		e := discoveryv1.Endpoint{Addresses: words[:1], Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)}}
		for _, w := range words[1:] {
			key, value, _ := strings.Cut(w, "=")
			switch {
			case w[0] == '@':
				e.NodeName = ptr(w[1:])
			case w == "not-ready":
				e.Conditions.Ready, e.Conditions.Serving = ptr(false), ptr(false)
			case w == "serving":
				e.Conditions = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
			case w == "unknown":
				e.Conditions = discoveryv1.EndpointConditions{}
			default:
				if e.Hints == nil {
					e.Hints = &discoveryv1.EndpointHints{}
				}
				if key == "zone" {
					e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: value})
				} else {
					e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: value})
				}
			}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// show writes destination NATs as "ADDRESS PORT/PROTOCOL affinity -> BACKENDS".
func show(nats []*dataplanev1.DestinationNat) string {
	var lines []string
	for _, n := range nats {
		line := fmt.Sprintf("%s %d/%d", n.Address, n.Port, n.Protocol)
		if n.AffinitySeconds > 0 {
			line += fmt.Sprintf(" %d s", n.AffinitySeconds)
		}
		line += " ->"
		for _, b := range n.Backends {
			line += fmt.Sprintf(" %s:%d", b.Address, b.Port)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestTranslate(t *testing.T) {
	v4 := func(s *corev1.Service) { s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1] }
	for _, test := range []struct {
		name    string
		service *corev1.Service
		slices  []*discoveryv1.EndpointSlice
		want    string
	}{
		{"both families", web(), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.2", "10.1.0.1"), slice("b", "fd01::1")},
			"10.96.0.7 80/6 -> 10.1.0.1:8080 10.1.0.2:8080\nfd00:96::7 80/6 -> fd01::1:8080"},
		{"nobody there", web(v4), nil, "10.96.0.7 80/6 ->"},
		{"headless", web(func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"} }),
			[]*discoveryv1.EndpointSlice{slice("a", "10.1.0.1")}, ""},
		{"a name elsewhere", web(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		}), nil, ""},
		{"another proxy's", web(func(s *corev1.Service) { s.Labels = map[string]string{proxyNameLabel: "other"} }),
			[]*discoveryv1.EndpointSlice{slice("a", "10.1.0.1")}, ""},
		{"headless by its label", web(func(s *corev1.Service) { s.Labels = map[string]string{headlessLabel: ""} }),
			[]*discoveryv1.EndpointSlice{slice("a", "10.1.0.1")}, ""},
		{"an old object, without clusterIPs", web(func(s *corev1.Service) { s.Spec.ClusterIPs = nil }), nil, "10.96.0.7 80/6 ->"},
		{"not ready", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 not-ready", "10.1.0.2")}, "10.96.0.7 80/6 -> 10.1.0.2:8080"},
		{"of unknown state counts as ready", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 unknown")}, "10.96.0.7 80/6 -> 10.1.0.1:8080"},
		{"about to end, beside one that is ready", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 serving", "10.1.0.2")}, "10.96.0.7 80/6 -> 10.1.0.2:8080"},
		{"about to end, all of them", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 serving", "10.1.0.2 not-ready")}, "10.96.0.7 80/6 -> 10.1.0.1:8080"},
		{"in two slices at once", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 not-ready"), slice("b", "10.1.0.1")}, "10.96.0.7 80/6 -> 10.1.0.1:8080"},
		{"local only", web(v4, func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal) }),
			[]*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 @n2", "10.1.0.2 @n1", "10.1.0.3")}, "10.96.0.7 80/6 -> 10.1.0.2:8080"},
		{"local only, about to end, while others are ready", web(v4, func(s *corev1.Service) { s.Spec.InternalTrafficPolicy = ptr(corev1.ServiceInternalTrafficPolicyLocal) }),
			[]*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 @n2", "10.1.0.2 @n1 serving")}, "10.96.0.7 80/6 -> 10.1.0.2:8080"},
		{"hints for zones", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 zone=z1", "10.1.0.2 zone=z2", "10.1.0.3 zone=z2 zone=z1")},
			"10.96.0.7 80/6 -> 10.1.0.1:8080 10.1.0.3:8080"},
		{"hints that are missing for one", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 zone=z1", "10.1.0.2")},
			"10.96.0.7 80/6 -> 10.1.0.1:8080 10.1.0.2:8080"},
		{"hints for others alone", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 zone=z3", "10.1.0.2 zone=z2")},
			"10.96.0.7 80/6 -> 10.1.0.1:8080 10.1.0.2:8080"},
		{"hints for nodes before those for zones", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 zone=z1 node=n1", "10.1.0.2 zone=z1 node=n2")},
			"10.96.0.7 80/6 -> 10.1.0.1:8080"},
		{"hints of endpoints that are not ready do not count", web(v4), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1 not-ready", "10.1.0.2 zone=z1", "10.1.0.3 zone=z2")},
			"10.96.0.7 80/6 -> 10.1.0.2:8080"},
		{"affinity", web(v4, func(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }), nil, "10.96.0.7 80/6 10800 s ->"},
		{"affinity for a while", web(v4, func(s *corev1.Service) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: ptr(int32(30))}}
		}), nil, "10.96.0.7 80/6 30 s ->"},
		{"a port that the endpoints do not have", web(v4, func(s *corev1.Service) { s.Spec.Ports[0].Name = "admin" }), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1")}, "10.96.0.7 80/6 ->"},
		{"the same port by another protocol", web(v4, func(s *corev1.Service) {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "dns", Port: 80, Protocol: corev1.ProtocolUDP}, corev1.ServicePort{Name: "sig", Port: 80, Protocol: corev1.ProtocolSCTP})
		}), []*discoveryv1.EndpointSlice{slice("a", "10.1.0.1")}, "10.96.0.7 80/17 ->\n10.96.0.7 80/6 -> 10.1.0.1:8080\n10.96.0.7 80/132 ->"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := show(translate(test.service, test.slices, Node{Name: "n1", Zone: "z1"}))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestChanges: whatever the order of changes, the result is that of the state.
func TestChanges(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		c := NewCompiler()
		node := Node{Name: "n1"}
		services, endpoints := map[string]*corev1.Service{}, map[string]*discoveryv1.EndpointSlice{}
		for range 40 {
			name := fmt.Sprint("s", random.IntN(3))
			switch random.IntN(6) {
			case 0, 1:
				s := web(func(s *corev1.Service) {
					s.Name = name
					// Sometimes another one has the address still.
					s.Spec.ClusterIPs = []string{fmt.Sprint("10.96.0.", random.IntN(4))}
				})
				services[name] = s
				c.SetService(s)
			case 2:
				delete(services, name)
				c.DeleteService("shop", name)
			case 3, 4:
				s := slice(fmt.Sprint("e", random.IntN(3)), fmt.Sprintf("10.1.0.%d zone=z%d", random.IntN(3), random.IntN(2)))
				s.Labels[discoveryv1.LabelServiceName] = name
				if random.IntN(8) == 0 {
					delete(s.Labels, discoveryv1.LabelServiceName)
				}
				endpoints[s.Name] = s
				c.SetSlice(s)
			default:
				e := fmt.Sprint("e", random.IntN(3))
				delete(endpoints, e)
				c.DeleteSlice("shop", e)
			}
			if random.IntN(10) == 0 {
				node.Zone = fmt.Sprint("z", random.IntN(2))
			}
			c.SetNode(node)
			before := c.Result()
			fresh := NewCompiler()
			fresh.SetNode(node)
			for _, s := range services {
				fresh.SetService(s)
			}
			for _, s := range endpoints {
				fresh.SetSlice(s)
			}
			if diff := cmp.Diff(fresh.Result(), before, protocmp.Transform()); diff != "" {
				t.Fatalf("seed %d: after changes (-fresh +changed)\n%s", seed, diff)
			}
		}
		for name := range services {
			c.DeleteService("shop", name)
		}
		for name := range endpoints {
			c.DeleteSlice("shop", name)
		}
		if n := c.Result(); len(n) > 0 || len(c.services) > 0 || len(c.slices) > 0 {
			t.Fatalf("seed %d: left %v, %v, %v", seed, n, c.services, c.slices)
		}
	}
}

// TestEndpointsOfNobody: endpoints that get the label of a headless service are
// taken out of service.
func TestEndpointsOfNobody(t *testing.T) {
	c := NewCompiler()
	c.SetService(web(func(s *corev1.Service) { s.Spec.ClusterIPs = s.Spec.ClusterIPs[:1] }))
	c.SetSlice(slice("a", "10.1.0.1"))
	if got := show(c.Result()); got != "10.96.0.7 80/6 -> 10.1.0.1:8080" {
		t.Fatal(got)
	}
	marked := slice("a", "10.1.0.1")
	marked.Labels[headlessLabel] = ""
	c.SetSlice(marked)
	if got := show(c.Result()); got != "10.96.0.7 80/6 ->" {
		t.Error(got)
	}
}

// TestUnchanged: what did not change is the same message, so that telling the
// forwarder of a change costs as much as the change.
func TestUnchanged(t *testing.T) {
	c := NewCompiler()
	c.SetService(web())
	other := web(func(s *corev1.Service) { s.Name, s.Spec.ClusterIPs = "other", []string{"10.96.0.8"} })
	c.SetService(other)
	before := c.Result()
	c.SetSlice(slice("a", "10.1.0.1"))
	c.SetService(web()) // equal, and another object
	after := c.Result()
	if len(before) != 3 || len(after) != 3 {
		t.Fatalf("%s\nthen\n%s", show(before), show(after))
	}
	for i := range after {
		if changed := before[i] != after[i]; changed != (after[i].Address == "10.96.0.7") {
			t.Errorf("%s: changed %v", after[i].Name, changed)
		}
	}
}

// BenchmarkChange is one endpoint's change among 10,000 services.
func BenchmarkChange(b *testing.B) {
	c := NewCompiler()
	for i := range 10_000 {
		name := fmt.Sprint("s", i)
		c.SetService(web(func(s *corev1.Service) {
			s.Name, s.Spec.ClusterIPs = name, []string{fmt.Sprintf("10.96.%d.%d", i/250, i%250)}
		}))
		s := slice("e"+name, "10.1.0.1", "10.1.0.2")
		s.Labels[discoveryv1.LabelServiceName] = name
		c.SetSlice(s)
	}
	c.Result()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s := slice("es7", fmt.Sprint("10.1.1.", i%250))
		s.Labels[discoveryv1.LabelServiceName] = "s7"
		c.SetSlice(s)
		c.Result()
	}
}
