// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/policy"
)

// podRecord is what the informer keeps of a pod: there are many of them, and a
// corev1.Pod without content takes three times as much.
type podRecord struct {
	metav1.ObjectMeta // for the informer: name, UID, version
	pod               *desired.Pod
}

// slimPod makes a podRecord of a pod.
func slimPod(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil // a deletion that was missed, or a record already
	}
	r := &podRecord{pod: podOf(p)}
	r.Namespace, r.Name, r.UID, r.ResourceVersion = unique.Make(p.Namespace).Value(), p.Name, p.UID, p.ResourceVersion
	return r, nil
}

// slimNode leaves out the images and what else a heartbeat changes.
func slimNode(object any) (any, error) {
	n, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	return &corev1.Node{
		ObjectMeta: slimMeta(n.ObjectMeta),
		Spec:       corev1.NodeSpec{PodCIDRs: n.Spec.PodCIDRs},
		Status:     corev1.NodeStatus{Addresses: n.Status.Addresses},
	}, nil
}

func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Labels: m.Labels}
}

// podOf is nil for a pod without a network of its own, and for one that has
// ended: its addresses may be another's already.
func podOf(o *corev1.Pod) *desired.Pod {
	if o.Spec.HostNetwork || o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		return nil
	}
	p := &desired.Pod{Namespace: unique.Make(o.Namespace).Value(), Name: o.Name, UID: string(o.UID), Labels: slimLabels(o.Labels), ServiceAccount: unique.Make(o.Spec.ServiceAccountName).Value(),
		Pool: unique.Make(o.Annotations[v1alpha1.PoolAnnotation]).Value()}
	for _, ip := range o.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			p.Addresses = append(p.Addresses, a.Unmap())
		}
	}
	// A sidecar is an init container that goes on.
	for _, list := range [][]corev1.Container{o.Spec.Containers, o.Spec.InitContainers} {
		for _, c := range list {
			for _, port := range c.Ports {
				if port.Name != "" {
					p.Ports = append(p.Ports, policy.Port{Name: port.Name, Protocol: cmp.Or(port.Protocol, corev1.ProtocolTCP), Number: uint16(port.ContainerPort)})
				}
			}
		}
	}
	return p
}

// slimLabels are the labels, of which the texts are kept once for all pods.
func slimLabels(labels map[string]string) map[string]string {
	slim := make(map[string]string, len(labels))
	for k, v := range labels {
		slim[unique.Make(k).Value()] = unique.Make(v).Value()
	}
	return slim
}

func samePod(a, b *desired.Pod) bool {
	// What the spec says of ports and service account never changes.
	return a.UID == b.UID && a.Pool == b.Pool && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Addresses, b.Addresses)
}

func nodeOf(o *corev1.Node) *Node {
	n := &Node{Name: o.Name, UID: string(o.UID), Zone: o.Labels[corev1.LabelTopologyZone], Labels: o.Labels}
	for _, address := range o.Status.Addresses {
		a, err := netip.ParseAddr(address.Address)
		if err != nil {
			continue // a name
		}
		n.All = append(n.All, a.Unmap())
		if address.Type == corev1.NodeInternalIP {
			n.Addresses = append(n.Addresses, a.Unmap())
		}
	}
	for _, text := range o.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(text); err == nil {
			n.PodCIDRs = append(n.PodCIDRs, p.Masked())
		}
	}
	return n
}

func sameNode(a, b *Node) bool {
	return a.UID == b.UID && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.All, b.All) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}

// view is the cluster as it is known now.
func (w *Watcher) view() *View {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &View{Cluster: &desired.Cluster{
		Pods: maps.Clone(w.pods), Namespaces: maps.Clone(w.namespaces),
		Services: maps.Clone(w.services), EndpointSlices: maps.Clone(w.slices), Nodes: make(map[string]policy.ClusterNode, len(w.nodes)),
	}}
	for name, n := range w.nodes {
		v.Cluster.Nodes[name] = policy.ClusterNode{Labels: n.Labels, Addresses: n.All}
	}
	v.Policies, v.ClusterPolicies, v.NetworkPolicies = byName(w.policies), byName(w.clusterPolicies), byName(w.networkPolicies)
	v.ClusterNetworkPolicies = byName(w.clusterNetworkPolicies)
	v.Versions = w.versions
	v.Nodes = byName(w.nodes)
	v.Blocks, v.Pools = maps.Clone(w.blocks), maps.Clone(w.pools)
	return v
}

func byName[T any](objects map[string]T) []T {
	var all []T
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		all = append(all, objects[name])
	}
	return all
}
