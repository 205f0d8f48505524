// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"net/netip"
	"testing"

	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/packet"
	"netio.dev/netio/pkg/dataplane/rules"
	"netio.dev/netio/pkg/policy"
	"netio.dev/netio/pkg/policy/oracle"
)

// snapshot is a result as the forwarder gets it. Addresses of ports must differ,
// those of the random states do not: they get others.
func snapshot(r policy.Result) *dataplanev1.Snapshot {
	s := &dataplanev1.Snapshot{Revision: 1, AddressSets: r.AddressSets, Policies: r.Policies}
	for i, e := range r.Endpoints {
		s.Ports = append(s.Ports, &dataplanev1.Port{
			Name: e.ID, Kind: dataplanev1.Port_POD, Ifname: "eth0", Netns: fmt.Sprintf("/run/netns/n%d", i),
			Addresses: []string{fmt.Sprintf("172.16.0.%d", i+1)}, Policies: e.Policies,
		})
	}
	return s
}

// TestForwarderMeansTheSame goes all the way: the forwarder's own validation
// takes the tables, its delta makes one result of another, and its own rules
// judge packets as the objects mean it.
func TestForwarderMeansTheSame(t *testing.T) {
	for seed := range uint64(150) {
		g := random(seed)
		s := g.state()
		r := policy.Compile(s)
		if err := config.Validate(snapshot(r)); err != nil {
			t.Fatalf("seed %d: the forwarder refuses: %v", seed, err)
		}

		next := policy.Compile(g.change(g.change(s)))
		d := policy.Diff(r, next)
		delta := &dataplanev1.Delta{
			BaseRevision: 1, Revision: 2, Policies: d.Policies, AddressSets: d.AddressSets,
			DeletePolicies: d.DeletePolicies, DeleteAddressSets: d.DeleteAddressSets,
			Ports: snapshot(next).Ports, DeletePorts: d.DeleteEndpoints,
		}
		merged, err := config.Merge(snapshot(r), delta)
		if err != nil {
			t.Fatalf("seed %d: merge: %v", seed, err)
		}
		if err := config.Validate(merged); err != nil {
			t.Fatalf("seed %d: the forwarder refuses the delta: %v", seed, err)
		}

		sets := map[string]*rules.Set{}
		for _, set := range r.AddressSets {
			sets[set.Name] = rules.NewSet(set.Name, prefixesOf(set.Prefixes), prefixesOf(set.Except))
		}
		policies := map[string]*dataplanev1.Policy{}
		for _, p := range r.Policies {
			policies[p.Name] = p
		}
		for _, e := range s.Endpoints {
			if e.Remote {
				continue
			}
			names, _ := r.PoliciesOf(e.ID)
			var of []rules.Policy
			for _, name := range names {
				of = append(of, rules.Policy{Policy: policies[name], Sets: sets})
			}
			for _, direction := range []v1alpha1.PolicyType{v1alpha1.PolicyTypeIngress, v1alpha1.PolicyTypeEgress} {
				list := rules.Compile(of, direction == v1alpha1.PolicyTypeIngress)
				for range 10 {
					p := g.packet()
					peer := p.Dst
					if direction == v1alpha1.PolicyTypeIngress {
						peer = p.Src
					}
					want := oracle.Judge(s, e, direction, p)
					got := rules.Verdict{Allow: true}
					if list != nil {
						got = list.Evaluate(packet.AddrFrom(peer), p.Protocol, p.DstPort, p.ICMPType, p.ICMPCode)
					}
					if got.Allow != want.Allowed || got.Audit != want.Audited {
						t.Fatalf("seed %d: %s of %s, %+v:\n forwarder %+v\n oracle %+v\n%s", seed, direction, e.ID, p, got, want, describe(s))
					}
				}
			}
		}
	}
}

func prefixesOf(in []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range in {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}
