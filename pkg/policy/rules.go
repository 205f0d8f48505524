// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Tiers of the tables' rules, in the order in which they decide.
const (
	tierAdmin    = 50
	tierNormal   = 100
	tierBaseline = 150
)

// places is how many rules, one before the other, a priority of the tiers Admin and
// Baseline has room for: 500 is 500000 to 500999 in the tables. NetIOClusterPolicies
// have the first place.
const places = 1000

// maxPriority is the last priority of a policy.
const maxPriority = 1000

// Protocol numbers, by IANA's registry.
const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
	protocolSCTP   = 132
)

// Name is the name in the tables of a NetIOPolicy object: shop/web. Objects of
// other kinds have their kind in front, which no namespace looks like.
func Name(namespace, name string) string {
	return namespace + "/" + name
}

// RuleName is the name in the tables of a rule: its own, or its place.
func RuleName(name v1alpha1.RuleName, direction string, index int) string {
	if name != "" {
		return string(name)
	}
	return fmt.Sprintf("%s[%d]", direction, index)
}

// translation is a policy in the terms of the tables.
type translation struct {
	subject selection
	message *dataplanev1.Policy
	peers   []peerSet // that the rules name, without duplicates
	err     error     // why it is closed; see Problem
	large   bool      // err is that it is too large
	// baseline: it has rules of that tier.
	baseline bool
}

// peerSet is an address set that a rule names: pods, nodes, addresses or an entity.
type peerSet struct {
	name   string
	pods   *selection
	nodes  *selector
	static *dataplanev1.AddressSet
	entity v1alpha1.Entity
}

// written is what a policy of NetIO says, of either kind.
type written struct {
	name       string // in the tables
	subject    selection
	subjectErr error
	// own is the selection of a peer that names no namespaces.
	own         func(pods selector) selection
	tier        v1alpha1.Tier
	priority    *int32
	policyTypes []v1alpha1.PolicyType
	audit       bool
	// actions that its rules may have, as people are told.
	actions string
	ingress []v1alpha1.IngressRule
	egress  []v1alpha1.EgressRule
}

// translate translates a policy, a closed one if it is not understood.
func translate(p *v1alpha1.NetIOPolicy) translation {
	w := written{
		name: Name(p.Namespace, p.Name), tier: v1alpha1.TierNormal, priority: p.Spec.Priority,
		policyTypes: p.Spec.PolicyTypes, audit: p.Spec.Audit, actions: "Allow or Deny", ingress: p.Spec.Ingress, egress: p.Spec.Egress,
	}
	w.own = func(pods selector) selection { return inNamespace(p.Namespace, pods) }
	pods, err := parseSelector(running(&p.Spec.PodSelector, p.Spec.ServiceAccounts))
	if err != nil {
		pods, w.subjectErr = everything, fmt.Errorf("spec.podSelector: %w", err)
	}
	w.subject = w.own(pods)
	return w.translate()
}

func (w *written) translate() translation {
	t := translation{message: &dataplanev1.Policy{Name: w.name, Audit: w.audit}, subject: w.subject}
	in, out, err := w.directions()
	rules := ruleTranslator{own: w.own, actions: w.actions}
	switch w.tier {
	case v1alpha1.TierNormal:
		rules.tier = tierNormal
		t.message.IsolatesIngress, t.message.IsolatesEgress = in, out
	case v1alpha1.TierBaseline:
		rules.tier, t.baseline = tierBaseline, len(w.ingress)+len(w.egress) > 0
	case v1alpha1.TierAdmin:
		rules.tier = tierAdmin
	default:
		rules.tier = tierAdmin // whatever it meant, it is closed
		rules.fail("spec.tier", fmt.Errorf("%q: expected Admin, Normal or Baseline", w.tier))
	}

	rules.priority = v1alpha1.DefaultPriority
	if w.priority != nil {
		rules.priority = uint32(*w.priority)
	}
	if rules.priority > maxPriority {
		rules.priority = 0
		rules.fail("spec.priority", fmt.Errorf("%d: expected 0 to 1000", *w.priority))
	}
	if rules.tier != tierNormal {
		rules.priority *= places
	}
	for i, r := range w.ingress {
		t.message.Ingress = append(t.message.Ingress, rules.rule("ingress", i, r.Name, r.Action, r.Log, r.From, r.RuleProtocols))
	}
	for i, r := range w.egress {
		t.message.Egress = append(t.message.Egress, rules.rule("egress", i, r.Name, r.Action, r.Log, r.To, r.RuleProtocols))
	}

	for _, rules := range [][]*dataplanev1.Rule{t.message.Ingress, t.message.Egress} {
		if err == nil {
			err = uniqueNames(rules)
		}
	}
	for _, err := range []error{w.subjectErr, err, rules.err} {
		if err != nil {
			t.close(in, out, rules.tier, rules.priority, err)
			return t
		}
	}
	t.peers = rules.peers
	return t
}

