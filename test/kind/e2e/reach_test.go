// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/test/kind/probe"
	"netio.dev/netio/test/kind/topology"
)

func TestNodesAreReady(t *testing.T) {
	for _, n := range under.Nodes {
		await(t, "node "+n.Name, func(ctx context.Context) error {
			object, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if len(object.Spec.Taints) > 0 {
				return fmt.Errorf("it has the taints %v", object.Spec.Taints)
			}
			for _, c := range object.Status.Conditions {
				if (c.Type == corev1.NodeReady) != (c.Status == corev1.ConditionTrue) {
					return fmt.Errorf("%s is %s: %s", c.Type, c.Status, c.Message)
				}
			}
			return nil
		})
	}
}

// TestReach: everybody reaches everybody, by TCP and UDP, IPv4 and IPv6: pods and
// nodes, on the same node and on others, by address, service and name.
//
//	for each node   a pod          p-n1 ...       10.244.x.y
//	                the node       host-n1 ...    a pod in the node's network
func TestReach(t *testing.T) {
	namespace := newNamespace(t)
	var names []string
	for _, n := range under.Nodes {
		// Two, so that there is always one on the same node.
		startPod(t, namespace, "p-"+n.Name, n)
		startPod(t, namespace, "q-"+n.Name, n)
		startHostPod(t, namespace, "host-"+n.Name, n)
		names = append(names, "p-"+n.Name, "q-"+n.Name, "host-"+n.Name)
	}
	service := startService(t, namespace)
	var all []pod
	for _, name := range names {
		all = append(all, awaitPod(t, namespace, name))
	}
	t.Run("addresses", func(t *testing.T) { reachAll(t, all) })
	behind := backends(all)
	t.Run("service", func(t *testing.T) {
		for _, from := range all {
			reachService(t, from, behind, serviceTargets(service)...)
		}
	})
	t.Run("much at a time", func(t *testing.T) {
		for _, from := range all {
			var targets []string
			for _, to := range all {
				targets = append(targets, to.tcpTargets()...)
			}
			answers, err := from.echo(t.Context(), 2<<20, targets...)
			if err != nil {
				t.Fatal(err)
			}
			for _, target := range targets {
				if a := answers[target]; a.Error != "" {
					t.Errorf("%s to %s: %s", from.name, target, a.Error)
				}
			}
		}
	})
	t.Run("nodes say that they are ready", func(t *testing.T) {
		objects := policies(t)
		for _, n := range under.Nodes {
			await(t, n.Name+" ready", func(ctx context.Context) error {
				is := &v1alpha1.NetIONode{}
				if err := objects.Get(ctx, ctrlclient.ObjectKey{Name: n.Name}, is); err != nil {
					return err
				}
				if !meta.IsStatusConditionTrue(is.Status.Conditions, v1alpha1.NodeReady) || is.Status.ProblemCount > 0 || is.Status.Device == "" {
					return fmt.Errorf("%+v", is.Status)
				}
				return nil
			})
		}
	})
	t.Run("name", func(t *testing.T) {
		whole := service.Name + "." + namespace + ".svc." + topology.Domain
		for _, from := range all {
			if from.host {
				continue // a node does not ask the cluster's DNS
			}
			for _, name := range []string{service.Name, whole} {
				reachService(t, from, behind, slices.Concat(targetsAt(name, false, "80"), targetsAt(name, true, "80"))...)
			}
		}
	})
}

// reachAll: everybody reaches everybody, as themselves.
func reachAll(t *testing.T, all []pod) {
	t.Helper()
	for _, from := range all {
		// A pod that is ready has its network: no second try.
		answers, err := from.reach(t.Context(), allTargets(all)...)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range all {
			for _, target := range to.targets() {
				if err := checkDirect(from, to, answers[target]); err != nil {
					t.Errorf("%s to %s, %s: %v", from.name, to.name, target, err)
				}
			}
		}
	}
}

func allTargets(all []pod) []string {
	var list []string
	for _, p := range all {
		list = append(list, p.targets()...)
	}
	return list
}

// checkDirect checks who answered, and that pods are seen by their own address.
func checkDirect(from, to pod, a probe.Answer) error {
	switch {
	case a.Error != "":
		return errors.New(a.Error)
	case a.Name != to.answers:
		return fmt.Errorf("%s answered", a.Name)
	}
	seen, err := netip.ParseAddr(a.From)
	if err != nil {
		return err
	}
	if !from.host && !slices.Contains(from.addrs, seen.Unmap()) {
		return fmt.Errorf("it is seen as %s, not as one of %v", seen, from.addrs)
	}
	return nil
}

// startService makes a service of both families for the pods of the test.
func startService(t *testing.T, namespace string) *corev1.Service {
	t.Helper()
	both := corev1.IPFamilyPolicyRequireDualStack
	port := intstr.Parse(probe.DefaultPort)
	s, err := client.CoreV1().Services(namespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "probe"},
		Spec: corev1.ServiceSpec{
			Selector:       appLabel,
			IPFamilyPolicy: &both,
			Ports: []corev1.ServicePort{
				{Name: "tcp", Port: 80, TargetPort: port, Protocol: corev1.ProtocolTCP},
				{Name: "udp", Port: 80, TargetPort: port, Protocol: corev1.ProtocolUDP},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func serviceTargets(s *corev1.Service) []string {
	var list []string
	for _, ip := range s.Spec.ClusterIPs {
		list = append(list, targetsAt(ip, strings.Contains(ip, ":"), "80")...)
	}
	return list
}

func backends(all []pod) []string {
	var names []string
	for _, p := range all {
		if !p.host {
			names = append(names, p.answers)
		}
	}
	return names
}

// reachService asks until all targets answer: a service comes to each node some
// time after its pods are ready.
func reachService(t *testing.T, from pod, behind []string, targets ...string) {
	t.Helper()
	await(t, from.name+" reaches the service", func(ctx context.Context) error {
		answers, err := from.reach(ctx, targets...)
		if err != nil {
			return err
		}
		for _, target := range targets {
			switch a := answers[target]; {
			case a.Error != "":
				return fmt.Errorf("%s: %s", target, a.Error)
			case !slices.Contains(behind, a.Name):
				return fmt.Errorf("%s: %q answered, not one of %v", target, a.Name, behind)
			}
		}
		return nil
	})
}
