// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// candidate is a node that may be tested.
type candidate struct {
	node  *corev1.Node
	agent *corev1.Pod // nil: there is none
}

func (c *candidate) runs() bool { return c.agent != nil && c.agent.Status.Phase == corev1.PodRunning }

// choose takes the nodes that are asked for, or of all that should have an agent at most
// so many (0: all), evenly spread over them. Notes say which are left out.
func choose(all []candidate, wanted []string, most int) (chosen []candidate, notes []string, err error) {
	var names, without []string
	for _, c := range all {
		names = append(names, c.node.Name)
	}
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return nil, nil, fmt.Errorf("the cluster has no node %s; it has %s", name, strings.Join(names, ", "))
		}
	}
	for _, c := range all {
		switch {
		case len(wanted) > 0 && !slices.Contains(wanted, c.node.Name):
		case c.agent == nil:
			without = append(without, c.node.Name)
		default:
			chosen = append(chosen, c)
		}
	}
	switch {
	case len(chosen) == 0:
		return nil, nil, fmt.Errorf("no agent of NetIO is on %s: kubectl get netiocluster, and kubectl get pods -A -l app.kubernetes.io/name=netio-agent, tell of them", strings.Join(without, ", "))
	case len(without) > 0:
		notes = append(notes, fmt.Sprintf("not tested, as no agent is there: %s", strings.Join(without, ", ")))
	}
	if n := len(chosen); len(wanted) == 0 && most > 0 && n > most {
		some := make([]candidate, 0, most)
		for i := range most {
			some = append(some, chosen[i*n/most])
		}
		chosen = some
		notes = append(notes, fmt.Sprintf("%d of %d nodes are tested: --nodes says which, --max-nodes how many", most, n))
	}
	return chosen, notes, nil
}

// addressesOf are a node's internal ones, the first of each family.
func addressesOf(n *corev1.Node) []netip.Addr {
	var list []netip.Addr
	for _, a := range n.Status.Addresses {
		addr, err := netip.ParseAddr(a.Address)
		if a.Type != corev1.NodeInternalIP || err != nil {
			continue
		}
		family := 6
		if addr.Is4() {
			family = 4
		}
		if _, there := ofFamily(list, family); !there {
			list = append(list, addr)
		}
	}
	return list
}

// candidates are all nodes of the cluster, by name.
func (t *test) candidates(ctx context.Context) ([]candidate, error) {
	nodes, err := t.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	agents, err := t.cluster.Agents(ctx)
	if err != nil {
		return nil, err
	}
	var all []candidate
	for i := range nodes.Items {
		n := &nodes.Items[i]
		all = append(all, candidate{n, agents[n.Name]})
	}
	slices.SortFunc(all, func(a, b candidate) int { return strings.Compare(a.node.Name, b.node.Name) })
	return all, nil
}

// imageOf is that of an agent: its node has it already, and a netioctl is in it.
func imageOf(agent *corev1.Pod) (string, corev1.PullPolicy) {
	for _, c := range agent.Spec.Containers {
		if c.Name == "agent" {
			return c.Image, c.ImagePullPolicy
		}
	}
	return "", ""
}
