// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/cluster"
	"netio.dev/netio/test/kind/node"
)

// kills is how many processes of NetIO TestLifecycle kills.
const kills = 30

// uninstallRefused: what is in the way on a node is told by helm, and until it is put
// right nothing of the chart is deleted.
func uninstallRefused(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	if _, err := under.Helm(ctx, "upgrade", cluster.Release, filepath.Join(tree(t), "charts/netio"), "--reset-then-reuse-values", "--set", "uninstall.patience=20s"); err != nil {
		t.Fatal(err)
	}
	last := under.Nodes[len(under.Nodes)-1]
	conflist := nodePath(t, last.Name, "/etc/cni/net.d/10-netio.conflist")
	was, err := os.ReadFile(conflist)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(conflist, []byte(`{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"other"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := under.Helm(ctx, "uninstall", cluster.Release)
	t.Logf("%v\n%s", err, out)
	if err == nil || !strings.Contains(out, last.Name+": ") || !strings.Contains(out, "not written by netio-agent") {
		t.Errorf("helm uninstall with somebody else's network in place of NetIO's: %v\n%s", err, out)
	}
	if _, err := under.Helm(ctx, "status", cluster.Release); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(conflist, was, 0o644); err != nil {
		t.Fatal(err)
	}
}

var uninstall = flag.Bool("uninstall", false, "run the test that uninstalls NetIO, too")

// TestLifecycle is NetIO's life in a cluster that has no network: installed as a new user
// does, upgraded, killed at random, taken back to the version before, and uninstalled,
// after which everything is as it was.
func TestLifecycle(t *testing.T) {
	if _, err := client.CoreV1().Namespaces().Get(t.Context(), cluster.Namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Skip("NetIO is or was installed here: make cluster-helm-e2e brings up a cluster without it")
	}
	for _, n := range under.Nodes {
		await(t, n.Name+" has registered", func(ctx context.Context) error {
			_, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
			return err
		})
	}
	before := takeFootprint(t)
	b := artifact.Builder{Dir: under.Dir, Source: tree(t), NetIO: filepath.Join(tree(t), "bin"), Say: t.Logf}
	if err := b.BuildNetIO(t.Context()); err != nil {
		t.Fatal(err)
	}
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	helm := func(t *testing.T, args ...string) string {
		t.Helper()
		out, err := under.Helm(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	install := func(t *testing.T, name string) {
		t.Helper()
		began := time.Now()
		if err := under.Install(t.Context(), cluster.InstallOptions{Chart: filepath.Join(tree(t), "charts/netio"), Tag: b.NetIOTag}); err != nil {
			t.Fatal(err)
		}
		t.Logf("helm install: %v", time.Since(began).Round(time.Millisecond))
		for _, n := range under.Nodes {
			await(t, n.Name+" is ready", func(ctx context.Context) error { return nodeReady(ctx, n.Name) })
		}
		t.Logf("all nodes are ready: %v", time.Since(began).Round(time.Millisecond))
		startPod(t, namespace, name, last)
		startPod(t, namespace, name+"-other", first)
		one, other := awaitPod(t, namespace, name), awaitPod(t, namespace, name+"-other")
		got, err := other.reach(t.Context(), one.targets()...)
		if err != nil {
			t.Fatal(err)
		}
		for target, a := range got {
			if err := checkDirect(other, one, a); err != nil {
				t.Errorf("%s: %v", target, err)
			}
		}
		t.Logf("the first pods reach each other: %v after helm install began", time.Since(began).Round(time.Millisecond))
	}
	if !t.Run("Install", func(t *testing.T) { install(t, "first") }) {
		return
	}

	version := versionOf(t)
	other := buildOther(t, "upgraded-"+namespace)
	f := startTraffic(t, namespace, *rate)
	if !t.Run("Upgrade", func(t *testing.T) {
		upgrade(t, other)
		f.goesOn(t)
		t.Logf("the latest answer so far after %v", f.stall())
	}) {
		return
	}
	if !t.Run("Kills", func(t *testing.T) {
		killAtRandom(t, f)
		t.Logf("the latest answer so far after %v", f.stall())
	}) {
		return
	}
	if !t.Run("Downgrade", func(t *testing.T) {
		helm(t, "rollback", cluster.Release)
		awaitVersion(t, version)
		f.end(t)
	}) {
		return
	}

	if !t.Run("UninstallRefused", func(t *testing.T) { uninstallRefused(t) }) {
		return
	}
	if !t.Run("Uninstall", func(t *testing.T) {
		began := time.Now()
		t.Log(helm(t, "uninstall", cluster.Release))
		t.Logf("helm uninstall: %v", time.Since(began).Round(time.Millisecond))
		awaitFootprint(t, before, kept)
		for _, n := range under.Nodes {
			if takeFootprint(t)[n.Name+" taint: "+v1alpha1.NotReadyTaint] {
				t.Errorf("%s has the taint %s", n.Name, v1alpha1.NotReadyTaint)
			}
		}
	}) {
		return
	}
	t.Run("InstallAgain", func(t *testing.T) { install(t, "again") })
}

// TestUninstall: helm uninstall leaves nothing with NetIO's name, and no pod's interface.
// The cluster has no network then.
func TestUninstall(t *testing.T) {
	if !*uninstall {
		t.Skip("not without -uninstall: it ends the cluster's network")
	}
	out, err := under.Helm(t.Context(), "uninstall", cluster.Release)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	awaitFootprint(t, footprint{}, func(line string) bool {
		return kept(line) || !strings.Contains(line, "netio") && !strings.Contains(line, " pod: ")
	})
}

// kept are lines of a footprint that helm uninstall is not to take away: CRDs with what
// people have made of them, and the namespace, which may have been there before, with
// what every namespace has. NetIO's taint is kubelet's at first, and other taints come
// and go with the network.
func kept(line string) bool {
	return slices.ContainsFunc([]string{
		" CustomResourceDefinition /", " APIService /v1alpha1.netio.dev", " Namespace /" + cluster.Namespace,
		" " + cluster.Namespace + "/default", " " + cluster.Namespace + "/kube-root-ca.crt", " taint: ",
	}, func(part string) bool { return strings.Contains(line, part) })
}

func nodeReady(ctx context.Context, name string) error {
	n, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("conditions %v", n.Status.Conditions)
}

// versionOf is the version of all agents.
func versionOf(t *testing.T) string {
	t.Helper()
	objects := policies(t)
	version := ""
	await(t, "an agent tells its version", func(ctx context.Context) error {
		is := &v1alpha1.NetIONode{}
		is.Name = under.Nodes[0].Name
		err := objects.Get(ctx, types.NamespacedName{Name: is.Name}, is)
		if version = is.Status.Version; err == nil && version == "" {
			err = fmt.Errorf("%s does not", is.Name)
		}
		return err
	})
	return version
}

// killAtRandom kills agents, forwarders and the operator, one at a time, and waits for
// answers after each.
func killAtRandom(t *testing.T, f *traffic) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	count := map[string]int{}
	for range kills {
		n := under.Nodes[r.IntN(len(under.Nodes))]
		victim := []string{"agent", "forwarder", "operator"}[r.IntN(3)]
		switch victim {
		case "agent":
			killListener(t, nodePath(t, n.Name, node.AgentSocket))
		case "forwarder":
			killListener(t, nodePath(t, n.Name, node.ForwarderSocket))
		case "operator":
			killOperator(t)
		}
		count[victim]++
		f.goesOn(t)
	}
	t.Logf("killed %v", count)
}

// killOperator kills the one that is there, on whichever node.
func killOperator(t *testing.T) {
	t.Helper()
	const kill = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" != netio-operator ] || { kill -9 ${p#/proc/} && echo killed; }; done"
	await(t, "an operator to kill", func(ctx context.Context) error {
		var said string
		for _, n := range under.Nodes {
			args, err := under.NodeCommand(n.Name, "sh", "-c", kill)
			if err != nil {
				return err
			}
			out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
			if said += string(out); err == nil && strings.Contains(said, "killed") {
				return nil
			}
		}
		return fmt.Errorf("none is there: %s", said)
	})
}