// directions returns which directions a policy covers, or has rules for.
func (w *written) directions() (ingress, egress bool, err error) {
	if w.tier == v1alpha1.TierAdmin || w.tier == v1alpha1.TierBaseline {
		if len(w.policyTypes) > 0 {
			return true, true, fmt.Errorf("spec.policyTypes: expected none in the tier %s", w.tier)
		}
		return len(w.ingress) > 0, len(w.egress) > 0, nil
	}
	if len(w.policyTypes) == 0 {
		return true, len(w.egress) > 0, nil
	}
	for i, t := range w.policyTypes {
		switch t {
		case v1alpha1.PolicyTypeIngress:
			ingress = true
		case v1alpha1.PolicyTypeEgress:
			egress = true
		default:
			return true, true, fmt.Errorf("spec.policyTypes[%d]: %q: expected Ingress or Egress", i, t)
		}
	}
	if len(w.ingress) > 0 && !ingress || len(w.egress) > 0 && !egress {
		return true, true, fmt.Errorf("spec.policyTypes: expected the directions that there are rules for")
	}
	return ingress, egress, nil
}

func uniqueNames(rules []*dataplanev1.Rule) error {
	seen := make(map[string]bool, len(rules))
	for _, r := range rules {
		if seen[r.Name] {
			return fmt.Errorf("rule name %q: expected a name of its own for each rule of a direction", r.Name)
		}
		seen[r.Name] = true
	}
	return nil
}

// close makes the policy deny in these directions, because of err.
func (t *translation) close(ingress, egress bool, tier, priority uint32, err error) {
	deny := []*dataplanev1.Rule{{
		Name: "not-understood", Tier: tier, Priority: priority, Action: dataplanev1.Action_DENY,
	}}
	t.message.Ingress, t.message.Egress = nil, nil
	if ingress {
		t.message.Ingress = deny
	}
	if egress {
		t.message.Egress = deny
	}
	t.err = err
}

// isolationRule is the name of the rule that stands for a policy's closing of a
// direction. No rule of a policy can have it.
const isolationRule = "(isolation)"

// closing is the policy with a rule behind all others of its tier that drops the
// rest, where it closes a direction: what the tier Normal closes is not for the tier
// Baseline to decide about, unless a rule has passed it on.
func closing(m *dataplanev1.Policy) *dataplanev1.Policy {
	if !m.IsolatesIngress && !m.IsolatesEgress {
		return m
	}
	rest := &dataplanev1.Rule{Name: isolationRule, Tier: tierNormal, Priority: maxPriority + 1, Action: dataplanev1.Action_DENY}
	out := &dataplanev1.Policy{
		Name: m.Name, Audit: m.Audit, IsolatesIngress: m.IsolatesIngress, IsolatesEgress: m.IsolatesEgress, Ingress: m.Ingress, Egress: m.Egress,
	}
	if m.IsolatesIngress {
		out.Ingress = append(slices.Clip(m.Ingress), rest)
	}
	if m.IsolatesEgress {
		out.Egress = append(slices.Clip(m.Egress), rest)
	}
	return out
}

// ruleTranslator translates the rules of one policy; it keeps the first error.
type ruleTranslator struct {
	own            func(pods selector) selection
	tier, priority uint32
	actions        string
	peers          []peerSet
	err            error
}

func (t *ruleTranslator) fail(field string, err error) {
	if t.err == nil {
		t.err = fmt.Errorf("%s: %w", field, err)
	}
}

func (t *ruleTranslator) rule(direction string, index int, name v1alpha1.RuleName,
	action v1alpha1.Action, log bool, peers []v1alpha1.Peer, protocols v1alpha1.RuleProtocols) *dataplanev1.Rule {
	field := fmt.Sprintf("spec.%s[%d]", direction, index)
	r := &dataplanev1.Rule{Name: RuleName(name, direction, index), Tier: t.tier, Priority: t.priority, Log: log}

	switch {
	case action == v1alpha1.ActionAllow:
		r.Action = dataplanev1.Action_ALLOW
	case action == v1alpha1.ActionDeny:
		r.Action = dataplanev1.Action_DENY
	case action == v1alpha1.ActionPass && t.actions == everyAction:
		r.Action = dataplanev1.Action_PASS
	default:
		t.fail(field+".action", fmt.Errorf("%q: expected %s", action, t.actions))
	}

	everyone := false
	for i := range peers {
		set, err := t.peer(&peers[i])
		if err != nil {
			list := map[string]string{"ingress": "from", "egress": "to"}[direction]
			t.fail(fmt.Sprintf("%s.%s[%d]", field, list, i), err)
			continue
		}
		if set.entity == v1alpha1.EntityAll {
			everyone = true
			continue
		}
		r.Peers = append(r.Peers, set.name)
		if !slices.ContainsFunc(t.peers, func(s peerSet) bool { return s.name == set.name }) {
			t.peers = append(t.peers, set)
		}
	}
	slices.Sort(r.Peers)
	r.Peers = slices.Compact(r.Peers)
	if everyone {
		r.Peers = nil
	}

	var err error
	if r.L4, err = l4(&protocols); err != nil {
		t.fail(field, err)
	}
	return r
}

