// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

func newRand() *rand.Rand { return rand.New(rand.NewPCG(3, 3)) }

// town is a list of n rules over nsets sets of 10,000 addresses each, of which
// only the last rule allows the peers, and peers spread over its set.
func town(n, nsets int) (*List, []packet.Addr) {
	sets := map[string]*Set{}
	address := func(set, i int) netip.Addr {
		return netip.AddrFrom4([4]byte{10, byte(set), byte(i >> 8), byte(i)})
	}
	for s := range nsets {
		var p []netip.Prefix
		for i := range 10_000 {
			p = append(p, netip.PrefixFrom(address(s, i), 32))
		}
		name := fmt.Sprintf("set%d", s)
		sets[name] = NewSet(name, p, nil)
	}
	policy := &dataplanev1.Policy{Name: "p", IsolatesIngress: true}
	for i := range n {
		set := i % max(nsets-1, 1)
		if i == n-1 {
			set = nsets - 1
		}
		policy.Ingress = append(policy.Ingress, &dataplanev1.Rule{
			Name: fmt.Sprintf("r%d", i), Action: dataplanev1.Action_ALLOW,
			Peers: []string{fmt.Sprintf("set%d", set)},
			L4:    []*dataplanev1.L4Match{{Protocol: 6, FirstPort: 8080}, {Protocol: 6, FirstPort: 80, LastPort: 90}},
		})
	}
	peers := make([]packet.Addr, 1<<14)
	r := newRand()
	for i := range peers {
		peers[i] = packet.AddrFrom(address(nsets-1, r.IntN(10_000)))
	}
	return Compile([]Policy{{policy, sets}}, true), peers
}

func BenchmarkEvaluate(b *testing.B) {
	for _, rules := range []int{10, 100, 1000} {
		for _, sets := range []int{8, 64} {
			if sets > rules {
				continue
			}
			l, peers := town(rules, sets)
			b.Run(fmt.Sprintf("rules=%d/sets=%d", rules, sets), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					if v := l.Evaluate(peers[i&(len(peers)-1)], packet.ProtoTCP, 80, 0, 0); !v.Allow {
						b.Fatal("denied")
					}
					i++
				}
			})
		}
	}
}

func BenchmarkSet(b *testing.B) {
	l, peers := town(1, 1)
	s := l.sets[0]
	b.Run("Contains", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			s.Contains(peers[i&(len(peers)-1)])
			i++
		}
	})
	p := []netip.Prefix{netip.MustParsePrefix("10.200.1.1/32")}
	b.Run("Update", func(b *testing.B) {
		for b.Loop() {
			s.Update(Change{Insert: p})
		}
	})
}

func TestEvaluateDoesNotAllocate(t *testing.T) {
	l, peers := town(100, 4)
	audited := compileAll([]*dataplanev1.Policy{{Name: "p", Audit: true, IsolatesIngress: true}}, nil, true)
	if n := testing.AllocsPerRun(100, func() {
		l.Evaluate(peers[0], packet.ProtoTCP, 80, 0, 0)
		audited.Evaluate(peers[0], packet.ProtoTCP, 80, 0, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
