// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"netio.dev/netio/test/internal/netlab"
	"netio.dev/netio/test/kind/probe"
	"netio.dev/netio/test/kind/topology"
)

// party is somebody who asks: a pod, or the machine that the tests run on, which is
// the world to the cluster.
type party struct {
	name string
	ask  func(ctx context.Context, targets ...string) (map[string]probe.Answer, error)
}

func (p pod) party() party { return party{p.name, p.reach} }

var outside = party{"the world", func(_ context.Context, targets ...string) (map[string]probe.Answer, error) {
	answers := map[string]probe.Answer{}
	for _, a := range probe.Reach(targets) {
		answers[a.Target] = a
	}
	return answers, nil
}}

// answeredBy waits until the targets are answered by all of behind and nobody else,
// each at least once in a few rounds, and returns how clients were seen.
func (p party) answeredBy(t *testing.T, behind []string, targets ...string) []netip.Addr {
	t.Helper()
	var seen []netip.Addr
	await(t, fmt.Sprintf("%s is answered by %v", p.name, behind), func(ctx context.Context) error {
		seen = nil
		got := map[string]bool{}
		for range 6 {
			answers, err := p.ask(ctx, targets...)
			if err != nil {
				return err
			}
			for target, a := range answers {
				if a.Error != "" {
					return fmt.Errorf("%s: %s", target, a.Error)
				}
				if !slices.Contains(behind, a.Name) {
					return fmt.Errorf("%s: %q answered", target, a.Name)
				}
				got[a.Name] = true
				from, err := netip.ParseAddr(a.From)
				if err != nil {
					return err
				}
				seen = append(seen, from.Unmap())
			}
		}
		if len(got) < len(behind) {
			return fmt.Errorf("only %v answered", got)
		}
		return nil
	})
	return seen
}

// unanswered waits until no target answers.
func (p party) unanswered(t *testing.T, targets ...string) {
	t.Helper()
	await(t, p.name+" is not answered", func(ctx context.Context) error {
		answers, err := p.ask(ctx, targets...)
		if err != nil {
			return err
		}
		for target, a := range answers {
			if a.Error == "" {
				return fmt.Errorf("%s: %q answered", target, a.Name)
			}
		}
		return nil
	})
}

// nodePortTargets are those of a service's node ports at a node.
func nodePortTargets(s *corev1.Service, at topology.Node) []string {
	var all []string
	for _, a := range at.Addrs {
		for _, p := range s.Spec.Ports {
			network := strings.ToLower(string(p.Protocol)) + map[bool]string{true: "4", false: "6"}[a.Is4()]
			all = append(all, network+"://"+netip.AddrPortFrom(a, uint16(p.NodePort)).String())
		}
	}
	return all
}

