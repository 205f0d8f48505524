// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/operator/install"
	"netio.dev/netio/test/kind/cluster"
)

// source is the top of the tree.
const source = "../../.."

// rate is how many connections are made a second while NetIO changes.
var rate = flag.Int("rate", 250, "connections a `second` that are made during upgrades and kills")

// TestUpgrade: while all agents and forwarders are replaced by those of another version,
// no connection breaks and none that is made fails.
func TestUpgrade(t *testing.T) {
	namespace := newNamespace(t)
	other := buildOther(t, "upgraded-"+namespace)
	f := startTraffic(t, namespace, *rate)
	upgrade(t, other)
	f.end(t)
	last := under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "late", last)
	awaitPod(t, namespace, "late")
}

// otherVersion is one that is the same but for its name; bin is the folder of its
// programs.
type otherVersion struct{ name, bin string }

func buildOther(t *testing.T, name string) otherVersion {
	t.Helper()
	v := otherVersion{name, t.TempDir()}
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X netio.dev/netio/pkg/version.version="+name, "-o", v.bin+"/",
		"./cmd/netio-agent", "./cmd/netio-cni", "./cmd/netio-operator", "./cmd/netioctl")
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build another version: %v\n%s", err, out)
	}
	return v
}

// upgrade gives the cluster another version.
func upgrade(t *testing.T, v otherVersion) {
	t.Helper()
	if err := under.Upgrade(t.Context(), cluster.UpgradeOptions{Source: tree(t), NetIO: v.bin, Say: t.Logf}); err != nil {
		t.Fatal(err)
	}
	awaitVersion(t, v.name)
}

func tree(t *testing.T) string {
	t.Helper()
	top, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// awaitVersion waits until all agents are of a version.
func awaitVersion(t *testing.T, version string) {
	t.Helper()
	objects := policies(t)
	await(t, "all nodes have version "+version, func(ctx context.Context) error {
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
}

func rolledOut(d *appsv1.DaemonSet) error {
	s := d.Status
	if s.ObservedGeneration != d.Generation || s.UpdatedNumberScheduled != s.DesiredNumberScheduled || s.NumberAvailable != s.DesiredNumberScheduled || s.NumberUnavailable != 0 {
		return fmt.Errorf("%+v", s)
	}
	return nil
}
