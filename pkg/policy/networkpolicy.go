// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"netio.dev/netio/api/v1alpha1"
)

// A NetworkPolicy of Kubernetes (networking.k8s.io/v1) is translated into
// NetIOPolicies of the default priority that only allow. Beside what it says
// it allows the node of the pod, as its documentation asks: kubelet must be able to
// probe.

// NetworkPolicyName is the name in the tables of a NetworkPolicy object:
// NetworkPolicy:shop/web. What it has by named ports follows with a #.
func NetworkPolicyName(namespace, name string) string {
	return "NetworkPolicy:" + Name(namespace, name)
}

// SetNetworkPolicy adds a NetworkPolicy or changes it. One that is not understood
// closes what it selects; see Problem.
func (c *Compiler) SetNetworkPolicy(in *networkingv1.NetworkPolicy) {
	c.setKubernetes(NetworkPolicyName(in.Namespace, in.Name), namedPorts(in), func() []translation { return c.fromNetworkPolicy(in) })
}

// DeleteNetworkPolicy removes a NetworkPolicy, if it is there.
func (c *Compiler) DeleteNetworkPolicy(namespace, name string) {
	c.deleteKubernetes(NetworkPolicyName(namespace, name))
}

func namedPorts(p *networkingv1.NetworkPolicy) []portKey {
	var keys []portKey
	add := func(ports []networkingv1.NetworkPolicyPort) {
		for i := range ports {
			if key, ok := named(&ports[i]); ok && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	for i := range p.Spec.Ingress {
		add(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		add(p.Spec.Egress[i].Ports)
	}
	return keys
}

// named is a port's name, and whether it has one.
func named(p *networkingv1.NetworkPolicyPort) (portKey, bool) {
	if p.Port == nil || p.Port.Type != intstr.String {
		return portKey{}, false
	}
	return portKey{protocolOf(p), p.Port.StrVal}, true
}

func protocolOf(p *networkingv1.NetworkPolicyPort) corev1.Protocol {
	if p.Protocol == nil {
		return corev1.ProtocolTCP
	}
	return *p.Protocol
}

// fromNetworkPolicy translates a NetworkPolicy, with its named ports as they are.
func (c *Compiler) fromNetworkPolicy(in *networkingv1.NetworkPolicy) []translation {
	types := in.Spec.PolicyTypes
	if len(types) == 0 {
		types = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		if len(in.Spec.Egress) > 0 {
			types = append(types, networkingv1.PolicyTypeEgress)
		}
	}
	main := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: in.Namespace, Name: in.Name}}
	main.Spec.PodSelector = labelSelector(&in.Spec.PodSelector)
	for _, t := range types {
		main.Spec.PolicyTypes = append(main.Spec.PolicyTypes, v1alpha1.PolicyType(t))
	}
	node := []v1alpha1.Peer{{Entity: v1alpha1.EntityHost}}
	name := NetworkPolicyName(in.Namespace, in.Name)
	var all []translation
	if slices.Contains(types, networkingv1.PolicyTypeIngress) {
		main.Spec.Ingress = []v1alpha1.IngressRule{{Name: "node", Action: v1alpha1.ActionAllow, From: node}}
		for i, r := range in.Spec.Ingress {
			if protocols, ok := numbered(r.Ports); ok {
				main.Spec.Ingress = append(main.Spec.Ingress, v1alpha1.IngressRule{
					Name: place("ingress", i), Action: v1alpha1.ActionAllow, From: peers(r.From), RuleProtocols: protocols,
				})
			}
		}
		all = c.ingressByName(in, name)
	}
	if slices.Contains(types, networkingv1.PolicyTypeEgress) {
		main.Spec.Egress = []v1alpha1.EgressRule{{Name: "node", Action: v1alpha1.ActionAllow, To: node}}
		for i, r := range in.Spec.Egress {
			if protocols, ok := numbered(r.Ports); ok {
				main.Spec.Egress = append(main.Spec.Egress, v1alpha1.EgressRule{
					Name: place("egress", i), Action: v1alpha1.ActionAllow, To: peers(r.To), RuleProtocols: protocols,
				})
			}
			main.Spec.Egress = append(main.Spec.Egress, c.egressByName(i, r)...)
		}
	}
	t := translate(main)
	t.message.Name = name
	return append([]translation{t}, all...)
}

func place(direction string, i int) v1alpha1.RuleName {
	return v1alpha1.RuleName(fmt.Sprintf("%s[%d]", direction, i))
}

// ingressByName are policies for the pods that have a named port, one for each of
// its numbers.
func (c *Compiler) ingressByName(in *networkingv1.NetworkPolicy, name string) []translation {
	var all []translation
	for _, key := range namedPorts(&networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{Ingress: in.Spec.Ingress}}) {
		for _, number := range c.numbers(key) {
			p := &v1alpha1.NetIOPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: in.Namespace, Name: in.Name}}
			p.Spec.PodSelector = having(labelSelector(&in.Spec.PodSelector), key, number)
			p.Spec.PolicyTypes = []v1alpha1.PolicyType{v1alpha1.PolicyTypeIngress}
			for i, r := range in.Spec.Ingress {
				if slices.ContainsFunc(r.Ports, func(p networkingv1.NetworkPolicyPort) bool { k, ok := named(&p); return ok && k == key }) {
					p.Spec.Ingress = append(p.Spec.Ingress, v1alpha1.IngressRule{
						Name: place("ingress", i), Action: v1alpha1.ActionAllow, From: peers(r.From), RuleProtocols: one(key, number),
					})
				}
			}
			t := translate(p)
			t.message.Name = fmt.Sprintf("%s#%s/%s=%d", name, key.protocol, key.name, number)
			all = append(all, t)
		}
	}
	return all
}

