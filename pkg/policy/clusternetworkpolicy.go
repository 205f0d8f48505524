// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	networkapi "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Of a ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) the first rule that
// matches decides, whatever its action: so each rule has a place of its own in the
// policy's priority.
//
// A rule that is not understood closes, as the API asks: one that accepts matches
// nothing, another one denies everything. The other rules stay.

// ClusterNetworkPolicyName is the name in the tables of a ClusterNetworkPolicy
// object. What it has by named ports of the pods that it selects follows with a #.
func ClusterNetworkPolicyName(name string) string { return "ClusterNetworkPolicy:" + name }

// SetClusterNetworkPolicy adds a ClusterNetworkPolicy or changes it.
func (c *Compiler) SetClusterNetworkPolicy(in *networkapi.ClusterNetworkPolicy) {
	p := newClusterNetworkPolicy(in)
	c.setKubernetes(p.name, slices.Concat(portsOf(p.ingress), portsOf(p.egress)), func() []translation { return p.translate(c) })
}

// DeleteClusterNetworkPolicy removes a ClusterNetworkPolicy, if it is there.
func (c *Compiler) DeleteClusterNetworkPolicy(name string) {
	c.deleteKubernetes(ClusterNetworkPolicyName(name))
}

// clusterNetworkPolicy is one in NetIO's terms.
type clusterNetworkPolicy struct {
	name            string
	tier, priority  uint32
	subject         *metav1.LabelSelector // namespaces
	pods            *metav1.LabelSelector // of them; nil: all
	ingress, egress []orderedRule
	err             error // why no rule of it is understood
}

// orderedRule is a rule of either direction.
type orderedRule struct {
	name      string // in the tables
	field     string // where it stands
	action    dataplanev1.Action
	peers     []v1alpha1.Peer
	protocols v1alpha1.RuleProtocols
	named     []string // ports
	err       error    // why it is not understood
}

func newClusterNetworkPolicy(in *networkapi.ClusterNetworkPolicy) *clusterNetworkPolicy {
	p := &clusterNetworkPolicy{name: ClusterNetworkPolicyName(in.Name), tier: tierAdmin, priority: uint32(in.Spec.Priority)}
	switch in.Spec.Tier {
	case networkapi.AdminTier:
	case networkapi.BaselineTier:
		p.tier = tierBaseline
	default:
		p.err = fmt.Errorf("spec.tier: %q: expected Admin or Baseline", in.Spec.Tier)
	}
	if p.priority > maxPriority {
		p.priority, p.err = 0, fmt.Errorf("spec.priority: %d: expected 0 to %d", in.Spec.Priority, maxPriority)
	}
	if most := places - 2; len(in.Spec.Ingress) > most || len(in.Spec.Egress) > most {
		p.err = fmt.Errorf("spec: expected at most %d rules of a direction", most)
	}
	switch subject := in.Spec.Subject; {
	case subject.Namespaces != nil && subject.Pods == nil:
		p.subject = subject.Namespaces
	case subject.Pods != nil && subject.Namespaces == nil:
		p.subject, p.pods = &subject.Pods.NamespaceSelector, &subject.Pods.PodSelector
	default:
		p.err = errors.New("spec.subject: expected one of namespaces and pods")
	}
	if err := wellFormed(p.subject, p.pods); err != nil {
		p.subject, p.pods, p.err = nil, nil, fmt.Errorf("spec.subject: %w", err)
	}

	for i, r := range in.Spec.Ingress {
		o := newOrderedRule("ingress", i, r.Name, r.Action, r.Protocols)
		for j, peer := range r.From {
			o.peer(fmt.Sprintf("from[%d]", j), networkapi.ClusterNetworkPolicyEgressPeer{Namespaces: peer.Namespaces, Pods: peer.Pods})
		}
		p.ingress = append(p.ingress, o)
	}
	for i, r := range in.Spec.Egress {
		o := newOrderedRule("egress", i, r.Name, r.Action, r.Protocols)
		for j, peer := range r.To {
			o.peer(fmt.Sprintf("to[%d]", j), peer)
		}
		p.egress = append(p.egress, o)
	}
	for _, rules := range [][]orderedRule{p.ingress, p.egress} {
		uses := map[string]int{}
		for i := range rules {
			uses[rules[i].name]++
		}
		for i := range rules {
			if len(rules[i].peers) == 0 {
				rules[i].fail("peers", errors.New("expected at least one"))
			}
			if uses[rules[i].name] > 1 { // the place says more
				rules[i].name = strings.TrimPrefix(rules[i].field, "spec.")
			}
		}
	}
	return p
}

