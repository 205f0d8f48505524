// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// role of a pod on its node.
type role string

const (
	rolePod  role = "pod"
	rolePeer role = "peer" // the other pod
	roleHost role = "host" // in the node's network: the node, as a party
)

// party is a pod that asks and answers. name is also what it answers with.
type party struct {
	name, node string
	role       role
	addresses  []netip.Addr // at most one of each family
	// trouble is why it does not run; refused: the cluster does not want it.
	trouble string
	refused bool
}

// address of a family; false if it has none.
func (p *party) address(family int) (netip.Addr, bool) { return ofFamily(p.addresses, family) }

func ofFamily(list []netip.Addr, family int) (netip.Addr, bool) {
	i := slices.IndexFunc(list, func(a netip.Addr) bool { return a.Is4() == (family == 4) })
	if i < 0 {
		return netip.Addr{}, false
	}
	return list[i], true
}

// member is a node with what the test has there.
type member struct {
	name            string
	addresses       []netip.Addr // the node's own, at most one of each family
	image           string       // of its agent, and of the pods
	pullPolicy      corev1.PullPolicy
	pod, peer, host *party
	// service is the name of the one whose only endpoint is pod.
	service           string
	clusterIPs        []netip.Addr
	nodePort, udpPort int32  // 0: it has none
	serviceTrouble    string // why it is not there
}

func (m *member) parties() []*party { return []*party{m.pod, m.peer, m.host} }

// layout is all that a plan is made of.
type layout struct {
	members  []member
	headless string // the name of the service of all pods
	port     uint16 // that pods listen on
	hostPort uint16 // that pods in the nodes' network listen on
	world    string // ADDRESS:PORT, "" for none
	wait     time.Duration
	settle   time.Duration
}

// allPairs is up to how many nodes each is tested with each.
const allPairs = 6

// pairs are the nodes, by number, between which links are tested: all, or a ring, both
// ways.
func pairs(n int) [][2]int {
	var list [][2]int
	for a := range n {
		for b := range n {
			if a != b && (n <= allPairs || (a+1)%n == b || (b+1)%n == a) {
				list = append(list, [2]int{a, b})
			}
		}
	}
	return list
}

// planner collects links.
type planner struct {
	*layout
	links []Link
}

// plan is every link that is tested, and those that cannot be, with why. Notes say what
// is not tested at all.
func plan(l *layout) (links []Link, notes []string) {
	p := &planner{layout: l}
	p.start()
	for _, family := range []int{4, 6} {
		if !p.has(family) {
			notes = append(notes, fmt.Sprintf("IPv%d is not tested: no pod has an address of it", family))
			continue
		}
		for i := range l.members {
			p.within(family, &l.members[i])
		}
		for _, pair := range pairs(len(l.members)) {
			p.between(family, &l.members[pair[0]], &l.members[pair[1]])
		}
	}
	p.apiServer()
	if l.world == "" {
		notes = append(notes, "the world is not tested: --world ADDRESS:PORT says what to connect to there")
	} else {
		p.toWorld()
	}
	switch n := len(l.members); {
	case n == 1:
		notes = append(notes, "nothing between nodes is tested: there is one only")
	case n > allPairs:
		notes = append(notes, fmt.Sprintf("of %d nodes each is tested with two others, in a ring; up to %d (--nodes) it is each with each", n, allPairs))
	}
	return p.links, notes
}

// has tells whether a pod has an address of a family.
func (p *planner) has(family int) bool {
	return slices.ContainsFunc(p.members, func(m member) bool {
		_, ok := m.pod.address(family)
		return ok
	})
}

// start has a link for each pod: that it runs.
func (p *planner) start() {
	for i := range p.members {
		m := &p.members[i]
		for _, party := range m.parties() {
			p.links = append(p.links, Link{Kind: PodsStart, From: end(party), from: party})
		}
	}
}

func end(p *party) End {
	return End{What: map[role]What{rolePod: Pod, rolePeer: OtherPod, roleHost: Node}[p.role], Node: p.node}
}

