// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

// Policies of Kubernetes' own kinds are translated in terms of NetIO's. A port that
// one gives by name has the number that the pods have which traffic goes to, and
// they need not agree. Each endpoint has a label for each of its named ports, whose
// value is the number; so a rule by name is one rule for each number that there is,
// about the pods that have it:
//
//	egress   to app=web, port http  ──>  to app=web and port/TCP/http=8080, port 8080
//	ingress  of app=web, port http  ──>  a policy of its own, for app=web and port/TCP/http=8080

// kubernetesPolicy is a policy of one of Kubernetes' kinds and what became of it.
type kubernetesPolicy struct {
	translate func() []translation
	ports     []portKey // that it names
	names     []string  // of the policies that it was made into
	unknown   []string  // of the ports' names, those that no pod has, sorted
}

// portKey is what a port is named by.
type portKey struct {
	protocol corev1.Protocol
	name     string
}

// label is that of endpoints that have the port.
func (k portKey) label() string { return "port/" + string(k.protocol) + "/" + k.name }

// setKubernetes adds the policy that has the name in the tables, or changes it.
func (c *Compiler) setKubernetes(name string, ports []portKey, translate func() []translation) {
	p := c.kubernetes[name]
	if p == nil {
		p = &kubernetesPolicy{}
		c.kubernetes[name] = p
	}
	p.ports, p.translate = ports, translate
	c.translateKubernetes(p)
}

func (c *Compiler) deleteKubernetes(name string) {
	if p := c.kubernetes[name]; p != nil {
		for _, n := range p.names {
			c.delete(n)
		}
		delete(c.kubernetes, name)
		c.shape = nil
	}
}

// translateKubernetes makes policies of it, for the numbers that its named ports
// have now, and removes those of numbers that are gone.
func (c *Compiler) translateKubernetes(p *kubernetesPolicy) {
	if unknown := c.unknown(p.ports); !slices.Equal(unknown, p.unknown) {
		p.unknown, c.shape = unknown, nil
	}
	was := p.names
	p.names = nil
	for _, t := range p.translate() {
		c.set(t)
		p.names = append(p.names, t.message.Name)
	}
	for _, name := range was {
		if !slices.Contains(p.names, name) {
			c.delete(name)
		}
	}
}

// unknown are the names that no pod has a port by, of the protocols that are asked for.
func (c *Compiler) unknown(keys []portKey) []string {
	var all []string
	for _, key := range keys {
		known := slices.ContainsFunc(keys, func(k portKey) bool { return k.name == key.name && len(c.ports[k]) > 0 })
		if !known && !slices.Contains(all, key.name) {
			all = append(all, key.name)
		}
	}
	slices.Sort(all)
	return all
}

// namePorts counts an endpoint's ports, or, with by -1, no longer.
func (c *Compiler) namePorts(ports []Port, by int) {
	for _, port := range ports {
		key := portKey{port.Protocol, port.Name}
		numbers := c.ports[key]
		if numbers == nil {
			numbers = map[uint16]int{}
			c.ports[key] = numbers
		}
		before := numbers[port.Number]
		numbers[port.Number] += by
		if numbers[port.Number] == 0 {
			delete(numbers, port.Number)
		}
		if len(numbers) == 0 {
			delete(c.ports, key)
		}
		if before != 0 && before+by != 0 {
			continue
		}
		for _, p := range c.kubernetes {
			if slices.Contains(p.ports, key) {
				c.translateKubernetes(p)
			}
		}
	}
}

// numbers that a port has anywhere, sorted.
func (c *Compiler) numbers(key portKey) []uint16 {
	var all []uint16
	for n := range c.ports[key] {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// distinct are the ports by their names; of two with one name the first counts.
func distinct(ports []Port) []Port {
	var all []Port
	for _, p := range ports {
		if !slices.ContainsFunc(all, func(q Port) bool { return p.Name == q.Name && p.Protocol == q.Protocol }) {
			all = append(all, p)
		}
	}
	return all
}

// having adds to a selector that the pods have a named port with the number.
func having(s v1alpha1.LabelSelector, key portKey, number uint16) v1alpha1.LabelSelector {
	s.MatchExpressions = append(slices.Clone(s.MatchExpressions), v1alpha1.LabelExpression{
		Key: key.label(), Operator: v1alpha1.LabelIn, Values: []v1alpha1.LabelValue{v1alpha1.LabelValue(strconv.Itoa(int(number)))},
	})
	return s
}

func one(key portKey, number uint16) v1alpha1.RuleProtocols {
	n := int32(number)
	return v1alpha1.RuleProtocols{Ports: []v1alpha1.PortMatch{{Protocol: v1alpha1.Protocol(key.protocol), Port: &n}}}
}

func labelSelector(in *metav1.LabelSelector) v1alpha1.LabelSelector {
	var out v1alpha1.LabelSelector
	for k, v := range in.MatchLabels {
		if out.MatchLabels == nil {
			out.MatchLabels = make(map[string]v1alpha1.LabelValue, len(in.MatchLabels))
		}
		out.MatchLabels[k] = v1alpha1.LabelValue(v)
	}
	for _, e := range in.MatchExpressions {
		x := v1alpha1.LabelExpression{Key: e.Key, Operator: v1alpha1.LabelOperator(e.Operator)}
		for _, v := range e.Values {
			x.Values = append(x.Values, v1alpha1.LabelValue(v))
		}
		out.MatchExpressions = append(out.MatchExpressions, x)
	}
	return out
}
