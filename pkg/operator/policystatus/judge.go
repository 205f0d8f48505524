// SPDX-License-Identifier: Apache-2.0

package policystatus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/policy"
)

const (
	// maxNames is how many nodes a message names for one reason.
	maxNames = 5
	// maxParts is how many reasons a message has, and maxMessage its length in bytes
	// (metav1.Condition: 32768).
	maxParts   = 5
	maxMessage = 4096
)

// object is a policy as it is judged.
type object struct {
	kind, namespace, name string
	uid                   types.UID
	generation            int64
	// version at which its generation was first seen; "" if every node that ever told
	// of policies has it.
	version string
}

// place is a node as policies are judged by it.
type place struct {
	name string
	// silent is since when it does not report, zero if it does.
	silent time.Time
	// notReady is why it is not ready, "" if it is.
	notReady string
	// told is what it told of policies, nil for nothing.
	told     *v1alpha1.NodeEnforcement
	problems map[key]v1alpha1.PolicyProblem
}

// key of a policy on a node, in the order in which nodes tell of problems.
type key struct{ kind, namespace, name string }

func (k key) compare(o key) int {
	return cmp.Or(strings.Compare(k.kind, o.kind), strings.Compare(k.namespace, o.namespace), strings.Compare(k.name, o.name))
}

// placeOf is a node's place; silent: see place.
func placeOf(n *v1alpha1.NetIONode, silent time.Time) place {
	p := place{name: n.Name, silent: silent, told: n.Status.Enforcement}
	for _, c := range n.Status.Conditions {
		if c.Type == v1alpha1.NodeReady && c.Status != metav1.ConditionTrue {
			p.notReady = c.Message
		}
	}
	if p.told != nil {
		p.problems = make(map[key]v1alpha1.PolicyProblem, len(p.told.Problems))
		for _, problem := range p.told.Problems {
			p.problems[key{problem.Kind, problem.Namespace, problem.Name}] = problem
		}
	}
	return p
}

// has tells whether the node took the policy, or a later one of its kind.
func (p *place) has(o *object) bool {
	if p.told == nil {
		return false
	}
	version := ""
	switch o.kind {
	case policy.KindNetIOPolicy:
		version = p.told.NetIOPolicies
	case policy.KindNetIOClusterPolicy:
		version = p.told.NetIOClusterPolicies
	case policy.KindClusterNetworkPolicy:
		version = p.told.ClusterNetworkPolicies
	}
	if version == "" || o.version == "" {
		return version != ""
	}
	order, err := resourceversion.CompareResourceVersion(version, o.version)
	return err == nil && order >= 0
}

// mayHide tells whether the node has a problem of the policy, perhaps, that it left out.
func (p *place) mayHide(k key) bool {
	if p.told.ProblemsLeftOut == 0 || len(p.told.Problems) == 0 {
		return p.told.ProblemsLeftOut > 0
	}
	last := p.told.Problems[len(p.told.Problems)-1]
	return k.compare(key{last.Kind, last.Namespace, last.Name}) > 0
}

// verdict is what becomes of a policy.
type verdict struct {
	enforced, nodes int
	// status, reason and message of the condition Enforced, and of Valid.
	status          metav1.ConditionStatus
	reason, message string
	valid           metav1.ConditionStatus
	validReason     string
	validMessage    string
}

// nodes is the place of nodes' names in a text.
const nodes = "\x00"

// groups are names of nodes by what is said of them, in the order of what came first.
type groups struct {
	texts []string
	names map[string][]string
}

func (g *groups) add(text, name string) {
	if g.names == nil {
		g.names = map[string][]string{}
	}
	if _, ok := g.names[text]; !ok {
		g.texts = append(g.texts, text)
	}
	g.names[text] = append(g.names[text], name)
}

// parts are the texts, with the names in the place of nodes.
func (g *groups) parts() []string {
	var all []string
	for _, text := range g.texts {
		all = append(all, strings.Replace(text, nodes, list(g.names[text]), 1))
	}
	return all
}

// list names nodes.
func list(names []string) string {
	if more := len(names) - maxNames; more > 0 {
		return fmt.Sprintf("%s and %d more nodes", strings.Join(names[:maxNames], ", "), more)
	}
	return strings.Join(names, ", ")
}

