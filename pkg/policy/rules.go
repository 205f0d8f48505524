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

// tierNormal is the tier of NetIOPolicy rules: there is room before and after
// it for those of administrators.
const tierNormal = 100

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
}

// peerSet is an address set that a rule names: pods, addresses or an entity.
type peerSet struct {
	name   string
	pods   *selection
	static *dataplanev1.AddressSet
	entity v1alpha1.Entity
}

// translate translates a policy, a closed one if it is not understood.
func translate(p *v1alpha1.NetIOPolicy) translation {
	t := translation{message: &dataplanev1.Policy{Name: Name(p.Namespace, p.Name), Audit: p.Spec.Audit}}
	pods, selectorErr := parseSelector(&p.Spec.PodSelector)
	if selectorErr != nil {
		pods = selector{text: "*"}
		selectorErr = fmt.Errorf("spec.podSelector: %w", selectorErr)
	}
	t.subject = inNamespace(p.Namespace, pods)

	priority := int32(v1alpha1.DefaultPriority)
	if p.Spec.Priority != nil {
		priority = *p.Spec.Priority
	}
	in, out, err := directions(&p.Spec)
	t.message.IsolatesIngress, t.message.IsolatesEgress = in, out

	rules := ruleTranslator{priority: uint32(priority)}
	if priority < 0 || priority > 1000 {
		rules.priority = 0
		rules.fail("spec.priority", fmt.Errorf("%d: expected 0 to 1000", priority))
	}
	for i, r := range p.Spec.Ingress {
		t.message.Ingress = append(t.message.Ingress, rules.rule("ingress", i, p.Namespace, r.Name, r.Action, r.Log, r.From, r.RuleProtocols))
	}
	for i, r := range p.Spec.Egress {
		t.message.Egress = append(t.message.Egress, rules.rule("egress", i, p.Namespace, r.Name, r.Action, r.Log, r.To, r.RuleProtocols))
	}

	for _, rules := range [][]*dataplanev1.Rule{t.message.Ingress, t.message.Egress} {
		if err == nil {
			err = uniqueNames(rules)
		}
	}
	for _, err := range []error{selectorErr, err, rules.err} {
		if err != nil {
			t.close(rules.priority, err)
			return t
		}
	}
	t.peers = rules.peers
	return t
}

// directions returns which directions a policy covers.
func directions(spec *v1alpha1.NetIOPolicySpec) (ingress, egress bool, err error) {
	if len(spec.PolicyTypes) == 0 {
		return true, len(spec.Egress) > 0, nil
	}
	for i, t := range spec.PolicyTypes {
		switch t {
		case v1alpha1.PolicyTypeIngress:
			ingress = true
		case v1alpha1.PolicyTypeEgress:
			egress = true
		default:
			return true, true, fmt.Errorf("spec.policyTypes[%d]: %q: expected Ingress or Egress", i, t)
		}
	}
	if len(spec.Ingress) > 0 && !ingress || len(spec.Egress) > 0 && !egress {
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

// close makes the policy deny what it covers, because of err.
func (t *translation) close(priority uint32, err error) {
	deny := []*dataplanev1.Rule{{
		Name: "not-understood", Tier: tierNormal, Priority: priority, Action: dataplanev1.Action_DENY,
	}}
	t.message.Ingress, t.message.Egress = nil, nil
	if t.message.IsolatesIngress {
		t.message.Ingress = deny
	}
	if t.message.IsolatesEgress {
		t.message.Egress = deny
	}
	t.err = err
}

// ruleTranslator translates the rules of one policy; it keeps the first error.
type ruleTranslator struct {
	priority uint32
	peers    []peerSet
	err      error
}

func (t *ruleTranslator) fail(field string, err error) {
	if t.err == nil {
		t.err = fmt.Errorf("%s: %w", field, err)
	}
}

func (t *ruleTranslator) rule(direction string, index int, namespace string, name v1alpha1.RuleName,
	action v1alpha1.Action, log bool, peers []v1alpha1.Peer, protocols v1alpha1.RuleProtocols) *dataplanev1.Rule {
	field := fmt.Sprintf("spec.%s[%d]", direction, index)
	r := &dataplanev1.Rule{Name: RuleName(name, direction, index), Tier: tierNormal, Priority: t.priority, Log: log}

	switch action {
	case v1alpha1.ActionAllow:
		r.Action = dataplanev1.Action_ALLOW
	case v1alpha1.ActionDeny:
		r.Action = dataplanev1.Action_DENY
	default:
		t.fail(field+".action", fmt.Errorf("%q: expected Allow or Deny", action))
	}

	everyone := false
	for i := range peers {
		set, err := peer(namespace, &peers[i])
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

// peer translates a peer of a policy in the namespace.
func peer(namespace string, p *v1alpha1.Peer) (peerSet, error) {
	kinds := 0
	for _, given := range []bool{p.PodSelector != nil || p.NamespaceSelector != nil, p.CIDR != "", p.Entity != ""} {
		if given {
			kinds++
		}
	}
	if kinds != 1 || len(p.Except) > 0 && p.CIDR == "" {
		return peerSet{}, fmt.Errorf("expected exactly one of podSelector and namespaceSelector, cidr (with except), entity")
	}
	switch {
	case p.CIDR != "":
		return prefixes(p.CIDR, p.Except)
	case p.Entity != "":
		if p.Entity != v1alpha1.EntityHost && p.Entity != v1alpha1.EntityWorld && p.Entity != v1alpha1.EntityAll {
			return peerSet{}, fmt.Errorf("entity: %q: expected host, world or all", p.Entity)
		}
		return peerSet{name: "entity:" + string(p.Entity), entity: p.Entity}, nil
	}

	everyPod := v1alpha1.LabelSelector{}
	if p.PodSelector == nil {
		p = &v1alpha1.Peer{PodSelector: &everyPod, NamespaceSelector: p.NamespaceSelector}
	}
	pods, err := parseSelector(p.PodSelector)
	if err != nil {
		return peerSet{}, fmt.Errorf("podSelector: %w", err)
	}
	s := inNamespace(namespace, pods)
	if p.NamespaceSelector != nil {
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