func newOrderedRule(direction string, index int, name string, action networkapi.ClusterNetworkPolicyRuleAction, protocols []networkapi.ClusterNetworkPolicyProtocol) orderedRule {
	o := orderedRule{name: string(place(direction, index))}
	o.field = "spec." + o.name
	if name != "" && !strings.ContainsAny(name, "[#") { // as places and named ports have
		o.name = name
	}
	switch action {
	case networkapi.ClusterNetworkPolicyRuleActionAccept:
		o.action = dataplanev1.Action_ALLOW
	case networkapi.ClusterNetworkPolicyRuleActionDeny:
		o.action = dataplanev1.Action_DENY
	case networkapi.ClusterNetworkPolicyRuleActionPass:
		o.action = dataplanev1.Action_PASS
	default:
		o.fail("action", fmt.Errorf("%q: expected Accept, Deny or Pass", action))
	}
	for i, protocol := range protocols {
		m, name, err := portMatch(protocol)
		switch {
		case err != nil:
			o.fail(fmt.Sprintf("protocols[%d]", i), err)
		case name != "":
			o.named = append(o.named, name)
		default:
			o.protocols.Ports = append(o.protocols.Ports, m)
		}
	}
	return o
}

func (o *orderedRule) fail(field string, err error) {
	if o.err == nil {
		o.err = fmt.Errorf("%s.%s: %w", o.field, field, err)
	}
}

// portMatch is a protocol with ports, or the name of a port.
func portMatch(p networkapi.ClusterNetworkPolicyProtocol) (v1alpha1.PortMatch, string, error) {
	m, port, given := v1alpha1.PortMatch{}, (*networkapi.Port)(nil), 0
	if p.TCP != nil {
		m.Protocol, port, given = v1alpha1.ProtocolTCP, p.TCP.DestinationPort, given+1
	}
	if p.UDP != nil {
		m.Protocol, port, given = v1alpha1.ProtocolUDP, p.UDP.DestinationPort, given+1
	}
	if p.SCTP != nil {
		m.Protocol, port, given = v1alpha1.ProtocolSCTP, p.SCTP.DestinationPort, given+1
	}
	if p.DestinationNamedPort != "" {
		given++
	}
	switch {
	case given != 1:
		return m, "", errors.New("expected one of tcp, udp, sctp and destinationNamedPort")
	case p.DestinationNamedPort != "":
		return m, p.DestinationNamedPort, nil
	case port == nil, (port.Number != 0) == (port.Range != nil):
		return m, "", errors.New("expected a destinationPort with one of number and range")
	case port.Range != nil:
		m.Port, m.EndPort = &port.Range.Start, &port.Range.End
	default:
		m.Port = &port.Number
	}
	return m, "", nil
}

// peer adds a peer.
func (o *orderedRule) peer(field string, p networkapi.ClusterNetworkPolicyEgressPeer) {
	given := 0
	for _, is := range []bool{p.Namespaces != nil, p.Pods != nil, p.Nodes != nil, p.Networks != nil, p.DomainNames != nil} {
		if is {
			given++
		}
	}
	selectors := []*metav1.LabelSelector{p.Namespaces, p.Nodes}
	if p.Pods != nil {
		selectors = append(selectors, &p.Pods.NamespaceSelector, &p.Pods.PodSelector)
	}
	if err := wellFormed(selectors...); err != nil {
		o.fail(field, err)
		return
	}
	switch {
	case given != 1:
		o.fail(field, errors.New("expected one kind of peer that is known here"))
	case p.Namespaces != nil:
		o.peers = append(o.peers, v1alpha1.Peer{NamespaceSelector: new(labelSelector(p.Namespaces))})
	case p.Pods != nil:
		o.peers = append(o.peers, v1alpha1.Peer{
			NamespaceSelector: new(labelSelector(&p.Pods.NamespaceSelector)), PodSelector: new(labelSelector(&p.Pods.PodSelector))})
	case p.Nodes != nil:
		o.peers = append(o.peers, v1alpha1.Peer{NodeSelector: new(labelSelector(p.Nodes))})
	case p.DomainNames != nil:
		o.fail(field, errors.New("domainNames are not supported: give networks"))
	}
	for _, network := range p.Networks {
		// The API has nothing against bits after the prefix length.
		prefix, err := netip.ParsePrefix(string(network))
		if err != nil {
			o.fail(field+".networks", fmt.Errorf("%q: expected an address prefix, like 10.0.0.0/8", network))
			return
		}
		o.peers = append(o.peers, v1alpha1.Peer{CIDR: v1alpha1.Prefix(prefix.Masked().String())})
	}
}

// portsOf are the ports that the rules name. A name there is one of any protocol.
func portsOf(rules []orderedRule) []portKey {
	var keys []portKey
	for _, r := range rules {
		for _, name := range r.named {
			for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
				if key := (portKey{protocol, name}); r.err == nil && !slices.Contains(keys, key) {
					keys = append(keys, key)
				}
			}
		}
	}
	return keys
}

// translate makes policies of it, with the numbers that its named ports have now.
func (p *clusterNetworkPolicy) translate(c *Compiler) []translation {
	subject, err := p.selection(p.podSelector())
	if err != nil {
		return []translation{p.main(c, subject, err)}
	}
	all := []translation{p.main(c, subject, nil)}
	for _, key := range portsOf(p.ingress) {
		for _, number := range c.numbers(key) {
			all = append(all, p.byName(key, number))
		}
	}
	return all
}