// judge tells how a policy is in force on the nodes, which are sorted by name. It is a
// function of its arguments: what changes with time alone is not in its messages.
func judge(o *object, places []place) verdict {
	v := verdict{nodes: len(places)}
	k := key{o.kind, o.namespace, o.name}
	var wrong, refused, hidden, pending, silent, idle groups
	wrongReason := ""
	took := 0
	for i := range places {
		p := &places[i]
		if !p.has(o) {
			switch {
			case !p.silent.IsZero():
				silent.add(fmt.Sprintf(nodes+" has not taken it and has not reported since %s: start netio-agent there, or delete the Node", p.silent.UTC().Format(time.RFC3339)), p.name)
			case p.told != nil && p.told.Refused != "":
				refused.add("not in force on "+nodes+", where a change is refused since then: "+p.told.Refused, p.name)
			case p.notReady != "":
				pending.add("not yet in force on "+nodes+" (not ready: "+p.notReady+")", p.name)
			default:
				pending.add("not yet in force on "+nodes, p.name)
			}
			continue
		}
		took++
		problem, ok := p.problems[k]
		switch {
		case ok && problem.Generation == o.generation && problem.Reason == v1alpha1.PolicyReasonNoEffect:
			idle.add(problem.Message, p.name)
			v.enforced++
		case ok && problem.Generation == o.generation:
			wrongReason = cmp.Or(wrongReason, problem.Reason)
			wrong.add("on "+nodes+": "+problem.Message, p.name)
		case !ok && p.mayHide(k):
			hidden.add(nodes+" has more policies with problems than it can tell, and perhaps this one: mend those first that kubectl get netionode shows", p.name)
		default:
			v.enforced++
		}
	}

	v.status = metav1.ConditionFalse
	switch {
	case len(wrong.texts) > 0:
		v.reason = wrongReason
	case len(refused.texts) > 0:
		v.reason = v1alpha1.PolicyReasonRefused
	case len(hidden.texts) > 0:
		v.status, v.reason = metav1.ConditionUnknown, v1alpha1.PolicyReasonNotTold
	case len(pending.texts) > 0:
		v.reason = v1alpha1.PolicyReasonPending
	case len(silent.texts) > 0:
		v.reason = v1alpha1.PolicyReasonNodeSilent
	case v.nodes == 0:
		v.reason, v.message = v1alpha1.PolicyReasonNoNodes, "no node has NetIO: netio-agent is to run on all of them"
	default:
		v.status, v.reason = metav1.ConditionTrue, v1alpha1.PolicyReasonEnforced
		v.message = fmt.Sprintf("in force on all nodes (%d)", v.nodes)
	}
	parts := slices.Concat(wrong.parts(), refused.parts(), hidden.parts(), silent.parts(), pending.parts())
	if v.message == "" {
		v.message = join(parts)
	}

	v.valid, v.validReason, v.validMessage = metav1.ConditionTrue, v1alpha1.PolicyReasonValid, "nothing is wrong with it"
	switch {
	case len(wrong.texts) > 0:
		v.valid, v.validReason, v.validMessage = metav1.ConditionFalse, wrongReason, join(wrong.parts())
	case len(idle.texts) > 0:
		v.validReason, v.validMessage = v1alpha1.PolicyReasonNoEffect, join(idle.parts())
	case took == 0:
		v.valid, v.validReason, v.validMessage = metav1.ConditionUnknown, v1alpha1.PolicyReasonPending, "no node has taken it yet"
	case len(hidden.texts) > 0:
		v.valid, v.validReason, v.validMessage = metav1.ConditionUnknown, v1alpha1.PolicyReasonNotTold, join(hidden.parts())
	}
	if v.validReason == v1alpha1.PolicyReasonNoEffect && v.status == metav1.ConditionTrue {
		v.message += "; " + v.validMessage // a ClusterNetworkPolicy has no other place for it
	}
	return v
}

func join(parts []string) string {
	if more := len(parts) - maxParts; more > 0 {
		parts = append(slices.Clip(parts[:maxParts]), fmt.Sprintf("and %d more reasons", more))
	}
	text := strings.Join(parts, "; ")
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "..."
	}
	return text
}
