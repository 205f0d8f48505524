// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/kmod"
	"netio.dev/netio/pkg/operator/install"
	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/cluster"
)

// TestKernelModule: on a machine whose kernel takes no modules, nodes have the soft
// device, and say why and what would help. An image with modules is mounted, chosen by an
// expression.
func TestKernelModule(t *testing.T) {
	if _, err := os.Stat("/proc/modules"); err == nil {
		t.Skip("this machine's kernel takes modules, and the cluster leaves it alone")
	}
	objects := policies(t)
	nodesSay := func(ctx context.Context) error {
		for _, n := range under.Nodes {
			is := &v1alpha1.NetIONode{}
			if err := objects.Get(ctx, types.NamespacedName{Name: n.Name}, is); err != nil {
				return err
			}
			c := apimeta.FindStatusCondition(is.Status.Conditions, v1alpha1.NodeKernelModuleLoaded)
			if c == nil || c.Status != metav1.ConditionFalse || c.Reason != string(kmod.ModulesUnsupported) || !strings.Contains(c.Message, "the soft device is used. To have it: boot a kernel with CONFIG_MODULES") {
				return fmt.Errorf("%s: %+v", n.Name, c)
			}
			m := is.Status.KernelModule
			if is.Status.Device != "soft" || m == nil || m.State != string(kmod.StateUnsupported) || m.Kernel == "" {
				return fmt.Errorf("%s: device %q, %+v", n.Name, is.Status.Device, m)
			}
			if d := apimeta.FindStatusCondition(is.Status.Conditions, v1alpha1.NodeReady); d == nil || d.Status != metav1.ConditionTrue {
				return fmt.Errorf("%s: %+v", n.Name, d)
			}
		}
		return nil
	}
	await(t, "nodes say what is in the module's way", nodesSay)

	setModule := func(ctx context.Context, m *v1alpha1.KernelModule) error {
		is := &v1alpha1.NetIOCluster{}
		if err := objects.Get(ctx, types.NamespacedName{Name: v1alpha1.ClusterName}, is); err != nil {
			return err
		}
		before := is.DeepCopy()
		is.Spec.KernelModule = m
		return objects.Patch(ctx, is, ctrlclient.MergeFrom(before))
	}
	rolled := func(ctx context.Context) error {
		d, err := client.AppsV1().DaemonSets(cluster.Namespace).Get(ctx, install.AgentName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		is := &v1alpha1.NetIOCluster{}
		if err := objects.Get(ctx, types.NamespacedName{Name: v1alpha1.ClusterName}, is); err != nil {
			return err
		}
		if is.Status.ObservedGeneration != is.Generation {
			return fmt.Errorf("the operator has not seen generation %d", is.Generation)
		}
		return rolledOut(d)
	}
	t.Cleanup(func() {
		if err := setModule(context.Background(), nil); err != nil {
			t.Error(err)
		}
	})
	images := []v1alpha1.KernelModuleImage{{Kernel: "1.0.0-none", Image: artifact.PauseImage}, {KernelRegexp: `^\d+\.`, Image: artifact.ProbeImage}}
	if err := setModule(t.Context(), &v1alpha1.KernelModule{Mode: v1alpha1.KernelModulePrebuilt, Images: images}); err != nil {
		t.Fatal(err)
	}
	await(t, "agents have the images", rolled)
	pods, err := client.CoreV1().Pods(cluster.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + install.AgentName})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil {
			continue
		}
		if s := p.Status.InitContainerStatuses; len(s) != 1 || s[0].State.Terminated == nil || s[0].State.Terminated.ExitCode != 0 || s[0].RestartCount != 0 {
			t.Errorf("%s: %+v", p.Name, s)
		}
		mounted := 0
		for _, v := range p.Spec.Volumes {
			if v.Image != nil && v.Image.PullPolicy == corev1.PullNever {
				mounted++
			}
		}
		if mounted != len(images) {
			t.Errorf("%s: %d of %d images", p.Name, mounted, len(images))
		}
	}
	await(t, "nodes say the same", nodesSay)
	if err := setModule(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	await(t, "agents are as they were", rolled)
}
