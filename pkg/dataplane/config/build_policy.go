// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/rules"
)

// setEntry is an address set and what it was made of.
type setEntry struct {
	config *dataplanev1.AddressSet
	set    *rules.Set
}

// policyEntry is a policy, and the sets that its rules name as they were when
// groups compiled it. It is the same as long as these are.
type policyEntry struct {
	config *dataplanev1.Policy
	names  []string              // of sets, each once
	sets   map[string]*rules.Set // by name
}

// policyRef is a policy of the snapshot. Its message may be another one than the
// entry was made of, that says the same.
type policyRef struct {
	config *dataplanev1.Policy
	entry  *policyEntry
}

// group is the compiled rules of all ports that have the same policies in the
// same order.
type group struct {
	key             string
	members         []*policyEntry
	ingress, egress *rules.List
}

func (t *Tables) buildSets(prev *Tables) {
	list := t.snapshot.GetAddressSets()
	if sameSlice(list, prev.snapshot.GetAddressSets()) {
		t.sets = prev.sets
		return
	}
	t.sets = make(map[string]*setEntry, len(list))
	for _, a := range list {
		old := prev.sets[a.GetName()]
		switch {
		case old == nil:
			old = &setEntry{a, rules.NewSet(a.GetName(), prefixes(a.GetPrefixes()), prefixes(a.GetExcept()))}
		case old.config != a:
			old = &setEntry{a, updateSet(old, a)}
		}
		t.sets[a.GetName()] = old
	}
}

// updateSet makes an address set of what it was before. The result is the same
// Set if it has the same addresses in the same order.
func updateSet(old *setEntry, a *dataplanev1.AddressSet) *rules.Set {
	// Each change copies a path of the trie; making it anew is cheaper for many.
	limit := 16 + len(a.GetPrefixes())/16
	var c rules.Change
	var ok, okExcept bool
	c.Remove, c.Insert, ok = difference(old.config.GetPrefixes(), a.GetPrefixes(), limit)
	c.RemoveExcept, c.InsertExcept, okExcept = difference(old.config.GetExcept(), a.GetExcept(), limit)
	if !ok || !okExcept {
		return rules.NewSet(a.GetName(), prefixes(a.GetPrefixes()), prefixes(a.GetExcept()))
	}
	return old.set.Update(c)
}

// difference is what to remove from old and then to insert to get new, each of
// which names nothing twice. It is small if their order is alike; what has moved
// is in both results. It gives up at a limit.
func difference(old, new []string, limit int) (remove, insert []netip.Prefix, ok bool) {
	var gone, come []string
	for len(old) > 0 && len(new) > 0 {
		if old[0] == new[0] {
			old, new = old[1:], new[1:]
			continue
		}
		// The nearest place where they meet again.
		o, n := meet(old, new)
		gone = append(gone, old[:o]...)
		come = append(come, new[:n]...)
		old, new = old[o:], new[n:]
		if len(gone)+len(come) > limit {
			return nil, nil, false
		}
	}
	if len(gone)+len(come)+len(old)+len(new) > limit {
		return nil, nil, false
	}
	return prefixes(append(gone, old...)), prefixes(append(come, new...)), true
}

// meet finds the equal elements of old and new that come first, within a
// window; if there are none it gives the window up.
func meet(old, new []string) (o, n int) {
	const window = 64
	old, new = old[:min(len(old), window)], new[:min(len(new), window)]
	for d := 1; d < len(old)+len(new)-1; d++ { // o + n == d
		for o := max(0, d-len(new)+1); o <= min(d, len(old)-1); o++ {
			if old[o] == new[d-o] {
				return o, d - o
			}
		}
	}
	return len(old), len(new)
}

func (t *Tables) buildPolicies(prev *Tables) {
	list := t.snapshot.GetPolicies()
	sameSets := sameSlice(t.snapshot.GetAddressSets(), prev.snapshot.GetAddressSets())
	if sameSets && sameSlice(list, prev.snapshot.GetPolicies()) {
		t.policies = prev.policies
		return
	}
	t.policies = make(map[string]policyRef, len(list))
	for _, p := range list {
		ref := prev.policies[p.GetName()]
		if ref.entry == nil || ref.config != p && !proto.Equal(ref.config, p) || !sameSets && !t.current(ref.entry) {
			ref.entry = t.newPolicy(p)
		}
		ref.config = p
		t.policies[p.GetName()] = ref
	}
}

// current tells whether the sets that a policy names are as they were.
func (t *Tables) current(p *policyEntry) bool {
	for _, name := range p.names {
		if now := t.sets[name]; now == nil || now.set != p.sets[name] {
			return false
		}
	}
	return true
}

func (t *Tables) newPolicy(p *dataplanev1.Policy) *policyEntry {
	entry := &policyEntry{config: p, sets: map[string]*rules.Set{}}
	for _, list := range [][]*dataplanev1.Rule{p.GetIngress(), p.GetEgress()} {
		for _, r := range list {
			for _, name := range r.GetPeers() {
				if s := t.sets[name]; s != nil && entry.sets[name] == nil {
					entry.sets[name] = s.set
					entry.names = append(entry.names, name)
				}
			}
		}
	}
	return entry
}

// buildGroups compiles anew the groups of prev whose policies have changed, and
// tells what has become of each. A group with a policy that is no more has become nil:
// none of its ports can be as it was. Groups without ports go.
func (t *Tables) buildGroups(prev *Tables) map[*group]*group {
	fresh := make(map[*group]*group, len(prev.groups))
	used := make(map[*group]bool, len(prev.groups))
	for _, p := range prev.ports {
		if p != nil {
			used[p.group] = true
		}
	}
	t.groups = make(map[string]*group, len(prev.groups))
groups:
	for key, g := range prev.groups {
		if !used[g] {
			continue
		}
		now := make([]*policyEntry, len(g.members))
		for i, m := range g.members {
			if now[i] = t.policies[m.config.GetName()].entry; now[i] == nil {
				continue groups
			}
		}
		if !slices.Equal(now, g.members) {
			fresh[g] = compileGroup(key, now)
		} else {
			fresh[g] = g
		}
		t.groups[key] = fresh[g]
	}
	return fresh
}

// group is that of ports with these policies.
func (t *Tables) group(policies []string) *group {
	key := strings.Join(policies, "\x00") // no name has a NUL
	if g := t.groups[key]; g != nil {
		return g
	}
	var members []*policyEntry
	for _, name := range policies {
		if p := t.policies[name].entry; p != nil {
			members = append(members, p)
		}
	}
	g := compileGroup(key, members)
	t.groups[key] = g
	return g
}

func compileGroup(key string, members []*policyEntry) *group {
	list := make([]rules.Policy, len(members))
	for i, m := range members {
		list[i] = rules.Policy{Policy: m.config, Sets: m.sets}
	}
	return &group{key, members, rules.Compile(list, true), rules.Compile(list, false)}
}

// prefixes parses prefixes and plain addresses; Validate has seen that they
// are good.
func prefixes(list []string) []netip.Prefix {
	if len(list) == 0 {
		return nil
	}
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		if p, why := parsePrefix(s); why == "" {
			out = append(out, p)
		}
	}
	return out
}

// sameSlice tells whether two lists are one and the same: Merge keeps those in
// which nothing changes.
func sameSlice[T any](a, b []*T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
