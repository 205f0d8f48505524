// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/rules"
)

// random makes deltas in a world so small that things meet.
type random struct{ *rand.Rand }

func (r random) one(n int) bool { return r.IntN(n) == 0 }

func (r random) addr() netip.Addr {
	if r.one(3) {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(1 + r.IntN(20))})
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + r.IntN(20))})
}

func (r random) prefix() string {
	a := r.addr()
	return netip.PrefixFrom(a, a.BitLen()-r.IntN(6)).Masked().String()
}

func (r random) unique(n int, f func() string) (out []string) {
	seen := map[string]bool{}
	for range r.IntN(n + 1) {
		if s := f(); !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func (r random) name(prefix string, n int) string { return fmt.Sprintf("%s%d", prefix, r.IntN(n)) }

func (r random) port() *dataplanev1.Port {
	p := &dataplanev1.Port{Name: r.name("port", 8), Kind: 1, Ifname: "eth0", Mtu: uint32(1280 + r.IntN(2)), Netns: "/" + fmt.Sprint(r.Uint32())}
	p.Addresses = r.unique(3, func() string { return r.addr().String() })
	if r.one(5) {
		p.Kind = 2
	} else {
		p.Policies = r.unique(3, func() string { return r.name("policy", 5) })
	}
	return p
}

func (r random) rules() (out []*dataplanev1.Rule) {
	for i := range r.IntN(4) {
		rule := &dataplanev1.Rule{Name: fmt.Sprint(i), Tier: uint32(r.IntN(2)), Priority: uint32(r.IntN(3)), Action: dataplanev1.Action(1 + r.IntN(3))}
		rule.Peers = r.unique(2, func() string { return r.name("set", 5) })
		if r.one(2) {
			rule.L4 = []*dataplanev1.L4Match{{Protocol: 6, FirstPort: uint32(1 + r.IntN(3))}}
		}
		out = append(out, rule)
	}
	return out
}

func (r random) delta() *dataplanev1.Delta {
	d := &dataplanev1.Delta{}
	for range 1 + r.IntN(3) {
		switch r.IntN(10) {
		case 0, 1:
			d.Ports = append(d.Ports, r.port())
		case 2:
			d.DeletePorts = append(d.DeletePorts, r.name("port", 8))
		case 3:
			d.Routes = append(d.Routes, &dataplanev1.Route{Prefix: r.prefix(), Port: []string{"", r.name("port", 8)}[r.IntN(2)]})
		case 4:
			d.DeleteRoutes = append(d.DeleteRoutes, r.prefix())
		case 5, 6:
			d.AddressSets = append(d.AddressSets, &dataplanev1.AddressSet{Name: r.name("set", 5), Prefixes: r.unique(6, r.prefix), Except: r.unique(2, r.prefix)})
		case 7:
			d.Policies = append(d.Policies, &dataplanev1.Policy{Name: r.name("policy", 5), IsolatesIngress: r.one(2), IsolatesEgress: r.one(2), Audit: r.one(4), Ingress: r.rules(), Egress: r.rules()})
		case 8:
			n := &dataplanev1.SourceNat{Name: r.name("snat", 3), Source: r.prefix(), DestinationsExcept: r.unique(2, r.prefix), OutPort: []string{"", r.name("port", 8)}[r.IntN(2)], Addresses: []string{"192.0.2.1", "2001:db8::1"}}
			d.SourceNats = append(d.SourceNats, n)
		case 9:
			n := &dataplanev1.DestinationNat{Name: r.name("dnat", 4), Address: "10.96.0." + fmt.Sprint(1+r.IntN(3)), Protocol: 6, Port: uint32(1 + r.IntN(2))}
			for i := range r.IntN(3) {
				n.Backends = append(n.Backends, &dataplanev1.Backend{Address: fmt.Sprintf("10.0.0.%d", i+1), Port: 1, Weight: uint32(r.IntN(3))})
			}
			d.DestinationNats = append(d.DestinationNats, n)
			if r.one(3) {
				d.DeleteDestinationNats = append(d.DeleteDestinationNats, r.name("dnat", 4))
			}
		}
	}
	return d
}

// start has a policy and a set of every name, so that most deltas are valid.
func (r random) start() *dataplanev1.Snapshot {
	s := &dataplanev1.Snapshot{}
	for i := range 5 {
		s.AddressSets = append(s.AddressSets, &dataplanev1.AddressSet{Name: fmt.Sprintf("set%d", i)})
		s.Policies = append(s.Policies, &dataplanev1.Policy{Name: fmt.Sprintf("policy%d", i)})
	}
	return s
}

// TestEvolution lets a configuration change many times, builds each state from
// the tables before, and holds the result against tables from scratch
// and against a linear search of the snapshot.
func TestEvolution(t *testing.T) {
	r := random{rand.New(rand.NewPCG(1, 1))}
	lives, steps := 20, 80
	if testing.Short() {
		lives = 2
	}
	applied := 0
	for range lives {
		s := r.start()
		ids := map[string]uint32{}
		tab := Build(s, ids, nil, 0)
		for step := range steps {
			d := r.delta()
			d.BaseRevision, d.Revision = s.Revision, s.Revision+1
			next, err := Merge(s, d)
			if err != nil {
				continue // names something twice
			}
			before := proto.Clone(s)
			got, want := ValidateUpdate(s, next), Validate(next)
			if !alike(got, want) {
				t.Fatalf("update: %v\nwhole: %v", got, want)
			}
			if want != nil {
				continue
			}
			applied++
			if r.one(6) { // as a snapshot of a writer that has started anew
				next = proto.Clone(next).(*dataplanev1.Snapshot)
			}
			number(r, next, ids)
			old := tab
			tab = Build(next, ids, tab, uint32(step))
			same(t, tab, Build(next, ids, nil, uint32(step)))
			golden(t, r, tab, next, ids)
			if !proto.Equal(s, before) {
				t.Fatal("the base has changed")
			}
			if r.one(20) {
				same(t, old, Build(old.snapshot, idsOf(old), nil, old.Generation))
			}
			s = next
		}
	}
	if applied < lives*steps/5 {
		t.Errorf("only %d changes were valid", applied)
	}
}

// number gives ports numbers as a device does: lowest free one first, not all
// of them, some later.
func number(r random, s *dataplanev1.Snapshot, ids map[string]uint32) {
	there, taken := map[string]bool{}, map[uint32]bool{}
	for _, p := range s.Ports {
		there[p.Name] = true
	}
	for name, id := range ids {
		if !there[name] || r.one(30) {
			delete(ids, name)
		} else {
			taken[id] = true
		}
	}
	for _, p := range s.Ports {
		if ids[p.Name] == 0 && !r.one(5) {
			id := uint32(1)
			for taken[id] {
				id++
			}
			ids[p.Name], taken[id] = id, true
		}
	}
}

func idsOf(t *Tables) map[string]uint32 {
	ids := map[string]uint32{}
	for i, p := range t.snapshot.Ports {
		if t.ids[i] != 0 {
			ids[p.Name] = t.ids[i]
		}
	}
	return ids
}

var everyone = func() (out []packet.Addr) {
	for i := range 24 {
		out = append(out, packet.Addr4(10<<24|uint32(i)), packet.Addr{Hi: 0xfd << 56, Lo: uint64(i)})
	}
	return append(out, addr("192.0.2.1"), addr("8.8.8.8"), addr("10.96.0.1"), addr("10.96.0.2"), addr("10.96.0.3"))
}()

// same holds two tables of the same configuration against each other.
func same(t *testing.T, got, want *Tables) {
	t.Helper()
	if len(got.byName) != len(want.byName) || got.routes.Len() != want.routes.Len() || len(got.dnat) != len(want.dnat) || len(got.snat) != len(want.snat) || len(got.groups) < len(want.groups) {
		t.Fatalf("sizes: %d %d, %d %d, %d %d, %d %d", len(got.byName), len(want.byName), got.routes.Len(), want.routes.Len(), len(got.dnat), len(want.dnat), len(got.snat), len(want.snat))
	}
	for id := range uint32(max(len(got.ports), len(want.ports)) + 1) {
		g, w := got.Port(id), want.Port(id)
		if (g == nil) != (w == nil) {
			t.Fatalf("port %d: %v, want %v", id, g, w)
		}
		if g == nil {
			continue
		}
		if g.ID != w.ID || g.Name != w.Name || g.Pod != w.Pod || g.MTU != w.MTU || fmt.Sprint(g.addrs) != fmt.Sprint(w.addrs) || got.PortByName(g.Name) != g || g.config != w.config {
			t.Fatalf("port %d:\n got %+v\nwant %+v", id, g, w)
		}
		if (g.Ingress == nil) != (w.Ingress == nil) || (g.Egress == nil) != (w.Egress == nil) {
			t.Fatalf("port %d: open in another direction", id)
		}
		for _, a := range everyone {
			for port := range uint16(4) {
				if x, y := verdict(g.Ingress, a, port), verdict(w.Ingress, a, port); x != y {
					t.Fatalf("port %d from %v: %s, want %s", id, a, x, y)
				}
				if x, y := verdict(g.Egress, a, port), verdict(w.Egress, a, port); x != y {
					t.Fatalf("port %d to %v: %s, want %s", id, a, x, y)
				}
			}
		}
	}
	for _, a := range everyone {
		g, gok := got.Route(a)
		w, wok := want.Route(a)
		go1, gok1 := got.OwnerOf(a)
		wo1, wok1 := want.OwnerOf(a)
		if g != w || gok != wok || go1 != wo1 || gok1 != wok1 {
			t.Fatalf("%v: route %d, want %d; owner %d, want %d", a, g, w, go1, wo1)
		}
	}
}

func verdict(l *rules.List, a packet.Addr, port uint16) string {
	if l == nil {
		return "open"
	}
	v := l.Evaluate(a, packet.ProtoTCP, port, 0, 0)
	return fmt.Sprint(v.Allow, v.Audit, v.Rule, l.RuleName(v.Rule))
}

// golden searches the snapshot.
func golden(t *testing.T, r random, tab *Tables, s *dataplanev1.Snapshot, ids map[string]uint32) {
	t.Helper()
	for _, a := range everyone {
		ip := a.Netip()
		best, route, owner := -1, uint32(0), uint32(0)
		for _, x := range s.Routes {
			if p := netip.MustParsePrefix(x.Prefix); p.Contains(ip) && p.Bits() > best {
				best, route = p.Bits(), ids[x.Port]
			}
		}
		for _, p := range s.Ports {
			for _, own := range p.Addresses {
				if netip.MustParseAddr(own) == ip && ids[p.Name] != 0 {
					route = ids[p.Name]
					if p.Kind == dataplanev1.Port_POD {
						owner = route
					}
				}
			}
		}
		if id, ok := tab.Route(a); id != route || ok != (route != 0) {
			t.Fatalf("route to %v: %d, want %d", a, id, route)
		}
		if id, ok := tab.OwnerOf(a); id != owner || ok != (owner != 0) {
			t.Fatalf("owner of %v: %d, want %d", a, id, owner)
		}
		goldenDNAT(t, tab, s, a)
		for range 4 {
			goldenSNAT(t, tab, s, ids, a, everyone[r.IntN(len(everyone))], uint32(r.IntN(9)))
		}
	}
}

func goldenDNAT(t *testing.T, tab *Tables, s *dataplanev1.Snapshot, a packet.Addr) {
	t.Helper()
	for port := range uint32(4) {
		want, backends := "", 0
		for _, n := range s.DestinationNats {
			if addr(n.Address) == a && n.Port == port {
				want, backends = n.Name, len(n.Backends)
			}
		}
		got := tab.DestinationNAT(a, packet.ProtoTCP, uint16(port))
		if (got == nil) != (want == "") || got != nil && (got.Name != want || len(got.Backends) != backends) {
			t.Fatalf("service %v:%d: %+v, want %q", a, port, got, want)
		}
	}
}

func goldenSNAT(t *testing.T, tab *Tables, s *dataplanev1.Snapshot, ids map[string]uint32, src, dst packet.Addr, out uint32) {
	t.Helper()
	want := ""
nats:
	for _, n := range s.SourceNats {
		if n.OutPort != "" && (ids[n.OutPort] == 0 || ids[n.OutPort] != out) || !netip.MustParsePrefix(n.Source).Contains(src.Netip()) {
			continue
		}
		for _, e := range n.DestinationsExcept {
			if netip.MustParsePrefix(e).Contains(dst.Netip()) {
				continue nats
			}
		}
		want = n.Name
		break
	}
	got := tab.SourceNAT(src, dst, out)
	if (got == nil) != (want == "") || got != nil && (got.Name != want || len(got.Addresses) != 1 || got.Addresses[0].Is4() != src.Is4()) {
		t.Fatalf("source NAT from %v to %v by %d: %+v, want %q", src, dst, out, got, want)
	}
}
