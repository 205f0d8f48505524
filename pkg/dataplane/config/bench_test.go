// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// city is a configuration of many ports with two addresses each, in 100 policy
// groups whose rules name 100 sets of 10,000 addresses, and 2,000 services.
func city(ports int) (*dataplanev1.Snapshot, map[string]uint32) {
	s := &dataplanev1.Snapshot{Revision: 1, Settings: &dataplanev1.Settings{Ipv4: "169.254.0.1"}}
	ids := map[string]uint32{"host": uint32(ports + 1)}
	for i := range 100 {
		set := &dataplanev1.AddressSet{Name: fmt.Sprintf("set%d", i)}
		for j := range 10_000 {
			set.Prefixes = append(set.Prefixes, fmt.Sprintf("10.%d.%d.%d/32", i, j>>8, j&255))
		}
		s.AddressSets = append(s.AddressSets, set)
		p := &dataplanev1.Policy{Name: fmt.Sprintf("policy%d", i), IsolatesIngress: true, IsolatesEgress: true}
		for j := range 10 {
			r := &dataplanev1.Rule{
				Name: fmt.Sprint(j), Action: dataplanev1.Action_ALLOW, Peers: []string{fmt.Sprintf("set%d", (i+j)%100)},
				L4: []*dataplanev1.L4Match{{Protocol: 6, FirstPort: 80}},
			}
			p.Ingress, p.Egress = append(p.Ingress, r), append(p.Egress, r)
		}
		s.Policies = append(s.Policies, p)
	}
	for i := range ports {
		p := pod(i)
		ids[p.Name] = uint32(i + 1)
		s.Ports = append(s.Ports, p)
	}
	s.Ports = append(s.Ports, &dataplanev1.Port{Name: "host", Kind: dataplanev1.Port_HOST, Ifname: "netio0", Addresses: []string{"192.0.2.1"}})
	s.Routes = []*dataplanev1.Route{{Prefix: "0.0.0.0/0", Port: "host"}, {Prefix: "::/0", Port: "host"}}
	for i := range 2000 {
		n := &dataplanev1.DestinationNat{Name: fmt.Sprintf("service%d", i), Address: fmt.Sprintf("10.200.%d.%d", i>>8, i&255), Protocol: 6, Port: 80}
		for j := range 5 {
			n.Backends = append(n.Backends, &dataplanev1.Backend{Address: fmt.Sprintf("10.%d.0.1", j), Port: 80})
		}
		s.DestinationNats = append(s.DestinationNats, n)
	}
	s.SourceNats = []*dataplanev1.SourceNat{{Name: "masquerade", Source: "10.0.0.0/8", DestinationsExcept: []string{"10.0.0.0/8"}, OutPort: "host", Addresses: []string{"192.0.2.1"}}}
	return s, ids
}

func pod(i int) *dataplanev1.Port {
	return &dataplanev1.Port{
		Name: fmt.Sprintf("namespace/pod-%d", i), Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: fmt.Sprintf("/run/netns/%d", i),
		Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i%100, i/100>>8, i/100&255), fmt.Sprintf("fd00::%x", i+1)},
		Policies:  []string{fmt.Sprintf("policy%d", i%100)},
	}
}

func BenchmarkChange(b *testing.B) {
	const n = 10_000
	s, ids := city(n)
	if err := Validate(s); err != nil {
		b.Fatal(err)
	}
	tab := Build(s, ids, nil, 1)
	ids[pod(n).Name] = n + 2
	grown := proto.Clone(s.AddressSets[7]).(*dataplanev1.AddressSet)
	grown.Prefixes = slices.Insert(grown.Prefixes, 5000, "10.250.0.1/32")
	for name, d := range map[string]*dataplanev1.Delta{
		"port":         {Ports: []*dataplanev1.Port{pod(n)}},
		"port+address": {Ports: []*dataplanev1.Port{pod(n)}, AddressSets: []*dataplanev1.AddressSet{grown}},
		"service":      {DestinationNats: []*dataplanev1.DestinationNat{{Name: "service5", Address: "10.200.0.5", Protocol: 6, Port: 80}}},
	} {
		d.BaseRevision, d.Revision = 1, 2
		next, err := Merge(s, d)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/Merge", func(b *testing.B) {
			for b.Loop() {
				if _, err := Merge(s, d); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/ValidateUpdate", func(b *testing.B) {
			for b.Loop() {
				if err := ValidateUpdate(s, next); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/Build", func(b *testing.B) {
			for b.Loop() {
				Build(next, ids, tab, 2)
			}
		})
	}
	b.Run("whole/Validate", func(b *testing.B) {
		for b.Loop() {
			if err := Validate(s); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("whole/Build", func(b *testing.B) {
		for b.Loop() {
			Build(s, ids, nil, 2)
		}
	})
	again := proto.Clone(s).(*dataplanev1.Snapshot)
	b.Run("same-again/Build", func(b *testing.B) {
		for b.Loop() {
			Build(again, ids, tab, 2)
		}
	})
	b.Run("Save", func(b *testing.B) {
		path := b.TempDir() + "/snapshot"
		for b.Loop() {
			if err := Save(path, s); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// lookups are what the slow path asks for a new flow.
func lookups(ports int) map[string]func(i int) {
	s, ids := city(ports)
	tab := Build(s, ids, nil, 1)
	r := rand.New(rand.NewPCG(5, 5))
	var pods, services []packet.Addr
	for range 1 << 12 {
		pods = append(pods, tab.Port(uint32(1 + r.IntN(ports))).addrs[0])
		n := r.IntN(2000)
		services = append(services, addr(fmt.Sprintf("10.200.%d.%d", n>>8, n&255)))
	}
	world := addr("8.8.8.8")
	const m = 1<<12 - 1
	return map[string]func(i int){
		"Route":           func(i int) { tab.Route(pods[i&m]) },
		"OwnerOf":         func(i int) { tab.OwnerOf(pods[i&m]) },
		"Port":            func(i int) { tab.Port(uint32(i & m)) },
		"Owns":            func(i int) { tab.Port(1).Owns(pods[i&m]) },
		"DestinationNAT":  func(i int) { tab.DestinationNAT(services[i&m], 6, 80) },
		"NoService":       func(i int) { tab.DestinationNAT(pods[i&m], 6, 80) },
		"SourceNAT":       func(i int) { tab.SourceNAT(pods[i&m], world, uint32(ports+1)) },
		"PolicyEvaluate":  func(i int) { tab.Port(1).Ingress.Evaluate(pods[i&m], 6, 80, 0, 0) },
		"Settings.Router": func(int) { tab.Settings.Router(packet.IPv4) },
	}
}

func BenchmarkLookup(b *testing.B) {
	for name, f := range lookups(10_000) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				f(i)
				i++
			}
		})
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	for name, f := range lookups(100) {
		if n := testing.AllocsPerRun(100, func() { f(1) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
