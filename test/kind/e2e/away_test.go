// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	"netio.dev/netio/test/internal/daemon"
	"netio.dev/netio/test/internal/netlab"
	"netio.dev/netio/test/kind/node"
	"netio.dev/netio/test/kind/probe"
)

// away is how long the API server is.
const (
	away      = 15 * time.Second
	awayScale = 5 * time.Minute
)

// within asks from a pod without the API server, which executing a command needs: by
// the machine's own copy of the program, in the pod's network.
func (p pod) within(t *testing.T) party {
	t.Helper()
	list, err := agentOf(t, p.node).ListEndpoints(t.Context(), &agentv1.ListEndpointsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list.GetEndpoints(), func(e *agentv1.Endpoint) bool { return e.GetNamespace() == p.namespace && e.GetName() == p.name })
	if i < 0 {
		t.Fatalf("the agent of %s does not know %s", p.node, p.name)
	}
	network, err := netlab.Open(p.name, nodePath(t, p.node, list.GetEndpoints()[i].GetNetns()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = network.Close() })
	return party{p.name, func(_ context.Context, targets ...string) (map[string]probe.Answer, error) {
		out, err := network.Output(filepath.Join(under.Dir.Bin(), "probe"), append([]string{"reach"}, targets...)...)
		if err != nil {
			return nil, err
		}
		answers := map[string]probe.Answer{}
		for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
			var a probe.Answer
			if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
				return nil, fmt.Errorf("answer %q: %w", lines.Text(), err)
			}
			answers[a.Target] = a
		}
		return answers, nil
	}}
}

// apiServer is the API server's process, by this machine's numbers.
func apiServer(t *testing.T) int {
	t.Helper()
	init, err := under.NodePid(under.Nodes[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	children, err := daemon.Children(init)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range children {
		line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		if name, _, _ := bytes.Cut(line, []byte{0}); err == nil && filepath.Base(string(name)) == "kube-apiserver" {
			return pid
		}
	}
	t.Fatal("no API server")
	return 0
}

// TestAPIServerAway: without the API server everything goes on as it is, on agents
// that start meanwhile, too; and what changed is caught up with.
func TestAPIServerAway(t *testing.T) {
	pause := away
	if *scale {
		pause = awayScale
	}
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	service := startService(t, namespace)
	startPod(t, namespace, "asks", first)
	startPod(t, namespace, "open", last)
	startPod(t, namespace, "shut", last)
	asks, open, shut := awaitPod(t, namespace, "asks"), awaitPod(t, namespace, "open"), awaitPod(t, namespace, "shut")
	shut.label(t, "app", "shut")
	service = changeService(t, service, func(s *corev1.ServiceSpec) { s.Type = corev1.ServiceTypeNodePort })
	objects := policies(t)
	if err := objects.Create(t.Context(), &v1alpha1.NetIOPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "shut"},
		Spec:       v1alpha1.NetIOPolicySpec{PodSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "shut"}}},
	}); err != nil {
		t.Fatal(err)
	}
	client := asks.within(t)
	both := []string{"asks", "open"}
	goesOn := func() {
		t.Helper()
		client.answeredBy(t, []string{"open"}, open.targets()...)
		client.answeredBy(t, both, serviceTargets(service)...)
		outside.answeredBy(t, both, nodePortTargets(service, last)...)
		client.unanswered(t, shut.tcpTargets()...)
	}
	goesOn()
	pids := func() map[string]int {
		all := map[string]int{}
		for _, n := range under.Nodes {
			for _, socket := range []string{node.AgentSocket, node.ForwarderSocket} {
				pid, err := listener(nodePath(t, n.Name, socket))
				if err != nil {
					t.Fatal(err)
				}
				all[n.Name+socket] = pid
			}
		}
		return all
	}
	before := pids()

	server := apiServer(t)
	if err := unix.Kill(server, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := true
	resume := func() {
		if stopped {
			stopped = false
			if err := unix.Kill(server, unix.SIGCONT); err != nil {
				t.Error(err)
			}
		}
	}
	defer resume()
	for end := time.Now().Add(pause); ; {
		goesOn()
		if time.Now().After(end) {
			break
		}
		time.Sleep(time.Second) // between two looks
	}
	for what, pid := range pids() {
		if before[what] != pid {
			t.Errorf("%s: process %d has become %d", what, before[what], pid)
		}
	}
	killListener(t, nodePath(t, last.Name, node.ForwarderSocket))
	goesOn()
	resume()

	// It is back, and so are changes.
	addr := netip.PrefixFrom(asks.addrs[0], 32).String()
	await(t, "a policy is made", func(ctx context.Context) error {
		return objects.Create(ctx, &v1alpha1.NetIOPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "ajar"},
			Spec: v1alpha1.NetIOPolicySpec{
				PodSelector: v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "shut"}},
				Ingress:     []v1alpha1.IngressRule{{Action: v1alpha1.ActionAllow, From: []v1alpha1.Peer{{CIDR: v1alpha1.Prefix(addr)}}}},
			},
		})
	})
	client.answeredBy(t, []string{"shut"}, "tcp4://"+netip.AddrPortFrom(shut.addrs[0], mustPort(t, shut.port)).String())
}

func mustPort(t *testing.T, text string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}
