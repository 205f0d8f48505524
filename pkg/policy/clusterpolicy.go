// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"

	"netio.dev/netio/api/v1alpha1"
)

// everyAction are the actions that a NetIOClusterPolicy's rules may have.
const everyAction = "Allow, Deny or Pass"

// ClusterPolicyName is the name in the tables of a NetIOClusterPolicy object.
func ClusterPolicyName(name string) string { return "NetIOClusterPolicy:" + name }

// SetClusterPolicy adds a NetIOClusterPolicy or changes it. One that is not
// understood closes what it selects; see Problem.
func (c *Compiler) SetClusterPolicy(in *v1alpha1.NetIOClusterPolicy) { c.set(translateCluster(in)) }

// DeleteClusterPolicy removes a NetIOClusterPolicy, if it is there.
func (c *Compiler) DeleteClusterPolicy(name string) { c.delete(ClusterPolicyName(name)) }

// translateCluster translates a policy, a closed one if it is not understood.
func translateCluster(p *v1alpha1.NetIOClusterPolicy) translation {
	w := written{
		name: ClusterPolicyName(p.Name), tier: cmp.Or(p.Spec.Tier, v1alpha1.TierNormal), priority: p.Spec.Priority,
		policyTypes: p.Spec.PolicyTypes, audit: p.Spec.Audit, actions: everyAction,
	}
	w.own = func(pods selector) selection { return inNamespaces(everything, pods) }
	pods, err := selectorOrEverything(running(p.Spec.PodSelector, p.Spec.ServiceAccounts))
	if err != nil {
		w.subjectErr = fmt.Errorf("spec.podSelector: %w", err)
	}
	namespaces, err := selectorOrEverything(running(p.Spec.NamespaceSelector, nil))
	if err != nil {
		w.subjectErr = fmt.Errorf("spec.namespaceSelector: %w", err)
	}
	w.subject = inNamespaces(namespaces, pods)
	for _, r := range p.Spec.Ingress {
		w.ingress = append(w.ingress, v1alpha1.IngressRule(r))
	}
	for _, r := range p.Spec.Egress {
		w.egress = append(w.egress, v1alpha1.EgressRule(r))
	}
	return w.translate()
}

// selectorOrEverything is everything with an error.
func selectorOrEverything(s *v1alpha1.LabelSelector) (selector, error) {
	parsed, err := parseSelector(s)
	if err != nil {
		return everything, err
	}
	return parsed, nil
}
