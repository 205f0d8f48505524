// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/events"
)

// Reasons of conditions.
const (
	reasonAllReady   = "AllNodesReady"
	reasonNotReady   = "NodesNotReady"
	reasonNoNodes    = "NoNodes"
	reasonRollingOut = "RollingOut"
	reasonComplete   = "Complete"
	reasonRefused    = "Refused"
	reasonNodes      = "NodesDegraded"
	reasonFine       = "Fine"
)

// mostNodes is how many nodes a message has by their names.
const mostNodes = 5

// world is what the status is made of.
type world struct {
	// applied is why objects could not be written.
	applied error
	// agents is nil if there is none.
	agents *appsv1.DaemonSet
	nodes  []v1alpha1.NetIONode
	// silent is since when nodes do not report, by their names.
	silent map[string]time.Time
}

// happening is an Event.
type happening struct {
	reason events.Reason
	note   string
}

// judge makes the status of a NetIOCluster, and the Events of what has become other
// than it was.
func judge(c *v1alpha1.NetIOCluster, w world) []happening {
	ready := int32(0)
	var waiting, degraded []string
	for i := range w.nodes {
		n := &w.nodes[i]
		isReady := apimeta.FindStatusCondition(n.Status.Conditions, v1alpha1.NodeReady)
		switch {
		case isReady == nil:
		case !w.silent[n.Name].IsZero():
			waiting = append(waiting, fmt.Sprintf("%s: netio-agent has not reported since %s", n.Name, w.silent[n.Name].UTC().Format(time.RFC3339)))
		case isReady.Status == metav1.ConditionTrue:
			ready++
		default:
			waiting = append(waiting, n.Name+": "+isReady.Message)
		}
		if d := apimeta.FindStatusCondition(n.Status.Conditions, v1alpha1.NodeDegraded); d != nil && d.Status == metav1.ConditionTrue {
			degraded = append(degraded, n.Name+": "+d.Message)
		}
	}
	s := &c.Status
	s.ObservedGeneration = c.Generation
	s.Nodes = v1alpha1.ClusterNodes{Ready: ready}
	rolling := "the agents are not made yet"
	if a := w.agents; a != nil {
		s.Nodes.Desired, s.Nodes.Updated = a.Status.DesiredNumberScheduled, a.Status.UpdatedNumberScheduled
		switch {
		case a.Status.ObservedGeneration < a.Generation:
			rolling = "the agents are about to be replaced"
		case s.Nodes.Updated < s.Nodes.Desired:
			rolling = fmt.Sprintf("%d of %d nodes have the new agent", s.Nodes.Updated, s.Nodes.Desired)
		default:
			rolling = ""
		}
	}
	s.Nodes.Summary = fmt.Sprintf("%d/%d", s.Nodes.Ready, s.Nodes.Desired)

	var list []happening
	set := func(kind string, status bool, reason, message string) bool {
		now := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: message, ObservedGeneration: c.Generation}
		if status {
			now.Status = metav1.ConditionTrue
		}
		was := apimeta.FindStatusCondition(s.Conditions, kind)
		changed := was == nil || was.Status != now.Status || was.Reason != now.Reason
		apimeta.SetStatusCondition(&s.Conditions, now)
		return changed
	}
	switch {
	case s.Nodes.Desired == 0:
		set(v1alpha1.ClusterAvailable, false, reasonNoNodes, "no node has an agent: look at spec.agents.nodeSelector and tolerations, and at the nodes")
	case s.Nodes.Ready < s.Nodes.Desired:
		message := fmt.Sprintf("pods have their network on %s nodes", s.Nodes.Summary)
		if len(waiting) > 0 {
			message += "; " + enumerate(waiting)
		} else {
			message += "; the others' agents have not reported yet: kubectl get pods -A -o wide -l app.kubernetes.io/name=" + AgentName
		}
		set(v1alpha1.ClusterAvailable, false, reasonNotReady, message)
	default:
		if set(v1alpha1.ClusterAvailable, true, reasonAllReady, fmt.Sprintf("pods have their network on %s nodes", s.Nodes.Summary)) {
			list = append(list, happening{events.ClusterAvailable, fmt.Sprintf("pods have their network on all %d nodes", s.Nodes.Desired)})
		}
	}
	if rolling != "" {
		set(v1alpha1.ClusterProgressing, true, reasonRollingOut, rolling)
	} else {
		set(v1alpha1.ClusterProgressing, false, reasonComplete, "all agents are as the spec says")
	}
	switch {
	case w.applied != nil:
		if set(v1alpha1.ClusterDegraded, true, reasonRefused, w.applied.Error()+"; what was there before stays") {
			list = append(list, happening{events.ClusterRefused, w.applied.Error()})
		}
	case len(degraded) > 0:
		if set(v1alpha1.ClusterDegraded, true, reasonNodes, enumerate(degraded)) {
			list = append(list, happening{events.ClusterDegraded, enumerate(degraded)})
		}
	default:
		set(v1alpha1.ClusterDegraded, false, reasonFine, "nothing is wrong")
	}
	return list
}

// enumerate is a list for people, of the first few.
func enumerate(nodes []string) string {
	slices.Sort(nodes)
	text := strings.Join(nodes[:min(len(nodes), mostNodes)], "; ")
	if more := len(nodes) - mostNodes; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}
