// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Compiler keeps a state and its tables, and works out what a change to the one
// does to the other:
//
//	policy ──is for, has rules about──> group <──is in──> endpoint
//	                                      │ found by label    │
//	                                    scope <──is in──> namespace
//
// What it is given (label maps) it keeps and reads later: it must not be changed
// afterwards. A Compiler must not be used by two goroutines at once; the Results
// that it gave may be.
type Compiler struct {
	node       Node
	namespaces map[string]*namespace
	endpoints  map[string]*endpoint
	policies   map[string]*policy
	// kubernetes are the policies of Kubernetes' kinds by their names in the
	// tables, and ports the numbers that endpoints give named ports, with how many
	// do.
	kubernetes map[string]*kubernetesPolicy
	ports      map[portKey]map[uint16]int
	groups     map[string]*group
	scopes     map[string]*scope
	lastGroup  uint64

	local  []*endpoint // not remote, sorted by ID
	strays addressSet  // of endpoints, outside of the pod networks

	// What Result takes over from the last time; nil: stale.
	shape        *shape
	entities     map[v1alpha1.Entity]*dataplanev1.AddressSet
	entityStrays *dataplanev1.AddressSet            // that those were made with
	nodeSets     map[string]*dataplanev1.AddressSet // by name
}

type policy struct {
	translation
	closing *dataplanev1.Policy // see the function; nil: not made yet
	subject *group
	about   []*group
	sets    []set
	outgrew error // why it is not what it is written as now; see Problem
}

// set is an address set that rules name: its addresses may change while the
// rules stay.
type set struct {
	name string
	get  func() *dataplanev1.AddressSet
}

// shape is which policies the local endpoints have and which sets those name.
type shape struct {
	policies []*policy // sorted by name
	sets     []set     // sorted by name
	problems []Problem
	// baseline: there are policies of that tier among them.
	baseline bool
}

// NewCompiler returns a Compiler of the empty state.
func NewCompiler() *Compiler {
	return &Compiler{
		namespaces: make(map[string]*namespace),
		endpoints:  make(map[string]*endpoint),
		policies:   make(map[string]*policy),

		kubernetes: make(map[string]*kubernetesPolicy),
		ports:      make(map[portKey]map[uint16]int),

		groups: make(map[string]*group),
		scopes: make(map[string]*scope),

		entities: make(map[v1alpha1.Entity]*dataplanev1.AddressSet),
		nodeSets: make(map[string]*dataplanev1.AddressSet),
	}
}

// SetNode sets what the entities mean.
func (c *Compiler) SetNode(n Node) {
	old := c.node
	samePods := slices.Equal(n.PodNetworks, old.PodNetworks)
	if samePods && slices.Equal(n.HostAddresses, old.HostAddresses) && slices.Equal(n.APIServer, old.APIServer) && slices.EqualFunc(n.Nodes, old.Nodes, ClusterNode.equal) {
		return
	}
	c.node = Node{
		HostAddresses: slices.Clone(n.HostAddresses), PodNetworks: slices.Clone(n.PodNetworks), Nodes: slices.Clone(n.Nodes), APIServer: slices.Clone(n.APIServer),
	}
	clear(c.entities)
	clear(c.nodeSets)
	if samePods {
		return
	}
	c.strays = addressSet{}
	for _, e := range c.endpoints {
		c.strays.add(c.stray(e.addresses))
	}
}

// stray returns the addresses that lie in no pod network.
func (c *Compiler) stray(as []address) []address {
	return slices.DeleteFunc(slices.Clone(as), func(a address) bool {
		return slices.ContainsFunc(c.node.PodNetworks, func(p netip.Prefix) bool { return p.Contains(a.Addr) })
	})
}

// SetNamespace adds a namespace or changes its labels.
func (c *Compiler) SetNamespace(name string, labels map[string]string) {
	n := c.namespace(name)
	n.listed = true
	c.relabel(n, labels)
}

// DeleteNamespace forgets a namespace's labels. Its endpoints stay.
func (c *Compiler) DeleteNamespace(name string) {
	n := c.namespace(name)
	n.listed = false
	c.relabel(n, nil)
	c.dropNamespace(n)
}

func (c *Compiler) namespace(name string) *namespace {
	n := c.namespaces[name]
	if n == nil {
		n = &namespace{name: name, endpoints: make(map[*endpoint]struct{}), scopes: make(map[*scope]struct{})}
		c.namespaces[name] = n
		c.relabel(n, nil)
	}
	return n
}

func (c *Compiler) relabel(n *namespace, labels map[string]string) {
	all := make(map[string]string, len(labels)+1)
	maps.Copy(all, labels)
	all[NamespaceNameLabel] = n.name
	if maps.Equal(n.labels, all) {
		return
	}
	n.labels = all
	moved := false
	for _, s := range c.scopes {
		_, was := s.namespaces[n]
		switch is := s.includes(n); {
		case is && !was:
			s.namespaces[n], n.scopes[s], moved = struct{}{}, struct{}{}, true
		case !is && was:
			delete(s.namespaces, n)
			delete(n.scopes, s)
			moved = true
		}
	}
	if moved {
		for e := range n.endpoints {
			c.regroup(e)
		}
	}
}

