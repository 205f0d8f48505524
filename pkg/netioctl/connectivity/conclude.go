// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// between is two nodes, and a family.
type between struct {
	a, b   string
	family int
}

func (x between) compare(y between) int {
	return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b), x.family-y.family)
}

// tally counts links.
type tally struct{ ok, failed int }

func (t *tally) count(s State) {
	switch s {
	case OK:
		t.ok++
	case Failed:
		t.failed++
	}
}

// all tells whether there are links, and none works; some whether one does not.
func (t *tally) all() bool  { return t.failed > 0 && t.ok == 0 }
func (t *tally) some() bool { return t.failed > 0 }

// path is what the links between two nodes have in common.
type path struct {
	nodes, pods tally
	small, bulk tally // of pods' links: by TCP
	dropped     bool  // a forwarder drops one of them
	delivered   bool  // forwarders would deliver one of them
}

// conclude says where it is broken, as far as links together tell more than each alone:
// between which nodes, and whether it is the nodes' network or the pods'.
func conclude(results []Result) []string {
	var list []string
	paths, ofPods := map[between]*path{}, map[string]*tally{}
	services, names := &tally{}, &tally{}
	for i := range results {
		r := &results[i]
		switch r.Kind {
		case SameNode, OtherNode, NodeToNode:
			for _, end := range []End{r.From, r.To} {
				if end.What != Node {
					at(ofPods, end.Node).count(r.State)
				}
			}
		case PodToService, Hairpin:
			services.count(r.State)
		case ServiceName, Headless:
			names.count(r.State)
		}
		if r.Kind != OtherNode && r.Kind != NodeToNode {
			continue
		}
		p := at(paths, between{min(r.From.Node, r.To.Node), max(r.From.Node, r.To.Node), r.Family})
		if r.Kind == NodeToNode {
			p.nodes.count(r.State)
			continue
		}
		p.pods.count(r.State)
		switch r.By {
		case probe.TCP:
			p.small.count(r.State)
		case probe.Bulk:
			p.bulk.count(r.State)
		}
		p.dropped = p.dropped || r.Dropped
		p.delivered = p.delivered || r.State == Failed && r.Trace != "" && !r.Dropped
	}
	alone := map[string]bool{} // nodes whose pods reach nobody
	for _, node := range slices.Sorted(maps.Keys(ofPods)) {
		if ofPods[node].all() && len(ofPods) > 1 {
			alone[node] = true
		}
	}
	if len(alone) > 0 && len(alone) < len(ofPods) {
		for _, node := range slices.Sorted(maps.Keys(alone)) {
			list = append(list, fmt.Sprintf("pods on %s reach no pod and are reached by none: see netioctl --node %s status", node, node))
		}
	}
	for _, x := range slices.SortedFunc(maps.Keys(paths), between.compare) {
		if why := paths[x].why(); why != "" {
			list = append(list, fmt.Sprintf("IPv%d between %s and %s: %s", x.family, x.a, x.b, why))
		}
	}
	switch {
	case services.all():
		list = append(list, "no service is reached: pods have them from NetIO; see netioctl --node NODE status")
	case names.all() && !services.some():
		list = append(list, "names are not resolved, and services work by address: look at the cluster's DNS (kubectl get pods -n kube-system -l k8s-app=kube-dns)")
	}
	return list
}

func at[K comparable, V any](m map[K]*V, key K) *V {
	if m[key] == nil {
		m[key] = new(V)
	}
	return m[key]
}

// why says what is broken between two nodes, "" if nothing is.
func (p *path) why() string {
	between := "" // what is known of the nodes themselves
	if p.nodes.ok > 0 && !p.nodes.some() {
		between = "the nodes reach each other, and "
	}
	switch {
	case p.nodes.all():
		return "the nodes themselves do not reach each other: look at the network between them, and at their firewalls"
	case p.dropped:
		return "NetIO drops packets of pods; the broken links below say where and why"
	case p.small.ok > 0 && !p.small.some() && p.bulk.all():
		return "small packets of pods get through and large ones do not: pods' MTU is too large for what is between the nodes (mtu in the NetIOCluster)"
	case p.pods.some() && p.delivered:
		return between + "NetIO would deliver: what is between the nodes loses packets with pods' addresses, or those of tunnels (UDP port 4789)"
	case p.pods.some():
		return between + "pods do not reach each other, or not by all means"
	case p.nodes.some():
		return "some of what the nodes send each other is lost: look at the network between them, and at their firewalls"
	}
	return ""
}