// egressByName are rules to the pods that have a named port of a rule, one for each
// of its numbers. An address block has no names for its ports.
func (c *Compiler) egressByName(index int, r networkingv1.NetworkPolicyEgressRule) []v1alpha1.EgressRule {
	var all []v1alpha1.EgressRule
	to := peers(r.To)
	if len(r.To) == 0 {
		to = []v1alpha1.Peer{{PodSelector: &v1alpha1.LabelSelector{}, NamespaceSelector: &v1alpha1.LabelSelector{}}}
	}
	for _, key := range namedPorts(&networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{r}}}) {
		for _, number := range c.numbers(key) {
			rule := v1alpha1.EgressRule{
				Name:   v1alpha1.RuleName(fmt.Sprintf("egress[%d]#%s/%s=%d", index, key.protocol, key.name, number)),
				Action: v1alpha1.ActionAllow, RuleProtocols: one(key, number),
			}
			for _, p := range to {
				if p.CIDR != "" {
					continue
				}
				var pods v1alpha1.LabelSelector
				if p.PodSelector != nil {
					pods = *p.PodSelector
				}
				pods = having(pods, key, number)
				rule.To = append(rule.To, v1alpha1.Peer{PodSelector: &pods, NamespaceSelector: p.NamespaceSelector})
			}
			if len(rule.To) > 0 { // none would be everybody
				all = append(all, rule)
			}
		}
	}
	return all
}

// numbered are the ports that are given by number, and whether a rule matches by
// them: one without ports does.
func numbered(ports []networkingv1.NetworkPolicyPort) (v1alpha1.RuleProtocols, bool) {
	var out v1alpha1.RuleProtocols
	for i := range ports {
		p := &ports[i]
		m := v1alpha1.PortMatch{Protocol: v1alpha1.Protocol(protocolOf(p))}
		if p.Port != nil {
			if p.Port.Type == intstr.String {
				continue
			}
			m.Port, m.EndPort = &p.Port.IntVal, p.EndPort
		}
		out.Ports = append(out.Ports, m)
	}
	return out, len(ports) == 0 || len(out.Ports) > 0
}

func peers(in []networkingv1.NetworkPolicyPeer) []v1alpha1.Peer {
	var out []v1alpha1.Peer
	for _, p := range in {
		var peer v1alpha1.Peer
		if p.PodSelector != nil {
			peer.PodSelector = new(labelSelector(p.PodSelector))
		}
		if p.NamespaceSelector != nil {
			peer.NamespaceSelector = new(labelSelector(p.NamespaceSelector))
		}
		if b := p.IPBlock; b != nil {
			peer.CIDR = v1alpha1.Prefix(b.CIDR)
			for _, e := range b.Except {
				peer.Except = append(peer.Except, v1alpha1.Prefix(e))
			}
		}
		out = append(out, peer)
	}
	return out
}
