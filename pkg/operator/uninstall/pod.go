// SPDX-License-Identifier: Apache-2.0

package uninstall

import (
	"cmp"
	"crypto/sha256"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/events"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/install"
)

const (
	nameLabel = "app.kubernetes.io/name"
	// podName is the label of the pods that free nodes of NetIO.
	podName = "netio-node-uninstall"
	// hostRoot is where such a pod has its node's root.
	hostRoot = "/host"
)

// pod frees a node of NetIO. It is tried again on the node for as long as it is there.
func pod(c *v1alpha1.NetIOCluster, namespace, node string) *corev1.Pod {
	s := &c.Spec
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			// A node's name may be as long as a pod's.
			Name: fmt.Sprintf("%s-%x", podName, sha256.Sum256([]byte(node)))[:len(podName)+11], Namespace: namespace,
			Labels: map[string]string{nameLabel: podName, "app.kubernetes.io/part-of": "netio"},
		},
		Spec: corev1.PodSpec{
			NodeName:                     node, // no scheduler: nodes may be full, or closed
			HostNetwork:                  true,
			DNSPolicy:                    corev1.DNSDefault,
			RestartPolicy:                corev1.RestartPolicyOnFailure,
			AutomountServiceAccountToken: new(false),
			Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			PriorityClassName:            "system-node-critical",
			Volumes:                      []corev1.Volume{{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}},
			Containers: []corev1.Container{{
				Name: "uninstall", Image: s.Image.Name, ImagePullPolicy: s.Image.PullPolicy,
				Command: command(c),
				// Why it fails is in the pod's status then.
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				VolumeMounts:             []corev1.VolumeMount{{Name: "root", MountPath: hostRoot}},
				// It takes away mounts' folders, interfaces of all namespaces and a kernel module.
				SecurityContext: &corev1.SecurityContext{Privileged: new(true), ReadOnlyRootFilesystem: new(true), RunAsUser: new(int64(0))},
			}},
		},
	}
	if a := s.Agents; a != nil {
		p.Spec.PriorityClassName = cmp.Or(a.PriorityClassName, p.Spec.PriorityClassName)
	}
	for _, name := range s.Image.PullSecrets {
		p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return p
}

// command is what frees a node whose root is at hostRoot.
func command(c *v1alpha1.NetIOCluster) []string {
	cni := install.CNIOf(&c.Spec)
	list := []string{"netio-agent", "uninstall", "--root", hostRoot, "--cni-bin-dir", cni.BinDir, "--cni-conf-dir", cni.ConfDir}
	if !install.BringsModule(&c.Spec) {
		list = append(list, "--keep-module") // if there is one it is somebody else's
	}
	return list
}

// cure is what people do for a node that was down.
func cure(c *v1alpha1.NetIOCluster, node string) string {
	text := fmt.Sprintf("kubectl debug node/%s --image=%s --profile=sysadmin --", node, c.Spec.Image.Name)
	for _, word := range command(c) {
		text += " " + word
	}
	return text
}

// event tells of a node that was down. It outlives what is uninstalled.
func event(c *v1alpha1.NetIOCluster, n *corev1.Node) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, GenerateName: podName + "-"},
		EventTime:  metav1.NowMicro(), ReportingController: operator.DeploymentName, ReportingInstance: podName,
		Type: corev1.EventTypeWarning, Reason: string(events.NodeNotFreed), Action: "Uninstall",
		Regarding: corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID},
		Note:      "NetIO is uninstalled, but not from this node, which was down; when it is back: " + cure(c, n.Name),
	}
}

// state is how far a node is.
type state int

const (
	busy state = iota
	done
	down
)

// judge tells how far a node is, of its pod, and why not farther.
func judge(n *corev1.Node, p *corev1.Pod) (state, string) {
	switch {
	case n == nil:
		return done, "" // it has left the cluster, with all that was on it
	case p != nil && p.Status.Phase == corev1.PodSucceeded:
		return done, ""
	case isDown(n):
		return down, "kubelet does not report"
	case p == nil:
		return busy, "its pod was deleted by somebody else"
	}
	for _, s := range p.Status.ContainerStatuses {
		for _, t := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
			if t != nil && t.ExitCode != 0 {
				return busy, cmp.Or(t.Message, t.Reason)
			}
		}
		if w := s.State.Waiting; w != nil {
			return busy, w.Reason + " " + w.Message
		}
	}
	if p.Status.Message != "" {
		return busy, p.Status.Reason + ": " + p.Status.Message // kubelet has refused it
	}
	return busy, "pod " + p.Name + " is " + cmp.Or(string(p.Status.Phase), "new")
}

// isDown tells whether nothing can be had from a node now: its kubelet has been silent
// for long enough for the control plane to say so.
func isDown(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionUnknown
		}
	}
	return true // kubelet has never reported
}