// changeService changes a service's spec.
func changeService(t *testing.T, s *corev1.Service, change func(*corev1.ServiceSpec)) *corev1.Service {
	t.Helper()
	services := client.CoreV1().Services(s.Namespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() (err error) {
		if s, err = services.Get(t.Context(), s.Name, metav1.GetOptions{}); err != nil {
			return err
		}
		change(&s.Spec)
		s, err = services.Update(t.Context(), s, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// balancer are addresses that a load balancer of the cluster might have. The world's
// route to them leads to the first node.
var balancer = []netip.Addr{netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8:80::1")}

// balance gives a service these addresses, as the load balancer of a cloud would.
func balance(t *testing.T, s *corev1.Service) []string {
	t.Helper()
	fabric, err := netlab.Open("fabric", "/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer fabric.Close()
	var targets []string
	for i, a := range balancer {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a.String()})
		targets = append(targets, targetsAt(a.String(), a.Is6(), "80")...)
		if err := fabric.Route(netip.PrefixFrom(a, a.BitLen()), under.Nodes[0].Addrs[i], "fabric"); err != nil && !strings.Contains(err.Error(), "exists") {
			t.Fatal(err)
		}
	}
	if _, err := client.CoreV1().Services(s.Namespace).UpdateStatus(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	return targets
}

// TestServiceFromOutside reaches a service by node ports and a load balancer's
// addresses, from the world, from nodes and from pods.
//
//	world ──> n1, n2, n3 ──> one (first node), two (last node)
func TestServiceFromOutside(t *testing.T) {
	if len(under.Nodes) < 2 {
		t.Skip("the cluster has one node only")
	}
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	service := startService(t, namespace)
	startPod(t, namespace, "one", first)
	startPod(t, namespace, "two", last)
	startHostPod(t, namespace, "node", first)
	one, node := awaitPod(t, namespace, "one"), awaitPod(t, namespace, "node")
	awaitPod(t, namespace, "two")
	both := []string{"one", "two"}

	t.Run("cluster IPs from a node", func(t *testing.T) {
		node.party().answeredBy(t, both, serviceTargets(service)...)
	})
	service = changeService(t, service, func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeLoadBalancer })
	t.Run("node ports", func(t *testing.T) {
		for _, at := range under.Nodes {
			for _, from := range []party{outside, node.party(), one.party()} {
				from.answeredBy(t, both, nodePortTargets(service, at)...)
			}
		}
	})
	balanced := balance(t, service)
	t.Run("a load balancer's addresses", func(t *testing.T) {
		for _, from := range []party{outside, node.party(), one.party()} {
			from.answeredBy(t, both, balanced...)
		}
	})
	t.Run("only for some", func(t *testing.T) {
		changeService(t, service, func(s *corev1.ServiceSpec) {
			s.LoadBalancerSourceRanges = []string{"10.244.0.0/16", "fd00:10:244::/56"}
		})
		outside.unanswered(t, balanced...)
		for _, from := range []party{node.party(), one.party()} {
			from.answeredBy(t, both, balanced...)
		}
		changeService(t, service, func(s *corev1.ServiceSpec) { s.LoadBalancerSourceRanges = nil })
		outside.answeredBy(t, both, balanced...)
	})
	t.Run("externalTrafficPolicy Local", func(t *testing.T) {
		service = changeService(t, service, func(s *corev1.ServiceSpec) {
			s.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		})
		for at, behind := range map[*topology.Node]string{&first: "one", &last: "two"} {
			for _, seen := range outside.answeredBy(t, []string{behind}, nodePortTargets(service, *at)...) {
				if !slices.Contains(topology.Fabric, seen) {
					t.Errorf("the world is seen as %s", seen)
				}
			}
		}
		outside.answeredBy(t, []string{"one"}, balanced...) // the route leads to the first node
		if len(under.Nodes) > 2 {
			outside.unanswered(t, nodePortTargets(service, under.Nodes[1])...)
		}
		// What comes from within goes everywhere.
		for _, from := range []party{node.party(), one.party()} {
			from.answeredBy(t, both, nodePortTargets(service, first)...)
			from.answeredBy(t, both, balanced...)
		}
	})
	t.Run("externalIPs", func(t *testing.T) {
		changeService(t, service, func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalTrafficPolicy, s.LoadBalancerClass = corev1.ServiceTypeClusterIP, "", nil
			for i := range s.Ports {
				s.Ports[i].NodePort = 0
			}
			s.ExternalIPs = []string{balancer[0].String(), balancer[1].String()}
		})
		for _, from := range []party{outside, node.party(), one.party()} {
			from.answeredBy(t, both, balanced...)
		}
	})
	t.Run("the host gives back what it led to services", func(t *testing.T) {
		if err := client.CoreV1().Services(namespace).Delete(t.Context(), service.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		outside.unanswered(t, append(balanced, nodePortTargets(service, first)...)...)
		port := strconv.Itoa(int(service.Spec.Ports[0].NodePort))
		await(t, "rules and routes are gone", func(context.Context) error {
			for _, at := range under.Nodes {
				left, err := onNode(at, "sh", "-c", "ip route; ip -6 route; nft list table inet netio")
				if err != nil {
					return err
				}
				if strings.Contains(left, port) || strings.Contains(left, balancer[0].String()) || strings.Contains(left, balancer[1].String()) {
					return errors.New(at.Name + " has\n" + left)
				}
			}
			return nil
		})
	})
}

// onNode runs a command in a node's network, and returns what it prints.
func onNode(at topology.Node, command string, args ...string) (string, error) {
	network, err := under.NodeNetwork(at.Name)
	if err != nil {
		return "", err
	}
	defer network.Close()
	return network.Output(command, args...)
}