// dropNamespace forgets a namespace that nothing is known of.
func (c *Compiler) dropNamespace(n *namespace) {
	if n.listed || len(n.endpoints) > 0 {
		return
	}
	for s := range n.scopes {
		delete(s.namespaces, n)
	}
	delete(c.namespaces, n.name)
}

// SetEndpoint adds an endpoint or changes it.
func (c *Compiler) SetEndpoint(in Endpoint) {
	e := c.endpoints[in.ID]
	if e != nil && (e.namespace.name != in.Namespace || e.remote != in.Remote) {
		c.DeleteEndpoint(in.ID)
		e = nil
	}
	as, ports := addresses(in.Addresses), distinct(in.Ports)
	labels := inLabels(&in, ports)
	if e == nil {
		c.namePorts(ports, 1)
		e = &endpoint{id: in.ID, namespace: c.namespace(in.Namespace), remote: in.Remote, labels: labels, ports: ports, addresses: as}
		c.endpoints[e.id] = e
		e.namespace.endpoints[e] = struct{}{}
		c.strays.add(c.stray(as))
		if !e.remote {
			at, _ := slices.BinarySearchFunc(c.local, e.id, compareID)
			c.local = slices.Insert(c.local, at, e)
		}
		c.regroup(e)
		return
	}
	if !slices.Equal(e.addresses, as) {
		for _, g := range e.groups {
			if g.addresses != nil {
				g.addresses.remove(e.addresses)
				g.addresses.add(as)
			}
		}
		c.strays.remove(c.stray(e.addresses))
		c.strays.add(c.stray(as))
		e.addresses = as
	}
	if !slices.Equal(e.ports, ports) {
		c.namePorts(ports, 1)
		c.namePorts(e.ports, -1)
		e.ports = ports
	}
	if !maps.Equal(e.labels, labels) {
		e.labels = labels
		c.regroup(e)
	}
}

func compareID(e *endpoint, id string) int { return strings.Compare(e.id, id) }

// DeleteEndpoint removes an endpoint, if it is there.
func (c *Compiler) DeleteEndpoint(id string) {
	e := c.endpoints[id]
	if e == nil {
		return
	}
	for _, g := range e.groups {
		c.leave(g, e)
	}
	c.strays.remove(c.stray(e.addresses))
	if !e.remote {
		at, _ := slices.BinarySearchFunc(c.local, id, compareID)
		c.local = slices.Delete(c.local, at, at+1)
	}
	delete(c.endpoints, id)
	delete(e.namespace.endpoints, e)
	c.dropNamespace(e.namespace)
	c.namePorts(e.ports, -1)
}

// regroup puts an endpoint into the groups that its labels and those of its
// namespace lead to, and takes it out of the others.
func (c *Compiler) regroup(e *endpoint) {
	var want []*group
	for s := range e.namespace.scopes {
		want = s.find(e.labels, want)
	}
	slices.SortFunc(want, func(a, b *group) int { return cmp.Compare(a.id, b.id) })

	have, now := e.groups, want
	for len(have) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(have) > 0 && have[0].id < now[0].id:
			c.leave(have[0], e)
			have = have[1:]
		case len(have) == 0 || now[0].id < have[0].id:
			c.join(now[0], e)
			now = now[1:]
		default:
			have, now = have[1:], now[1:]
		}
	}
	e.groups = want
}

// join and leave are group's; a group's first and last local member decides
// whether its policies are needed.
func (c *Compiler) join(g *group, e *endpoint) {
	before := g.local
	g.join(e)
	c.needed(g, before)
}

func (c *Compiler) leave(g *group, e *endpoint) {
	before := g.local
	g.leave(e)
	c.needed(g, before)
}

func (c *Compiler) needed(g *group, before int) {
	if len(g.policies) > 0 && (before == 0) != (g.local == 0) {
		c.shape = nil
	}
}

// SetPolicy adds a policy or changes it. One that is not understood closes what
// it selects; see Problem.
func (c *Compiler) SetPolicy(in *v1alpha1.NetIOPolicy) { c.set(translate(in)) }

func (c *Compiler) set(t translation) {
	old := c.policies[t.message.Name]
	if old != nil && old.outgrew != nil {
		old.outgrew, c.shape = nil, nil
	}
	if err := tooLarge(t.message); err != nil {
		if old != nil && old.err == nil {
			old.outgrew, c.shape = err, nil
			return
		}
		t.closeLarge(err)
	}
	p := &policy{translation: t}
	if old != nil && old.same(&p.translation) {
		return
	}
	// The new one first: what both need is kept.
	p.subject = c.acquire(p.translation.subject)
	at, _ := slices.BinarySearchFunc(p.subject.policies, p, comparePolicies)
	p.subject.policies = slices.Insert(p.subject.policies, at, p)
	p.subject.touch()
	for _, peer := range p.peers {
		switch {
		case peer.pods != nil:
			g := c.acquire(*peer.pods)
			p.about = append(p.about, g)
			p.sets = append(p.sets, set{peer.name, g.nameInRules().get})
		case peer.nodes != nil:
			p.sets = append(p.sets, set{peer.name, func() *dataplanev1.AddressSet { return c.nodeSet(peer.name, peer.nodes) }})
		case peer.entity != "":
			p.sets = append(p.sets, set{peer.name, func() *dataplanev1.AddressSet { return c.entitySet(peer.entity) }})
		default:
			p.sets = append(p.sets, set{peer.name, func() *dataplanev1.AddressSet { return peer.static }})
		}
	}
	if old != nil {
		c.remove(old)
	}
	c.policies[p.message.Name] = p
	c.shape = nil
}

