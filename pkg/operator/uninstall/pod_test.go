// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
)

func newCluster() *v1alpha1.NetIOCluster {
	return &v1alpha1.NetIOCluster{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.ClusterName}, Spec: v1alpha1.NetIOClusterSpec{
		Image: v1alpha1.Image{Name: "reg/netio-agent:v1", PullPolicy: corev1.PullNever, PullSecrets: []string{"a"}},
		CNI:   &v1alpha1.CNI{BinDir: "/usr/lib/cni"}, Device: v1alpha1.DeviceAuto,
	}}
}

func nodeOf(ready corev1.ConditionStatus) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	if ready != "" {
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	}
	return n
}

func TestJudge(t *testing.T) {
	container := func(s corev1.ContainerStatus) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{s}}}
	}
	failed := &corev1.ContainerStateTerminated{ExitCode: 1, Message: "a forwarder serves it"}
	for _, tt := range []struct {
		name string
		node *corev1.Node
		pod  *corev1.Pod
		want state
		why  string
	}{
		{"has left the cluster", nil, nil, done, ""},
		{"has done", nodeOf(corev1.ConditionFalse), &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, done, ""},
		{"has done and is silent since", nodeOf(corev1.ConditionUnknown), &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, done, ""},
		{"is silent", nodeOf(corev1.ConditionUnknown), &corev1.Pod{}, down, "does not report"},
		{"has never reported", nodeOf(""), &corev1.Pod{}, down, "does not report"},
		{"has no network, as is to be", nodeOf(corev1.ConditionFalse), &corev1.Pod{}, busy, "is new"},
		{"somebody deleted the pod", nodeOf(corev1.ConditionTrue), nil, busy, "somebody else"},
		{"fails", nodeOf(corev1.ConditionTrue), container(corev1.ContainerStatus{State: corev1.ContainerState{Terminated: failed}}), busy, "a forwarder serves it"},
		{"waits after a failure", nodeOf(corev1.ConditionTrue), container(corev1.ContainerStatus{
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			LastTerminationState: corev1.ContainerState{Terminated: failed}}), busy, "a forwarder serves it"},
		{"has no image", nodeOf(corev1.ConditionTrue), container(corev1.ContainerStatus{
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "not found"}}}), busy, "ErrImagePull not found"},
		{"is refused", nodeOf(corev1.ConditionTrue), &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "OutOfpods", Message: "too many"}}, busy, "OutOfpods: too many"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, why := judge(tt.node, tt.pod); got != tt.want || !strings.Contains(why, tt.why) {
				t.Errorf("%v %q, expected %v %q", got, why, tt.want, tt.why)
			}
		})
	}
}

// TestPod: it starts wherever kubelet runs, and its command can be given by hand.
func TestPod(t *testing.T) {
	long := strings.Repeat("n", 253)
	p, other := pod(newCluster(), "netio-system", long), pod(newCluster(), "netio-system", "n2")
	if p.Name == other.Name || len(p.Name) > 63 || p.Spec.NodeName != long || len(p.Spec.Tolerations) != 1 || *p.Spec.AutomountServiceAccountToken {
		t.Errorf("%+v", p)
	}
	const want = "netio-agent uninstall --root /host --cni-bin-dir /usr/lib/cni --cni-conf-dir /etc/cni/net.d"
	if got := strings.Join(p.Spec.Containers[0].Command, " "); got != want {
		t.Errorf("command %q", got)
	}
	soft, none := newCluster(), newCluster()
	soft.Spec.Device = v1alpha1.DeviceSoft
	none.Spec.KernelModule = &v1alpha1.KernelModule{Mode: v1alpha1.KernelModuleNone}
	for _, c := range []*v1alpha1.NetIOCluster{soft, none} {
		if got := command(c); got[len(got)-1] != "--keep-module" {
			t.Errorf("command where the module is none of NetIO's: %q", got)
		}
	}
	if got := cure(newCluster(), "n1"); got != "kubectl debug node/n1 --image=reg/netio-agent:v1 --profile=sysadmin -- "+want {
		t.Errorf("cure %q", got)
	}
}