// within are the links that do not leave a node.
func (p *planner) within(family int, m *member) {
	p.direct(SameNode, family, m.pod, m.peer, m, probe.TCP, probe.UDP, probe.Bulk, probe.Echo)
	p.direct(SameNode, family, m.peer, m.pod, m, probe.TCP, probe.UDP, probe.Bulk, probe.Echo)
	p.direct(PodToNode, family, m.pod, m.host, m, probe.TCP, probe.UDP, probe.Echo)
	p.direct(NodeToPod, family, m.host, m.pod, m, probe.TCP, probe.UDP, probe.Bulk, probe.Echo)
	p.toService(PodToService, family, m.peer, m)
	p.toService(NodeToService, family, m.host, m)
	p.toService(Hairpin, family, m.pod, m)
	p.toNodePort(PodToNodePort, family, m.peer, m, m)
	p.toNodePort(NodeToNodePort, family, m.host, m, m)
	p.byHeadless(family, m.pod)
}

// between are the links from a node to another one.
func (p *planner) between(family int, a, b *member) {
	p.direct(OtherNode, family, a.pod, b.pod, b, probe.TCP, probe.UDP, probe.Bulk, probe.Echo)
	p.direct(PodToNode, family, a.pod, b.host, b, probe.TCP, probe.UDP, probe.Echo)
	p.direct(NodeToPod, family, a.host, b.pod, b, probe.TCP, probe.UDP, probe.Bulk, probe.Echo)
	p.direct(NodeToNode, family, a.host, b.host, b, probe.TCP, probe.UDP, probe.Bulk, probe.Echo)
	p.toService(PodToService, family, a.pod, b)
	p.toService(NodeToService, family, a.host, b)
	p.toNodePort(PodToNodePort, family, a.pod, b, b)
	p.toNodePort(PodToNodePort, family, a.pod, a, b)
	p.toNodePort(NodeToNodePort, family, a.host, b, b)
	l := Link{Kind: ServiceName, From: end(a.pod), To: End{What: Name, Node: b.name, Address: b.service}, Family: family, By: probe.TCP, from: a.pod}
	l.question = p.question(probe.TCP, family, net.JoinHostPort(b.service, strconv.Itoa(servicePort)), b.pod.name)
	l.question.Settle = p.settle
	p.add(l, b.pod, p.lacksService(family, b))
}

// question without a number.
func (p *planner) question(by probe.How, family int, target string, expect ...string) probe.Question {
	return probe.Question{How: by, Family: family, Target: target, Expect: expect, Wait: p.wait}
}

// add a link, unless there is something in its way.
func (p *planner) add(l Link, to *party, lacks string) {
	for _, party := range []*party{l.from, to} {
		if party != nil && party.trouble != "" && lacks == "" {
			lacks = fmt.Sprintf("the %s does not run", end(party))
			if party.role == roleHost {
				lacks = fmt.Sprintf("the pod in the network of node %s does not run", party.node)
			}
		}
	}
	l.skip = lacks
	p.links = append(p.links, l)
}

// direct links go to a pod's or a node's own address.
func (p *planner) direct(kind Kind, family int, from, to *party, m *member, by ...probe.How) {
	at, ok := to.address(family)
	port := p.port
	if to.role == roleHost {
		at, ok = ofFamily(m.addresses, family)
		port = p.hostPort
	}
	lacks := ""
	switch {
	case to.trouble != "":
	case !ok:
		lacks = fmt.Sprintf("the %s has no IPv%d address", end(to), family)
	case from.role == roleHost && from.trouble == "" && !p.nodeHas(from.node, family):
		lacks = fmt.Sprintf("the %s has no IPv%d address", end(from), family)
	}
	for _, how := range by {
		target := at.String()
		if how != probe.Echo {
			target = netip.AddrPortFrom(at, port).String()
		}
		l := Link{Kind: kind, From: end(from), To: end(to), Family: family, By: how, from: from, question: p.question(how, family, target, to.name)}
		l.To.Address = target
		l.itself = from.role != roleHost && how != probe.Echo && to.role != roleHost
		p.add(l, to, lacks)
	}
}