func (p *policy) same(t *translation) bool {
	return proto.Equal(p.message, t.message) && p.translation.subject.name() == t.subject.name() &&
		p.err == nil && t.err == nil
}

// DeletePolicy removes a policy, if it is there.
func (c *Compiler) DeletePolicy(namespace, name string) { c.delete(Name(namespace, name)) }

func (c *Compiler) delete(name string) {
	if p := c.policies[name]; p != nil {
		c.remove(p)
		delete(c.policies, p.message.Name)
		c.shape = nil
	}
}

func (c *Compiler) remove(p *policy) {
	p.subject.policies = slices.DeleteFunc(p.subject.policies, func(other *policy) bool { return other == p })
	p.subject.touch()
	c.release(p.subject)
	for _, g := range p.about {
		g.unnameInRules()
		c.release(g)
	}
}

// touch makes the members look up their policies again.
func (g *group) touch() {
	for e := range g.members {
		e.policies = nil
	}
}

func (c *Compiler) entitySet(e v1alpha1.Entity) *dataplanev1.AddressSet {
	if e == v1alpha1.EntityWorld || e == v1alpha1.EntityCluster {
		if strays := c.strays.get(); c.entityStrays != strays {
			c.entityStrays = strays
			delete(c.entities, v1alpha1.EntityWorld)
			delete(c.entities, v1alpha1.EntityCluster)
		}
	}
	if c.entities[e] == nil {
		c.entities[e] = entitySet(e, &c.node, c.entityStrays)
	}
	return c.entities[e]
}

func (c *Compiler) nodeSet(name string, labels *selector) *dataplanev1.AddressSet {
	if c.nodeSets[name] == nil {
		c.nodeSets[name] = nodeSet(name, labels, &c.node)
	}
	return c.nodeSets[name]
}

// Result returns the tables of the state as it is now.
func (c *Compiler) Result() Result {
	if c.shape == nil {
		c.shape = c.reshape()
	}
	r := Result{
		Policies:    make([]*dataplanev1.Policy, len(c.shape.policies)),
		AddressSets: make([]*dataplanev1.AddressSet, len(c.shape.sets)),
		Endpoints:   make([]EndpointPolicies, len(c.local)),
		Problems:    slices.Clone(c.shape.problems),
	}
	for i, p := range c.shape.policies {
		r.Policies[i] = p.message
		if c.shape.baseline {
			if p.closing == nil {
				p.closing = closing(p.message)
			}
			r.Policies[i] = p.closing
		}
	}
	for i, s := range c.shape.sets {
		r.AddressSets[i] = s.get()
	}
	for i, e := range c.local {
		r.Endpoints[i] = EndpointPolicies{ID: e.id, Policies: e.policyNames()}
	}
	return r
}

func (c *Compiler) reshape() *shape {
	s := &shape{}
	clear(c.nodeSets) // those of policies that are gone must not stay for ever
	for _, p := range c.policies {
		switch {
		case p.outgrew != nil:
			s.problems = append(s.problems, Problem{Policy: p.message.Name, Reason: TooLarge, Err: p.outgrew, Effect: effectKept})
		case p.err != nil && p.large:
			s.problems = append(s.problems, Problem{Policy: p.message.Name, Reason: TooLarge, Err: p.err, Effect: effectClosed})
		case p.err != nil:
			effect := effectClosed
			if kind, _, _ := Object(p.message.Name); kind == KindClusterNetworkPolicy {
				effect = effectRule
			}
			s.problems = append(s.problems, Problem{Policy: p.message.Name, Reason: NotUnderstood, Err: p.err, Effect: effect})
		}
		if p.subject.local > 0 {
			s.policies = append(s.policies, p)
			s.baseline = s.baseline || p.baseline
			s.sets = append(s.sets, p.sets...)
		}
	}
	for name, p := range c.kubernetes {
		if len(p.unknown) > 0 {
			err := fmt.Errorf("no pod has a port by the name %s: rules by it match nothing; give a container's port the name, or the rule the port's number", strings.Join(p.unknown, ", "))
			s.problems = append(s.problems, Problem{Policy: name, Reason: NoEffect, Err: err, Effect: effectRest})
		}
	}
	slices.SortFunc(s.policies, comparePolicies)
	slices.SortFunc(s.problems, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.Policy, b.Policy), strings.Compare(string(b.Reason), string(a.Reason)))
	})
	slices.SortFunc(s.sets, func(a, b set) int { return strings.Compare(a.name, b.name) })
	s.sets = slices.CompactFunc(s.sets, func(a, b set) bool { return a.name == b.name })
	return s
}
