// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// endPatience is how long kubelet may take to say that a program has ended.
const endPatience = 10 * time.Second

// atOnce is how many requests of one kind are under way.
const atOnce = 16

// start makes the namespace, pods and services, and waits for them. A pod that does not
// come up is a trouble of its party, and no error.
func (t *test) start(ctx context.Context) error {
	if t.own {
		if err := t.makeNamespace(ctx); err != nil {
			return err
		}
	}
	t.Say("starting %d pods in namespace %s, three for each of %d nodes", 3*len(t.layout.members), t.namespace, len(t.layout.members))
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range t.layout.members {
		m := &t.layout.members[i]
		for _, p := range m.parties() {
			pod := t.newPod(m, i+1, p)
			t.deleteLater(func(ctx context.Context) error {
				return t.client.CoreV1().Pods(t.namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{})
			})
			g.Go(func() error { return t.makePod(ctx, p, pod) })
		}
		service := t.newService(m.service, i+1)
		t.deleteService(service.Name)
		g.Go(func() error { return t.makeService(ctx, m, service) })
	}
	t.deleteService(t.layout.headless)
	g.Go(func() error {
		_, err := t.client.CoreV1().Services(t.namespace).Create(ctx, t.newHeadless(), metav1.CreateOptions{})
		return wrap(err, "make service "+t.layout.headless)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	if err := t.awaitPods(ctx); err != nil {
		return err
	}
	t.greet(ctx)
	return nil
}

// greet has each pod ask itself: one that is ready may still have ended at once, and
// cannot be told from a link that is broken then.
func (t *test) greet(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i := range t.layout.members {
		for _, p := range t.layout.members[i].parties() {
			if p.trouble != "" {
				continue
			}
			port := t.layout.port
			if p.role == roleHost {
				port = t.layout.hostPort
			}
			g.Go(func() error {
				own := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
				answers, err := t.ask(ctx, p, []probe.Question{{How: probe.TCP, Family: 4, Target: own.String(), Expect: []string{p.name}, Wait: t.Wait, Settle: t.Settle}})
				switch a := answers[0]; {
				case ctx.Err() != nil: // which will be told of all links
				case a == nil:
					p.trouble = fmt.Sprintf("it could not be told to ask: %v", err)
				case a.Error != "":
					p.trouble = "it does not answer itself: " + a.Error
				}
				if p.trouble == "" {
					return nil
				}
				// Kubelet says a little later why a program has ended.
				for until := time.Now().Add(endPatience); time.Now().Before(until); {
					pod, err := t.client.CoreV1().Pods(t.namespace).Get(ctx, p.name, metav1.GetOptions{})
					if err != nil || hasEnded(pod, &p.trouble) || pause(ctx) != nil {
						break
					}
				}
				return nil
			})
		}
	}
	_ = g.Wait() // they return none
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// deleteLater has cleanUp do so, unless the namespace goes as a whole.
func (t *test) deleteLater(f func(context.Context) error) {
	if !t.own {
		t.undo = append(t.undo, f)
	}
}

func (t *test) deleteService(name string) {
	t.deleteLater(func(ctx context.Context) error {
		return t.client.CoreV1().Services(t.namespace).Delete(ctx, name, metav1.DeleteOptions{})
	})
}

// makeNamespace makes one, and waits until pods may be made in it.
func (t *test) makeNamespace(ctx context.Context) error {
	t.undo = append(t.undo, func(ctx context.Context) error {
		return t.client.CoreV1().Namespaces().Delete(ctx, t.namespace, metav1.DeleteOptions{})
	})
	if _, err := t.client.CoreV1().Namespaces().Create(ctx, t.newNamespace(), metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make namespace %s: %w", t.namespace, err)
	}
	until := time.Now().Add(startPatience)
	for {
		_, err := t.client.CoreV1().ServiceAccounts(t.namespace).Get(ctx, "default", metav1.GetOptions{})
		if err == nil || apierrors.IsForbidden(err) {
			return nil
		}
		if !apierrors.IsNotFound(err) || time.Now().After(until) {
			return fmt.Errorf("namespace %s does not get its service account: %w; look at kube-controller-manager", t.namespace, err)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// pause is between two looks.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(lookEvery):
		return nil
	}
}

func (t *test) makePod(ctx context.Context, p *party, pod *corev1.Pod) error {
	until := time.Now().Add(lookEvery * 20)
	for {
		_, err := t.client.CoreV1().Pods(t.namespace).Create(ctx, pod, metav1.CreateOptions{})
		switch {
		case err == nil:
			return nil
		case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "service account") && time.Now().Before(until):
			// It is on its way, and its owner may not be looked at.
			if err := pause(ctx); err != nil {
				return err
			}
		case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
			p.trouble, p.refused = "the cluster refuses it: "+reason(err), true
			return nil
		default:
			return fmt.Errorf("make pod %s: %w", pod.Name, err)
		}
	}
}

// reason is what the API server says.
func reason(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return status.Status().Message
	}
	return err.Error()
}

func (t *test) makeService(ctx context.Context, m *member, service *corev1.Service) error {
	made, err := t.client.CoreV1().Services(t.namespace).Create(ctx, service, metav1.CreateOptions{})
	if apierrors.IsForbidden(err) || apierrors.IsInvalid(err) {
		m.serviceTrouble = "the cluster refuses the service: " + reason(err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("make service %s: %w", service.Name, err)
	}
	for _, ip := range made.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(ip); err == nil {
			m.clusterIPs = append(m.clusterIPs, addr)
		}
	}
	for _, port := range made.Spec.Ports {
		if port.Protocol == corev1.ProtocolUDP {
			m.udpPort = port.NodePort
		} else {
			m.nodePort = port.NodePort
		}
	}
	return nil
}

// awaitPods waits until all pods are ready, or will not be.
func (t *test) awaitPods(ctx context.Context) error {
	began := time.Now()
	for {
		list, err := t.client.CoreV1().Pods(t.namespace).List(ctx, metav1.ListOptions{LabelSelector: runLabel + "=" + t.run})
		if err != nil {
			return fmt.Errorf("look at the pods: %w", err)
		}
		for i := range list.Items {
			t.pods[list.Items[i].Name] = &list.Items[i]
		}
		waiting := 0
		late := time.Since(began) > startPatience
		for i := range t.layout.members {
			for _, p := range t.layout.members[i].parties() {
				if p.trouble != "" || len(p.addresses) > 0 {
					continue
				}
				switch pod, ended := t.pods[p.name], ""; {
				case pod != nil && isReady(pod):
					p.addresses = podAddresses(pod)
				case pod != nil && hasEnded(pod, &ended):
					p.trouble = ended
				case late:
					p.trouble = fmt.Sprintf("not after %v: %s", startPatience, t.whyNot(ctx, pod))
				default:
					waiting++
				}
			}
		}
		if waiting == 0 {
			break
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%d pods do not run yet: %w", waiting, err)
		}
	}
	t.Say("the pods run, after %v", time.Since(began).Round(100*time.Millisecond))
	return nil
}

func isReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && len(p.Status.PodIPs) > 0
		}
	}
	return false
}