// selection is the pods that it is for; all pods, and why, if it is not understood.
func (p *clusterNetworkPolicy) selection(pods v1alpha1.LabelSelector) (selection, error) {
	if p.subject == nil {
		return inNamespaces(everything, everything), p.err
	}
	namespaces, err := parseSelector(new(labelSelector(p.subject)))
	if err != nil {
		return inNamespaces(everything, everything), fmt.Errorf("spec.subject: %w", err)
	}
	parsed, err := parseSelector(&pods)
	if err != nil {
		return inNamespaces(everything, everything), fmt.Errorf("spec.subject: %w", err)
	}
	return inNamespaces(namespaces, parsed), p.err
}

// wellFormed says what is wrong with selectors: their CRD does not look at keys,
// operators and values.
func wellFormed(selectors ...*metav1.LabelSelector) error {
	for _, s := range selectors {
		if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
			return err
		}
	}
	return nil
}

func (p *clusterNetworkPolicy) podSelector() v1alpha1.LabelSelector {
	if p.pods == nil {
		return v1alpha1.LabelSelector{}
	}
	return labelSelector(p.pods)
}

// main is all of it but what is by named ports of the pods that it selects. closed
// is why no rule is understood.
func (p *clusterNetworkPolicy) main(c *Compiler, subject selection, closed error) translation {
	t := translation{
		message: &dataplanev1.Policy{Name: p.name}, subject: subject, err: closed,
	}
	for i := range p.ingress {
		r := &p.ingress[i]
		t.message.Ingress = p.add(&t, t.message.Ingress, r, i, closed, r.protocols, r.peers)
	}
	for i := range p.egress {
		r := &p.egress[i]
		t.message.Egress = p.add(&t, t.message.Egress, r, i, closed, r.protocols, r.peers)
		for _, key := range portsOf(p.egress[i : i+1]) {
			for _, number := range c.numbers(key) {
				if to := withPort(r.peers, key, number); len(to) > 0 && closed == nil {
					named := *r
					named.name, named.named = fmt.Sprintf("%s#%s/%s=%d", r.name, key.protocol, key.name, number), nil
					t.message.Egress = p.add(&t, t.message.Egress, &named, i, nil, one(key, number), to)
				}
			}
		}
	}
	t.baseline = p.tier == tierBaseline && len(t.message.Ingress)+len(t.message.Egress) > 0
	return t
}

// withPort are the peers that are pods, those of them that have the port. Addresses
// and nodes have no names for theirs.
func withPort(peers []v1alpha1.Peer, key portKey, number uint16) []v1alpha1.Peer {
	var out []v1alpha1.Peer
	for _, peer := range peers {
		if peer.NamespaceSelector == nil {
			continue
		}
		var pods v1alpha1.LabelSelector
		if peer.PodSelector != nil {
			pods = *peer.PodSelector
		}
		out = append(out, v1alpha1.Peer{NamespaceSelector: peer.NamespaceSelector, PodSelector: new(having(pods, key, number))})
	}
	return out
}

// byName are the ingress rules for pods that have a named port with the number.
func (p *clusterNetworkPolicy) byName(key portKey, number uint16) translation {
	t := translation{
		message:  &dataplanev1.Policy{Name: fmt.Sprintf("%s#%s/%s=%d", p.name, key.protocol, key.name, number)},
		baseline: p.tier == tierBaseline,
	}
	t.subject, _ = p.selection(having(p.podSelector(), key, number))
	for i := range p.ingress {
		if r := &p.ingress[i]; r.err == nil && slices.Contains(r.named, key.name) {
			named := *r
			named.named = nil
			t.message.Ingress = p.add(&t, t.message.Ingress, &named, i, nil, one(key, number), r.peers)
		}
	}
	return t
}

// add adds a rule to a list of t's, what it becomes if it is not understood, or
// nothing if it is about named ports only.
func (p *clusterNetworkPolicy) add(t *translation, to []*dataplanev1.Rule, o *orderedRule, index int, closed error, protocols v1alpha1.RuleProtocols, peers []v1alpha1.Peer) []*dataplanev1.Rule {
	rules := ruleTranslator{tier: p.tier, priority: p.priority*places + 1 + uint32(min(index, places-2)), actions: everyAction, peers: t.peers}
	var r *dataplanev1.Rule
	err := closed
	if err == nil {
		err = o.err
	}
	if err == nil {
		direction, _, _ := strings.Cut(strings.TrimPrefix(o.field, "spec."), "[")
		r = rules.rule(direction, index, v1alpha1.RuleName(o.name), v1alpha1.ActionAllow, false, peers, protocols)
		r.Action, err = o.action, rules.err
	}
	switch {
	case err == nil && len(o.named) > 0 && len(protocols.Ports) == 0:
		return to
	case err == nil:
		t.peers = rules.peers
		return append(to, r)
	}
	if t.err == nil {
		t.err = err
	}
	if o.action == dataplanev1.Action_ALLOW {
		return to
	}
	return append(to, &dataplanev1.Rule{Name: o.name, Tier: rules.tier, Priority: rules.priority, Action: dataplanev1.Action_DENY})
}
