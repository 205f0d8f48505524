// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// awaitAPIServer waits until it says that it is ready. Errors until then are of a
// server that does not listen yet.
func (u *up) awaitAPIServer(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		err := u.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
		return err == nil, nil
	})
}

// awaitNode waits for a condition of a node.
func (u *up) awaitNode(ctx context.Context, name string, condition func(*corev1.Node) bool) (*corev1.Node, error) {
	var found *corev1.Node
	err := poll(ctx, func() (bool, error) {
		// What fails now, with an API server that has just started, may not soon.
		n, err := u.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		found = n
		return err == nil && condition(n), nil
	})
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", name, err)
	}
	return found, nil
}

func (u *up) awaitReady(ctx context.Context) error {
	for _, n := range u.Nodes {
		if _, err := u.awaitNode(ctx, n.Name, ready); err != nil {
			return err
		}
	}
	return nil
}

func ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