func podAddresses(p *corev1.Pod) []netip.Addr {
	var list []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if addr, err := netip.ParseAddr(ip.IP); err == nil {
			list = append(list, addr)
		}
	}
	return list
}

// hasEnded tells whether the pod's program has, and with what words.
func hasEnded(p *corev1.Pod, why *string) bool {
	for _, c := range p.Status.ContainerStatuses {
		for _, ended := range []*corev1.ContainerStateTerminated{c.State.Terminated, c.LastTerminationState.Terminated} {
			if ended == nil {
				continue
			}
			*why = fmt.Sprintf("it ended with exit code %d: %s", ended.ExitCode, strings.TrimSpace(ended.Message))
			switch {
			case strings.Contains(ended.Message, `no command "probe"`):
				*why = fmt.Sprintf("the netioctl in image %s is older than this test: upgrade the agents, or name another --image", p.Spec.Containers[0].Image)
			case strings.Contains(ended.Message, "bind: ") && p.Spec.HostNetwork:
				*why += "; --host-port chooses another one"
			}
			return true
		}
		if w := c.State.Waiting; w != nil && (w.Reason == "ErrImageNeverPull" || w.Reason == "InvalidImageName" || w.Reason == "ImagePullBackOff" || w.Reason == "CreateContainerConfigError") {
			*why = w.Reason + ": " + w.Message
			return true
		}
	}
	if p.Status.Phase == corev1.PodFailed {
		*why = p.Status.Reason + ": " + p.Status.Message
		return true
	}
	return false
}

// whyNot is why a pod does not start, as far as one can see.
func (t *test) whyNot(ctx context.Context, p *corev1.Pod) string {
	if p == nil {
		return "it is not there any more"
	}
	events, err := t.client.CoreV1().Events(t.namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + p.Name})
	if err == nil {
		for i := len(events.Items) - 1; i >= 0; i-- {
			if e := &events.Items[i]; e.Type == corev1.EventTypeWarning {
				return e.Reason + ": " + e.Message
			}
		}
	}
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			return strings.TrimSuffix(w.Reason+": "+w.Message, ": ")
		}
	}
	if len(p.Status.ContainerStatuses) == 0 {
		return "kubelet on node " + p.Spec.NodeName + " has not begun: kubectl describe node " + p.Spec.NodeName
	}
	return "phase " + string(p.Status.Phase)
}