func (p *planner) nodeHas(name string, family int) bool {
	i := slices.IndexFunc(p.members, func(m member) bool { return m.name == name })
	_, ok := ofFamily(p.members[i].addresses, family)
	return ok
}

// lacksService is why a member's service cannot be asked in a family.
func (p *planner) lacksService(family int, m *member) string {
	if m.serviceTrouble != "" {
		return m.serviceTrouble
	}
	if _, ok := ofFamily(m.clusterIPs, family); !ok {
		return fmt.Sprintf("services have no IPv%d addresses in this cluster", family)
	}
	return ""
}

func (p *planner) toService(kind Kind, family int, from *party, m *member) {
	at, _ := ofFamily(m.clusterIPs, family)
	for _, how := range []probe.How{probe.TCP, probe.UDP} {
		target := netip.AddrPortFrom(at, servicePort).String()
		l := Link{Kind: kind, From: end(from), To: End{What: Service, Node: m.name, Address: target}, Family: family, By: how, from: from, question: p.question(how, family, target, m.pod.name)}
		l.question.Settle = p.settle
		p.add(l, m.pod, p.lacksService(family, m))
	}
}

// toNodePort links go to a port of node via, of the service of member m.
func (p *planner) toNodePort(kind Kind, family int, from *party, via, m *member) {
	at, ok := ofFamily(via.addresses, family)
	lacks := p.lacksService(family, m)
	if lacks == "" && !ok {
		lacks = fmt.Sprintf("node %s has no IPv%d address", via.name, family)
	}
	for _, how := range []probe.How{probe.TCP, probe.UDP} {
		port := m.nodePort
		if how == probe.UDP {
			port = m.udpPort
		}
		why := lacks
		if why == "" && port == 0 {
			why = "the service got no node port"
		}
		target := netip.AddrPortFrom(at, uint16(port)).String()
		l := Link{Kind: kind, From: end(from), To: End{What: NodePort, Node: m.name, Via: via.name, Address: target}, Family: family, By: how, from: from, question: p.question(how, family, target, m.pod.name)}
		l.question.Settle = p.settle
		p.add(l, m.pod, why)
	}
}

// byHeadless compares what DNS says of the service of all pods with their addresses.
func (p *planner) byHeadless(family int, from *party) {
	var all []string
	for i := range p.members {
		if at, ok := p.members[i].pod.address(family); ok && p.members[i].pod.trouble == "" {
			all = append(all, at.String())
		}
	}
	l := Link{Kind: Headless, From: end(from), To: End{What: Name, Address: p.headless}, Family: family, By: probe.Lookup, from: from, question: p.question(probe.Lookup, family, p.headless, all...)}
	l.question.Settle = p.settle
	p.add(l, nil, "")
}

func (p *planner) apiServer() {
	for i := range p.members {
		from := p.members[i].pod
		for _, target := range []string{probe.APIServer, "kubernetes.default.svc:443"} {
			to := End{What: APIServer}
			if target != probe.APIServer {
				to = End{What: Name, Address: target}
			}
			p.add(Link{Kind: ToAPIServer, From: end(from), To: to, By: probe.HTTPS, from: from, question: p.question(probe.HTTPS, 0, target)}, nil, "")
		}
	}
}

func (p *planner) toWorld() {
	for i := range p.members {
		for _, from := range []*party{p.members[i].pod, p.members[i].host} {
			kind := ToWorld
			if from.role == roleHost {
				kind = NodeToWorld
			}
			p.add(Link{Kind: kind, From: end(from), To: End{What: World, Address: p.world}, By: probe.Open, from: from, question: p.question(probe.Open, 0, p.world)}, nil, "")
		}
	}
}
