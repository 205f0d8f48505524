// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
)

// group is the pods that one selection picks. Policies with equal selections
// share it, be they for those pods or about them.
type group struct {
	id        uint64 // grows in the order of creation
	name      string
	scope     *scope
	pods      selector
	refs      int
	members   map[*endpoint]struct{}
	local     int         // members that are not remote
	policies  []*policy   // that are for these pods, sorted by name
	rules     int         // policies whose rules name these pods
	addresses *addressSet // of the members; nil: no rule names them
}

// scope is namespaces that selections are made in: one by its name, or those
// with certain labels. It finds its groups by the labels of a pod.
type scope struct {
	name       string
	namespace  string
	labels     *selector // nil: the one namespace
	namespaces map[*namespace]struct{}
	byLabel    map[label][]*group
	others     []*group // that no label leads to
	groups     int
}

type label struct{ key, value string }

type namespace struct {
	name      string
	listed    bool              // by SetNamespace
	labels    map[string]string // with NamespaceNameLabel
	endpoints map[*endpoint]struct{}
	scopes    map[*scope]struct{}
}

type endpoint struct {
	id        string
	namespace *namespace
	remote    bool
	labels    map[string]string // see inLabels
	ports     []Port            // that have a name
	addresses []address
	groups    []*group // sorted by id
	policies  []string // of groups; nil: stale
}

func (s *scope) includes(n *namespace) bool {
	if s.labels == nil {
		return s.namespace == n.name
	}
	return s.labels.matches(n.labels)
}

func (s *scope) add(g *group) {
	s.groups++
	key := g.pods.indexKey()
	if key == nil {
		s.others = append(s.others, g)
		return
	}
	for _, value := range key.values {
		l := label{key.key, value}
		s.byLabel[l] = append(s.byLabel[l], g)
	}
}

func (s *scope) remove(g *group) {
	without := func(groups []*group) []*group {
		return slices.DeleteFunc(groups, func(other *group) bool { return other == g })
	}
	s.groups--
	key := g.pods.indexKey()
	if key == nil {
		s.others = without(s.others)
		return
	}
	for _, value := range key.values {
		l := label{key.key, value}
		if s.byLabel[l] = without(s.byLabel[l]); len(s.byLabel[l]) == 0 {
			delete(s.byLabel, l)
		}
	}
}

// find appends the groups of the scope that a pod with the labels is in. A group
// is indexed by values of one key only, so that it is found once.
func (s *scope) find(labels map[string]string, found []*group) []*group {
	try := func(groups []*group) {
		for _, g := range groups {
			if g.pods.matches(labels) {
				found = append(found, g)
			}
		}
	}
	try(s.others)
	if len(s.byLabel) > 0 {
		for key, value := range labels {
			try(s.byLabel[label{key, value}])
		}
	}
	return found
}

// policyNames returns the sorted names of the endpoint's policies. The list is
// not changed afterwards.
func (e *endpoint) policyNames() []string {
	if e.policies == nil {
		e.policies = []string{}
		for _, g := range e.groups {
			for _, p := range g.policies {
				e.policies = append(e.policies, p.message.Name)
			}
		}
		slices.Sort(e.policies)
	}
	return e.policies
}

func comparePolicies(a, b *policy) int { return strings.Compare(a.message.Name, b.message.Name) }

// acquire returns the group of a selection, a new one if need be, for one more
// user.
func (c *Compiler) acquire(s selection) *group {
	g := c.groups[s.name()]
	if g != nil {
		g.refs++
		return g
	}
	c.lastGroup++
	g = &group{id: c.lastGroup, name: s.name(), pods: s.pods, refs: 1, members: make(map[*endpoint]struct{})}
	c.groups[g.name] = g
	g.scope = c.scope(&s)
	g.scope.add(g)
	for n := range g.scope.namespaces {
		for e := range n.endpoints {
			if g.pods.matches(e.labels) {
				g.join(e)
				e.groups = append(e.groups, g) // its id is the greatest
			}
		}
	}
	return g
}

// release gives a group up for one user.
func (c *Compiler) release(g *group) {
	if g.refs--; g.refs > 0 {
		return
	}
	for e := range g.members {
		e.groups = slices.DeleteFunc(e.groups, func(other *group) bool { return other == g })
	}
	delete(c.groups, g.name)
	g.scope.remove(g)
	if g.scope.groups == 0 {
		for n := range g.scope.namespaces {
			delete(n.scopes, g.scope)
		}
		delete(c.scopes, g.scope.name)
	}
}

// scope returns the scope of a selection, a new one if need be.
func (c *Compiler) scope(s *selection) *scope {
	if known := c.scopes[s.scope()]; known != nil {
		return known
	}
	sc := &scope{
		name: s.scope(), namespace: s.namespace, labels: s.namespaces,
		namespaces: make(map[*namespace]struct{}), byLabel: make(map[label][]*group),
	}
	c.scopes[sc.name] = sc
	include := func(n *namespace) {
		n.scopes[sc] = struct{}{}
		sc.namespaces[n] = struct{}{}
	}
	if sc.labels == nil {
		if n := c.namespaces[sc.namespace]; n != nil {
			include(n)
		}
		return sc
	}
	for _, n := range c.namespaces {
		if sc.includes(n) {
			include(n)
		}
	}
	return sc
}

// nameInRules makes the group's addresses available to one more policy's rules.
func (g *group) nameInRules() *addressSet {
	if g.rules++; g.rules == 1 {
		g.addresses = &addressSet{name: g.name}
		for e := range g.members {
			g.addresses.add(e.addresses)
		}
	}
	return g.addresses
}

func (g *group) unnameInRules() {
	if g.rules--; g.rules == 0 {
		g.addresses = nil
	}
}

// join and leave keep the group's books; the endpoint's are the caller's.
func (g *group) join(e *endpoint) { g.account(e, 1) }

func (g *group) leave(e *endpoint) { g.account(e, -1) }

func (g *group) account(e *endpoint, sign int) {
	if sign > 0 {
		g.members[e] = struct{}{}
	} else {
		delete(g.members, e)
	}
	if !e.remote {
		g.local += sign
	}
	if g.addresses != nil {
		g.addresses.change(e.addresses, int32(sign))
	}
	if len(g.policies) > 0 {
		e.policies = nil
	}
}
