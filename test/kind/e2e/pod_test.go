// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/test/kind/artifact"
	"netio.dev/netio/test/kind/probe"
	"netio.dev/netio/test/kind/topology"
)

// appLabel is the same of all pods of a test, for services.
var appLabel = map[string]string{"app": "probe"}

// pod is one that is ready, and answers at its addresses and port.
type pod struct {
	namespace, name, node string
	// answers is the name that it answers with.
	answers string
	host    bool
	addrs   []netip.Addr
	port    string
}

// newNamespace makes a namespace that goes with the test, and all in it.
func newNamespace(t *testing.T) string {
	t.Helper()
	return newNamespaceOf(t, nil)
}

// newNamespaceOf makes one that has annotations.
func newNamespaceOf(t *testing.T, annotations map[string]string) string {
	t.Helper()
	ns, err := client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-", Annotations: annotations}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	await(t, "service account of "+ns.Name, func(ctx context.Context) error {
		_, err := client.CoreV1().ServiceAccounts(ns.Name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return ns.Name
}

// startPod makes a pod on a node; awaitPod waits for it.
func startPod(t *testing.T, namespace, name string, node topology.Node) {
	t.Helper()
	create(t, namespace, name, node, false, probe.DefaultPort)
}

// startPodOf makes one that asks for a pool of addresses.
func startPodOf(t *testing.T, namespace, name string, node topology.Node, pool string) {
	t.Helper()
	p := newPod(t, name, node, false, probe.DefaultPort)
	p.Annotations = map[string]string{v1alpha1.PoolAnnotation: pool}
	if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// hostPort is what pods in a node's network listen on.
const hostPort = "18080"

// startHostPod makes one that is in its node's network: the node, as a party.
func startHostPod(t *testing.T, namespace, name string, node topology.Node) {
	t.Helper()
	create(t, namespace, name, node, true, hostPort)
	// The port is the node's, and the next test's pod is refused while it is taken:
	// the namespace goes at leisure.
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		pods := client.CoreV1().Pods(namespace)
		err := pods.Delete(ctx, name, metav1.DeleteOptions{})
		for err == nil {
			time.Sleep(200 * time.Millisecond) // between two looks
			_, err = pods.Get(ctx, name, metav1.GetOptions{})
		}
		if !apierrors.IsNotFound(err) {
			t.Errorf("pod %s is not gone: %v", name, err)
		}
	})
}

func create(t *testing.T, namespace, name string, node topology.Node, host bool, port string) {
	t.Helper()
	if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), newPod(t, name, node, host, port), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func newPod(t *testing.T, name string, node topology.Node, host bool, port string) *corev1.Pod {
	t.Helper()
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	grace := int64(1)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName:                      node.Name,
			HostNetwork:                   host,
			TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{
				Name:            "probe",
				Image:           artifact.ProbeImage,
				ImagePullPolicy: corev1.PullNever,
				Args:            []string{"serve", port},
				Ports:           []corev1.ContainerPort{{Name: probe.PortName, ContainerPort: int32(number)}},
				ReadinessProbe: &corev1.Probe{
					ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(number)}},
					PeriodSeconds: 1,
				},
			}},
		},
	}
	if !host {
		p.Labels = appLabel
	}
	return p
}

// awaitPod waits until a pod is ready.
func awaitPod(t *testing.T, namespace, name string) pod {
	t.Helper()
	var p pod
	await(t, "pod "+name+" ready", func(ctx context.Context) error {
		is, err := client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !isReady(is) {
			return fmt.Errorf("phase %s, conditions %v", is.Status.Phase, is.Status.Conditions)
		}
		p = pod{namespace: namespace, name: name, node: is.Spec.NodeName, answers: name, port: probe.DefaultPort}
		if is.Spec.HostNetwork {
			p.host, p.answers, p.port = true, is.Spec.NodeName, hostPort
		}
		for _, ip := range is.Status.PodIPs {
			addr, err := netip.ParseAddr(ip.IP)
			if err != nil {
				return err
			}
			p.addrs = append(p.addrs, addr)
		}
		return nil
	})
	if len(p.addrs) != 2 || !p.addrs[0].Is4() || !p.addrs[1].Is6() {
		t.Fatalf("pod %s has the addresses %v, not one of each family", name, p.addrs)
	}
	return p
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// deletePod deletes a pod and waits until it is gone.
func deletePod(t *testing.T, p pod) {
	t.Helper()
	if err := client.CoreV1().Pods(p.namespace).Delete(t.Context(), p.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "pod "+p.name+" gone", func(ctx context.Context) error {
		_, err := client.CoreV1().Pods(p.namespace).Get(ctx, p.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return errors.Join(err, errors.New("it is still there"))
	})
}

// execute runs a command in a pod.
func (p pod) execute(ctx context.Context, in io.Reader, out io.Writer, command ...string) error {
	url := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(p.namespace).Name(p.name).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: command, Stdin: in != nil, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	executor, err := remotecommand.NewWebSocketExecutor(config, "GET", url.String())
	if err != nil {
		return fmt.Errorf("execute in %s: %w", p.name, err)
	}
	var stderr bytes.Buffer
	if err := executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: in, Stdout: out, Stderr: &stderr}); err != nil {
		return fmt.Errorf("execute in %s: %w: %s", p.name, err, stderr.String())
	}
	return nil
}

// reach asks targets from a pod.
func (p pod) reach(ctx context.Context, targets ...string) (map[string]probe.Answer, error) {
	return p.probe(ctx, append([]string{"reach"}, targets...)...)
}

// echo sends bytes by TCP to targets, and compares what they send back.
func (p pod) echo(ctx context.Context, size int, targets ...string) (map[string]probe.Answer, error) {
	return p.probe(ctx, append([]string{"echo", strconv.Itoa(size)}, targets...)...)
}

// probe runs the probe in a pod and returns its answers by target.
func (p pod) probe(ctx context.Context, args ...string) (map[string]probe.Answer, error) {
	var out bytes.Buffer
	if err := p.execute(ctx, nil, &out, append([]string{"/probe"}, args...)...); err != nil {
		return nil, err
	}
	answers := map[string]probe.Answer{}
	for lines := json.NewDecoder(&out); ; {
		var a probe.Answer
		err := lines.Decode(&a)
		if errors.Is(err, io.EOF) {
			return answers, nil
		}
		if err != nil {
			return nil, fmt.Errorf("answers of %s: %w", p.name, err)
		}
		answers[a.Target] = a
	}
}

// targets are a pod's, by TCP and UDP, in both families.
func (p pod) targets() []string {
	var list []string
	for _, a := range p.addrs {
		list = append(list, targetsAt(a.String(), a.Is6(), p.port)...)
	}
	return list
}

// tcpTargets are those that go by TCP.
func (p pod) tcpTargets() []string {
	return slices.DeleteFunc(p.targets(), func(target string) bool { return !strings.HasPrefix(target, "tcp") })
}

// targetsAt are TCP and UDP at a host, which may be a name, in a family.
func targetsAt(host string, six bool, port string) []string {
	family := "4"
	if six {
		family = "6"
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	return []string{"tcp" + family + "://" + host + ":" + port, "udp" + family + "://" + host + ":" + port}
}
