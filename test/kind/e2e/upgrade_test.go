// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/operator/install"
	"netio.dev/netio/test/kind/cluster"
	"netio.dev/netio/test/kind/probe"
)

// source is the top of the tree.
const source = "../../.."

// TestUpgrade: while all agents and forwarders are replaced by those of another version,
// no connection breaks and none that is made fails.
func TestUpgrade(t *testing.T) {
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "asks", first)
	startPod(t, namespace, "loads", first)
	startPod(t, namespace, "answers", last)
	startPod(t, namespace, "near", first)
	asks, loads, answers, near := awaitPod(t, namespace, "asks"), awaitPod(t, namespace, "loads"), awaitPod(t, namespace, "answers"), awaitPod(t, namespace, "near")
	objects := policies(t)
	var held []*connection
	for range 2 {
		for _, to := range []pod{answers, near} {
			for _, a := range to.addrs {
				held = append(held, asks.hold(t, net.JoinHostPort(a.String(), to.port)))
			}
		}
	}
	load := loads.load(t, 250, net.JoinHostPort(answers.addrs[0].String(), answers.port))
	for _, h := range held {
		h.goesOn(t)
	}

	bin := t.TempDir()
	version := "upgraded-" + namespace
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X netio.dev/netio/pkg/version.version="+version, "-o", bin+"/",
		"./cmd/netio-agent", "./cmd/netio-cni", "./cmd/netio-operator", "./cmd/netioctl")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build another version: %v\n%s", err, out)
	}
	for _, h := range held {
		t.Logf("before: the latest answer after %d ms", h.longest.Load())
	}
	tree, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := under.Upgrade(t.Context(), cluster.UpgradeOptions{Source: tree, NetIO: bin, Say: t.Logf}); err != nil {
		t.Fatal(err)
	}
	await(t, "all nodes have the other version", func(ctx context.Context) error {
		d, err := client.AppsV1().DaemonSets(cluster.Namespace).Get(ctx, install.AgentName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := rolledOut(d); err != nil {
			return err
		}
		for _, n := range under.Nodes {
			is := &v1alpha1.NetIONode{}
			if err := objects.Get(ctx, types.NamespacedName{Name: n.Name}, is); err != nil {
				return err
			}
			if is.Status.Version != version {
				return fmt.Errorf("%s has version %s", n.Name, is.Status.Version)
			}
		}
		return nil
	})
	for _, h := range held {
		h.goesOn(t)
	}
	for _, h := range held {
		h.end(t)
	}
	got := load.end(t)
	t.Logf("%d connections, the slowest took %v", got.OK, got.Longest)
	if got.Failed > 0 || got.OK == 0 {
		t.Errorf("%+v", got)
	}
	startPod(t, namespace, "late", last)
	awaitPod(t, namespace, "late")
}

func rolledOut(d *appsv1.DaemonSet) error {
	s := d.Status
	if s.ObservedGeneration != d.Generation || s.UpdatedNumberScheduled != s.DesiredNumberScheduled || s.NumberAvailable != s.DesiredNumberScheduled || s.NumberUnavailable != 0 {
		return fmt.Errorf("%+v", s)
	}
	return nil
}

// loading is a pod that makes connections until it is told to end.
type loading struct {
	stdin io.Closer
	out   bytes.Buffer
	err   chan error
}

// load makes a pod do so, at a rate a second.
func (p pod) load(t *testing.T, rate int, address string) *loading {
	t.Helper()
	r, w := io.Pipe()
	l := &loading{stdin: w, err: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	go func() { l.err <- p.execute(ctx, r, &l.out, "/probe", "load", fmt.Sprint(rate), address) }()
	return l
}

func (l *loading) end(t *testing.T) (got probe.Load) {
	t.Helper()
	if err := l.stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := <-l.err; err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(l.out.Bytes(), &got); err != nil {
		t.Fatalf("%v in %q", err, l.out.String())
	}
	return got
}
