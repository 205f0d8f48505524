// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/packet"
)

// TestTrace: what the forwarders of two nodes say of a packet, one after the other, is
// what connections meet.
//
//	first node: near ──┐
//	last node: far ────┴──> db (last node) <── policy: from role=friend
func TestTrace(t *testing.T) {
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "near", first)
	startPod(t, namespace, "far", last)
	near, far := awaitPod(t, namespace, "near"), awaitPod(t, namespace, "far")
	other := newNamespace(t)
	service := startService(t, other)
	startPod(t, other, "db", last)
	db := awaitPod(t, other, "db")
	reachService(t, near, []string{"db"}, serviceTargets(service)...)
	reachService(t, far, []string{"db"}, serviceTargets(service)...)

	destinations := append([]netip.Addr{}, db.addrs...)
	for _, ip := range service.Spec.ClusterIPs {
		destinations = append(destinations, netip.MustParseAddr(ip))
	}
	port := map[bool]uint32{true: uint32(service.Spec.Ports[0].Port)}
	if n, err := strconv.Atoi(db.port); err == nil {
		port[false] = uint32(n)
	}
	follow := func(t *testing.T, from pod, want string) {
		t.Helper()
		for i, dst := range destinations {
			src := from.addrs[0]
			if dst.Is6() {
				src = from.addrs[1]
			}
			got, err := traced(t, from, db, &dataplanev1.Tuple{Src: src.String(), Dst: dst.String(), Protocol: packet.ProtoTCP, DstPort: port[i >= len(db.addrs)]})
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("from %s to %s: %s, want %s", from.name, dst, got, want)
			}
		}
	}
	t.Run("open", func(t *testing.T) {
		follow(t, near, "delivered")
		follow(t, far, "delivered")
	})
	t.Run("closed", func(t *testing.T) {
		objects := policies(t)
		err := objects.Create(t.Context(), &v1alpha1.NetIOPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: other, Name: "db"},
			Spec: v1alpha1.NetIOPolicySpec{Ingress: []v1alpha1.IngressRule{{
				Action: v1alpha1.ActionAllow,
				From: []v1alpha1.Peer{
					{PodSelector: &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"role": "friend"}}, NamespaceSelector: &v1alpha1.LabelSelector{}},
					{Entity: v1alpha1.EntityHost},
				},
			}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []pod{near, far} {
			awaitTCP(t, p, db, false)
			follow(t, p, "policy-ingress")
			p.label(t, "role", "friend")
			awaitTCP(t, p, db, true)
			follow(t, p, "delivered")
		}
	})
}

// traced follows a packet from a pod to another one's node, and says how it ends:
// "delivered", "elsewhere" or the reason of the drop.
func traced(t *testing.T, from, to pod, tuple *dataplanev1.Tuple) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req := &dataplanev1.TraceRequest{What: &dataplanev1.TraceRequest_Description{Description: &dataplanev1.PacketDescription{Tuple: tuple, DontFragment: true}}}
	for at := from.node; ; at = to.node {
		res, err := forwarderOf(t, at).Trace(ctx, req)
		if err != nil {
			return "", fmt.Errorf("trace at %s: %w", at, err)
		}
		if res.GetVerdict() != "forwarded" {
			return res.GetReason(), nil
		}
		out := res.GetSent()[0]
		ingress := "tunnel-" + at
		switch {
		case out.GetRemote() != "" && out.GetPort() != "tunnel-"+to.node:
			return "elsewhere", nil
		case out.GetRemote() != "":
		case out.GetPort() != "host":
			if at != to.node || out.GetTuple().GetDst() != to.addrs[0].String() && out.GetTuple().GetDst() != to.addrs[1].String() {
				return "elsewhere", nil
			}
			return "delivered", nil
		default: // to a neighbour, by the host's routes
			ingress = "host"
		}
		if at == to.node {
			return "elsewhere", nil
		}
		req = &dataplanev1.TraceRequest{Port: ingress, What: &dataplanev1.TraceRequest_Packet{Packet: out.GetPacket()}, Length: out.GetLength()}
	}
}
