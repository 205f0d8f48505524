// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/kubetest"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/install"
	"netio.dev/netio/pkg/operator/operatortest"
)

const namespace = operatortest.Namespace

// TestRun: nodes are freed, one that is down is named, and what fails can be called
// again, also with the NetIOCluster gone.
func TestRun(t *testing.T) {
	config := kubetest.APIServer(t)
	kubetest.InstallCRDs(t, config)
	c := kubetest.Client(t, config)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, ready := range map[string]corev1.ConditionStatus{"up": corev1.ConditionTrue, "down": corev1.ConditionUnknown, "other": corev1.ConditionTrue} {
		n := nodeOf(ready)
		n.Name = name
		n.Spec.Taints = []corev1.Taint{{Key: v1alpha1.NotReadyTaint, Effect: corev1.TaintEffectNoSchedule}, {Key: "theirs", Effect: corev1.TaintEffectNoSchedule}}
		status := n.Status
		must(c.Create(ctx, n))
		n.Status = status
		must(c.Status().Update(ctx, n))
		if name != "other" { // NetIO never was there
			must(c.Create(ctx, &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: name}}))
		}
	}
	labels := map[string]string{"a": "b"}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "x", Image: "x"}}}}
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: operator.DeploymentName},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template}}
	agents := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: install.AgentName},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: template}}
	right := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: operator.DeploymentName}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "x"}}
	for _, o := range []client.Object{deployment, agents, right, newCluster()} {
		must(c.Create(ctx, o))
	}

	test := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: testPod, Labels: map[string]string{nameLabel: operator.DeploymentName}},
		Spec: corev1.PodSpec{NodeName: "up", Containers: template.Spec.Containers, TerminationGracePeriodSeconds: new(int64(0))}}
	must(c.Create(ctx, test))
	test.Status.Phase = corev1.PodSucceeded
	must(c.Status().Update(ctx, test))

	kubelet := func(status corev1.PodStatus) (stop func()) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				var pods corev1.PodList
				_ = c.List(ctx, &pods, client.MatchingLabels{nameLabel: podName}) // tried again
				for i := range pods.Items {
					if p := &pods.Items[i]; p.Spec.NodeName == "up" && p.Status.Phase != status.Phase {
						p.Status = status
						_ = c.Status().Update(ctx, p)
					}
				}
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond): // between two looks
				}
			}
		}()
		return func() { cancel(); <-done }
	}
	o := Options{Client: c, Namespace: namespace, Cluster: newCluster(), Patience: 3 * time.Second}

	stop := kubelet(corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "uninstall", Image: "x", ImageID: "x",
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "the disk is full"}}}}})
	err := Run(ctx, o)
	stop()
	if !errors.Is(err, ErrNotDone) || !strings.Contains(err.Error(), "up: the disk is full") || strings.Contains(err.Error(), "down: ") {
		t.Fatalf("of a node that fails: %v", err)
	}
	must(c.Get(ctx, client.ObjectKeyFromObject(deployment), deployment))
	if *deployment.Spec.Replicas != 0 {
		t.Errorf("%d operators", *deployment.Spec.Replicas)
	}
	if err := c.Get(ctx, client.ObjectKeyFromObject(agents), agents); client.IgnoreNotFound(err) != nil || err == nil && agents.DeletionTimestamp.IsZero() {
		t.Errorf("the agents are there: %v", err)
	}

	if err := c.Get(ctx, client.ObjectKeyFromObject(right), right); !apierrors.IsNotFound(err) {
		t.Errorf("an operator on a node that is down could make agents: %v", err)
	}

	must(c.Delete(ctx, newCluster()))
	defer kubelet(corev1.PodStatus{Phase: corev1.PodSucceeded})()
	o.Patience = time.Minute
	err = Run(ctx, o)
	if !errors.Is(err, ErrLeft) || !strings.Contains(err.Error(), ": down; when one is back: kubectl debug node/NODE") {
		t.Errorf("of a node that is down: %v", err)
	}
	var states v1alpha1.NetIONodeList
	var nodes corev1.NodeList
	var pods corev1.PodList
	var told eventsv1.EventList
	must(errors.Join(c.List(ctx, &states), c.List(ctx, &nodes), c.List(ctx, &pods), c.List(ctx, &told)))
	if len(states.Items) != 1 || states.Items[0].Name != "down" {
		t.Errorf("NetIONodes %v", states.Items)
	}
	for _, n := range nodes.Items {
		for _, taint := range n.Spec.Taints {
			if taint.Key == v1alpha1.NotReadyTaint {
				t.Errorf("%s has taint %s", n.Name, taint.Key)
			}
		}
		if len(n.Spec.Taints) == 0 {
			t.Errorf("%s has no taint of theirs", n.Name)
		}
	}
	if len(pods.Items) != 0 {
		t.Errorf("pods are left: %v", pods.Items)
	}
	if len(told.Items) != 1 || told.Items[0].Regarding.Name != "down" {
		t.Errorf("Events %v", told.Items)
	}
}