// peer translates a peer.
func (t *ruleTranslator) peer(p *v1alpha1.Peer) (peerSet, error) {
	kinds := 0
	for _, given := range []bool{p.PodSelector != nil || p.NamespaceSelector != nil || len(p.ServiceAccounts) > 0, p.NodeSelector != nil, p.CIDR != "", p.Entity != ""} {
		if given {
			kinds++
		}
	}
	if kinds != 1 || len(p.Except) > 0 && p.CIDR == "" {
		return peerSet{}, fmt.Errorf("expected exactly one of podSelector, namespaceSelector and serviceAccounts, nodeSelector, cidr (with except), entity")
	}
	switch {
	case p.CIDR != "":
		return prefixes(p.CIDR, p.Except)
	case p.Entity != "":
		if p.Entity != v1alpha1.EntityAll && !slices.Contains(entities, p.Entity) {
			return peerSet{}, fmt.Errorf("entity: %q: expected one of %v and all", p.Entity, entities)
		}
		return peerSet{name: "entity:" + string(p.Entity), entity: p.Entity}, nil
	}

	if p.NodeSelector != nil {
		nodes, err := parseSelector(p.NodeSelector)
		if err != nil {
			return peerSet{}, fmt.Errorf("nodeSelector: %w", err)
		}
		return peerSet{name: setName("nodes:" + nodes.text), nodes: &nodes}, nil
	}

	pods, err := parseSelector(running(p.PodSelector, p.ServiceAccounts))
	if err != nil {
		return peerSet{}, fmt.Errorf("podSelector: %w", err)
	}
	var s selection
	if p.NamespaceSelector == nil {
		s = t.own(pods)
	} else {
		namespaces, err := parseSelector(p.NamespaceSelector)
		if err != nil {
			return peerSet{}, fmt.Errorf("namespaceSelector: %w", err)
		}
		s = inNamespaces(namespaces, pods)
	}
	return peerSet{name: s.name(), pods: &s}, nil
}

func prefixes(cidr v1alpha1.Prefix, except []v1alpha1.Prefix) (peerSet, error) {
	whole, err := parsePrefix(cidr)
	if err != nil {
		return peerSet{}, fmt.Errorf("cidr: %w", err)
	}
	set := &dataplanev1.AddressSet{Prefixes: []string{whole.String()}}
	for i, e := range except {
		part, err := parsePrefix(e)
		if err != nil {
			return peerSet{}, fmt.Errorf("except[%d]: %w", i, err)
		}
		set.Except = append(set.Except, part.String())
	}
	slices.Sort(set.Except)
	set.Except = slices.Compact(set.Except)

	set.Name = "cidr:" + whole.String()
	if len(set.Except) > 0 {
		set.Name = setName(set.Name + " except " + strings.Join(set.Except, ","))
	}
	return peerSet{name: set.Name, static: set}, nil
}

func l4(p *v1alpha1.RuleProtocols) ([]*dataplanev1.L4Match, error) {
	var out []*dataplanev1.L4Match
	for i, port := range p.Ports {
		m := &dataplanev1.L4Match{}
		switch port.Protocol {
		case v1alpha1.ProtocolTCP, "":
			m.Protocol = protocolTCP
		case v1alpha1.ProtocolUDP:
			m.Protocol = protocolUDP
		case v1alpha1.ProtocolSCTP:
			m.Protocol = protocolSCTP
		default:
			return nil, fmt.Errorf("ports[%d].protocol: %q: expected TCP, UDP or SCTP", i, port.Protocol)
		}
		first, last := port.Port, port.EndPort
		if last == nil {
			last = first
		}
		if last != nil {
			if first == nil || *first < 1 || *last < *first || *last > 65535 {
				return nil, fmt.Errorf("ports[%d]: expected port and endPort between 1 and 65535, endPort not less than port", i)
			}
			m.FirstPort, m.LastPort = uint32(*first), uint32(*last)
		}
		out = append(out, m)
	}
	for i, icmp := range p.ICMP {
		m := &dataplanev1.L4Match{}
		switch icmp.Family {
		case v1alpha1.IPv4:
			m.Protocol = protocolICMP
		case v1alpha1.IPv6:
			m.Protocol = protocolICMPv6
		default:
			return nil, fmt.Errorf("icmp[%d].family: %q: expected IPv4 or IPv6", i, icmp.Family)
		}
		if icmp.Code != nil && icmp.Type == nil {
			return nil, fmt.Errorf("icmp[%d]: expected a type for the code", i)
		}
		for _, number := range []*int32{icmp.Type, icmp.Code} {
			if number != nil && (*number < 0 || *number > 255) {
				return nil, fmt.Errorf("icmp[%d]: expected type and code between 0 and 255", i)
			}
		}
		if icmp.Type != nil {
			m.IcmpType = proto.Uint32(uint32(*icmp.Type))
		}
		if icmp.Code != nil {
			m.IcmpCode = proto.Uint32(uint32(*icmp.Code))
		}
		out = append(out, m)
	}
	return out, nil
}
