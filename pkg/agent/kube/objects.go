// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/policy"
)

// slimPod keeps of a pod what is read of it: there are many of them.
func slimPod(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil // a deletion that was missed
	}
	return &corev1.Pod{
		ObjectMeta: slimMeta(p.ObjectMeta),
		Spec:       corev1.PodSpec{HostNetwork: p.Spec.HostNetwork, Containers: slimContainers(p)},
		Status:     corev1.PodStatus{Phase: p.Status.Phase, PodIPs: p.Status.PodIPs},
	}, nil
}

// slimContainers keeps the named ports, in one container. A sidecar is an init
// container that goes on.
func slimContainers(p *corev1.Pod) []corev1.Container {
	var all corev1.Container
	for _, list := range [][]corev1.Container{p.Spec.Containers, p.Spec.InitContainers} {
		for _, c := range list {
			for _, port := range c.Ports {
				if port.Name != "" {
					all.Ports = append(all.Ports, corev1.ContainerPort{Name: port.Name, Protocol: port.Protocol, ContainerPort: port.ContainerPort})
				}
			}
		}
	}
	return []corev1.Container{all}
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
	p := &desired.Pod{Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), Labels: o.Labels}
	for _, ip := range o.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			p.Addresses = append(p.Addresses, a.Unmap())
		}
	}
	for _, c := range o.Spec.Containers {
		for _, port := range c.Ports {
			p.Ports = append(p.Ports, policy.Port{Name: port.Name, Protocol: cmp.Or(port.Protocol, corev1.ProtocolTCP), Number: uint16(port.ContainerPort)})
		}
	}
	return p
}

func samePod(a, b *desired.Pod) bool {
	// What the spec says of ports never changes.
	return a.UID == b.UID && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Addresses, b.Addresses)
}

func nodeOf(o *corev1.Node) *Node {
	n := &Node{Name: o.Name, UID: string(o.UID), Zone: o.Labels[corev1.LabelTopologyZone]}
	for _, address := range o.Status.Addresses {
		if address.Type != corev1.NodeInternalIP {
			continue
		}
		if a, err := netip.ParseAddr(address.Address); err == nil {
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
	return a.UID == b.UID && a.Zone == b.Zone && slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.PodCIDRs, b.PodCIDRs)
}

// view is the cluster as it is known now.
func (w *Watcher) view() *View {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := &View{Cluster: &desired.Cluster{
		Pods: maps.Clone(w.pods), Namespaces: maps.Clone(w.namespaces),
		Services: maps.Clone(w.services), EndpointSlices: maps.Clone(w.slices),
	}}
	v.Policies, v.ClusterPolicies, v.NetworkPolicies = byName(w.policies), byName(w.clusterPolicies), byName(w.networkPolicies)
	v.ClusterNetworkPolicies = byName(w.clusterNetworkPolicies)
	v.Nodes = byName(w.nodes)
	return v
}

func byName[T any](objects map[string]T) []T {
	var all []T
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		all = append(all, objects[name])
	}
	return all
}
