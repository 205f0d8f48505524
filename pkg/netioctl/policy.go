// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "policy",
		Short: "Show policies, and what they decide",
	})
	cmd.AddCommand(a.explainCommand(), a.policyListCommand(), a.policyShowCommand())
	return cmd
}

func (a *app) policyListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the policies that are in force in the forwarder",
		Long: `List the policies that are in force in the forwarder. A direction is closed if
the policy lets nothing through that no rule allows, open if it only adds rules.`,
		Args:              arguments(0, 0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			snap, err := a.snapshot(cmd)
			if err != nil {
				return err
			}
			list := &dataplanev1.Snapshot{Revision: snap.GetRevision(), Policies: snap.GetPolicies()}
			return a.print(list, func(w io.Writer) error {
				users := make(map[string]uint64)
				for _, p := range snap.GetPorts() {
					for _, name := range p.GetPolicies() {
						users[name]++
					}
				}
				t := newTable(left("POLICY", "INGRESS", "EGRESS"), right("RULES", "PORTS"), left("MODE"))
				for _, p := range snap.GetPolicies() {
					t.add(p.GetName(), closed(p.GetIsolatesIngress(), p.GetIngress()), closed(p.GetIsolatesEgress(), p.GetEgress()),
						strconv.Itoa(len(p.GetIngress())+len(p.GetEgress())), count(users[p.GetName()]), mode(p))
				}
				return t.write(w)
			})
		},
	}
}

func (a *app) policyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show POLICY",
		Short: "Show a policy's rules as the forwarder has them",
		Long: `Show a policy's rules as the forwarder has them, in the order in which they are
looked at. Rules of several policies of one port are merged in that order.`,
		Args:              arguments(1, 1, "one policy's name"),
		ValidArgsFunction: first(a.completePolicies),
		RunE: func(cmd *cobra.Command, args []string) error {
			snap, err := a.snapshot(cmd)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(snap.GetPolicies(), func(p *dataplanev1.Policy) bool { return p.GetName() == args[0] })
			if i < 0 {
				return fmt.Errorf("no policy is called %q; netioctl policy list lists them", args[0])
			}
			p := snap.GetPolicies()[i]
			return a.print(p, func(w io.Writer) error {
				fmt.Fprintf(w, "%s: ingress %s, egress %s, %s\n\n", printable(p.GetName()),
					closed(p.GetIsolatesIngress(), p.GetIngress()), closed(p.GetIsolatesEgress(), p.GetEgress()), mode(p))
				t := newTable(left("DIRECTION"), right("TIER", "PRIORITY"), []column{{title: "ACTION", paint: a.verdict}},
					left("PEERS", "PROTOCOLS", "LOG", "RULE"))
				a.addRules(t, "ingress", p.GetIngress())
				a.addRules(t, "egress", p.GetEgress())
				return t.write(w)
			})
		},
	}
}

func (a *app) snapshot(cmd *cobra.Command) (*dataplanev1.Snapshot, error) {
	fw, err := a.forwarder()
	if err != nil {
		return nil, err
	}
	defer fw.Close()
	return fw.Get(cmd.Context(), &dataplanev1.GetRequest{})
}

// addRules adds the rules of a direction in the order of their evaluation: tier,
// priority, deny before allow before pass.
func (a *app) addRules(t *table, direction string, rules []*dataplanev1.Rule) {
	rules = slices.Clone(rules)
	slices.SortStableFunc(rules, func(x, y *dataplanev1.Rule) int {
		return slices.Compare(ruleOrder(x), ruleOrder(y))
	})
	for _, r := range rules {
		var l4 []string
		for _, m := range r.GetL4() {
			l4 = append(l4, match(m))
		}
		log := ""
		if r.GetLog() {
			log = "yes"
		}
		peers, protocols := strings.Join(r.GetPeers(), "\n"), strings.Join(l4, "\n")
		if peers == "" {
			peers = "any"
		}
		if protocols == "" {
			protocols = "any"
		}
		t.add(direction, strconv.FormatUint(uint64(r.GetTier()), 10), strconv.FormatUint(uint64(r.GetPriority()), 10),
			strings.ToLower(r.GetAction().String()), peers, protocols, log, r.GetName())
	}
}

func ruleOrder(r *dataplanev1.Rule) []int {
	action := 1
	switch r.GetAction() {
	case dataplanev1.Action_DENY:
		action = 0
	case dataplanev1.Action_PASS:
		action = 2
	}
	return []int{int(r.GetTier()), int(r.GetPriority()), action}
}

// match shows an L4 match: tcp 80, udp 5000-5100, icmp 8/0.
func match(m *dataplanev1.L4Match) string {
	s := protocolName(m.GetProtocol())
	switch {
	case m.IcmpType != nil && m.IcmpCode != nil:
		s += fmt.Sprintf(" %d/%d", m.GetIcmpType(), m.GetIcmpCode())
	case m.IcmpType != nil:
		s += fmt.Sprintf(" %d", m.GetIcmpType())
	case m.GetFirstPort() == 0 && m.GetLastPort() == 0:
	case m.GetLastPort() == 0 || m.GetLastPort() == m.GetFirstPort():
		s += fmt.Sprintf(" %d", m.GetFirstPort())
	default:
		s += fmt.Sprintf(" %d-%d", m.GetFirstPort(), m.GetLastPort())
	}
	return s
}

func closed(isolates bool, rules []*dataplanev1.Rule) string {
	switch {
	case isolates:
		return "closed"
	case len(rules) > 0:
		return "open"
	}
	return "none"
}

func mode(p *dataplanev1.Policy) string {
	if p.GetAudit() {
		return "audit"
	}
	return "enforce"
}
