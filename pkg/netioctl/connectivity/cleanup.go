// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cleanUp takes away what was made, and waits until it is gone. It does its best with all
// of it; the error says what is left, and how to remove it.
func (t *test) cleanUp(ctx context.Context) error {
	if len(t.undo) == 0 {
		return nil
	}
	if t.Keep {
		t.Say("all is left as it is; to remove it: %s", removal(t.namespace, t.own, t.run))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupPatience)
	defer cancel()
	t.Say("cleaning up")
	var errs []error
	for _, undo := range slices.Backward(t.undo) {
		if err := undo(ctx); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		errs = append(errs, t.awaitGone(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up: %w; to remove what is left: %s", err, removal(t.namespace, t.own, t.run))
	}
	return nil
}

// removal is the command that removes all of a test.
func removal(namespace string, own bool, run string) string {
	if own {
		return "kubectl delete namespace " + namespace
	}
	return fmt.Sprintf("kubectl delete -n %s pods,services,networkpolicies,netiopolicies -l %s=%s", namespace, runLabel, run)
}

// awaitGone waits until the namespace, or in one that stays the pods, are gone.
func (t *test) awaitGone(ctx context.Context) error {
	for {
		gone, err := t.gone(ctx)
		if err != nil || gone {
			return err
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("it is still being deleted after %v", cleanupPatience)
		}
	}
}

func (t *test) gone(ctx context.Context) (bool, error) {
	if t.own {
		_, err := t.client.CoreV1().Namespaces().Get(ctx, t.namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	}
	list, err := t.client.CoreV1().Pods(t.namespace).List(ctx, metav1.ListOptions{LabelSelector: runLabel + "=" + t.run})
	if err != nil {
		return false, err
	}
	return len(list.Items) == 0, nil
}

// findLeftOvers notes tests that were ended before they could clean up, or that still run.
func (t *test) findLeftOvers(ctx context.Context) {
	left := map[string]string{} // how to remove it, by what it is
	if list, err := t.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: nameLabel + "=" + appName}); err == nil {
		for i := range list.Items {
			ns := &list.Items[i]
			if ns.Status.Phase != corev1.NamespaceTerminating {
				left["namespace "+ns.Name] = removal(ns.Name, true, "")
			}
		}
	}
	if list, err := t.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: nameLabel + "=" + appName}); err == nil {
		for i := range list.Items {
			p := &list.Items[i]
			if run := p.Labels[runLabel]; p.DeletionTimestamp == nil && !strings.HasSuffix(p.Namespace, "-"+run) {
				left["pods in namespace "+p.Namespace] = removal(p.Namespace, false, run)
			}
		}
	}
	for what, how := range left {
		t.notes = append(t.notes, fmt.Sprintf("another test has left something, or runs: %s; to remove it: %s", what, how))
	}
	slices.Sort(t.notes)
}
