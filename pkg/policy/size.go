// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
)

// tooLarge says what of a policy is more than the forwarder takes. It would refuse
// the whole configuration for it, and so every change that comes after.
func tooLarge(m *dataplanev1.Policy) error {
	for _, d := range []struct {
		name  string
		rules []*dataplanev1.Rule
	}{{"ingress", m.GetIngress()}, {"egress", m.GetEgress()}} {
		if most := config.MaxRules - 1; len(d.rules) > most { // one less: see closing
			return fmt.Errorf("spec.%s: %d rules, counting one for each number that pods give to a port's name; a node takes %d: make several policies of it", d.name, len(d.rules), most)
		}
		for _, r := range d.rules {
			if n := len(r.GetPeers()); n > config.MaxRulePeers {
				return fmt.Errorf("spec.%s: the rule %s has %d peers; a node takes %d: make several rules of it", d.name, r.GetName(), n, config.MaxRulePeers)
			}
			if n := len(r.GetL4()); n > config.MaxRuleMatches {
				return fmt.Errorf("spec.%s: the rule %s has %d ports; a node takes %d: make several rules of it", d.name, r.GetName(), n, config.MaxRuleMatches)
			}
		}
	}
	return nil
}

// closeLarge makes a policy deny in the directions that it is about, because of err.
func (t *translation) closeLarge(err error) {
	in, out := t.message.IsolatesIngress || len(t.message.Ingress) > 0, t.message.IsolatesEgress || len(t.message.Egress) > 0
	first := append(t.message.Ingress[:len(t.message.Ingress):len(t.message.Ingress)], t.message.Egress...)[0]
	t.close(in, out, first.GetTier(), first.GetPriority(), err)
	t.peers, t.large = nil, true
}
