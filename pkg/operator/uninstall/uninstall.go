// SPDX-License-Identifier: Apache-2.0

// Package uninstall takes NetIO from a cluster, so far as deleting its objects does not:
//
//	operator to 0 ──> agents end ──> a pod on each node: netio-agent uninstall ──> taints, NetIONodes
//
// It is what `helm uninstall` waits for before it deletes the objects of the chart, the
// NetIOCluster among them. It may be run again and again: all that it goes by is there
// until it has ended well. Nothing in the cluster waits for it by a finalizer.
//
// A node that is down does not hold it up. Its NetIONode stays, as a record, and the
// error ErrLeft says what to do when it is back.
package uninstall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/operator"
	"netio.dev/netio/pkg/operator/install"
)

var (
	// ErrNotDone: nodes that are up could not be freed of NetIO. It can be tried again.
	ErrNotDone = errors.New("NetIO is still on nodes")
	// ErrLeft: all is done but on nodes that are down.
	ErrLeft = errors.New("nodes are down, and have NetIO on them")
)

// testPod is what helm test runs.
const testPod = "netio-test"

// lookEvery is the time between two looks at what goes on.
const lookEvery = time.Second

// Options of Run.
type Options struct {
	// Client must read what is, not what was: without a cache.
	Client client.Client
	// Namespace of operator and agents.
	Namespace string
	// Cluster is gone by if the cluster has no NetIOCluster any more.
	Cluster *v1alpha1.NetIOCluster
	// Patience is how long agents may take to end, and then nodes to be freed.
	Patience time.Duration
}

// run is one that is under way.
type run struct {
	Options
	cluster *v1alpha1.NetIOCluster
}

// Run does it. Errors: ErrNotDone, ErrLeft, and those of the API server.
func Run(ctx context.Context, o Options) error {
	r := &run{Options: o, cluster: &v1alpha1.NetIOCluster{}}
	switch err := o.Client.Get(ctx, client.ObjectKey{Name: v1alpha1.ClusterName}, r.cluster); {
	case apierrors.IsNotFound(err):
		slog.Info("there is no NetIOCluster any more; going by the chart's values")
		r.cluster = o.Cluster
	case err != nil:
		return fmt.Errorf("read NetIOCluster: %w", err)
	}
	if err := r.stopOperator(ctx); err != nil {
		return err
	}
	nodes, err := r.nodes(ctx)
	if err != nil {
		return err
	}
	if err := r.stopAgents(ctx); err != nil {
		return err
	}
	left, err := r.free(ctx, nodes)
	if err != nil {
		return err
	}
	return r.forget(ctx, left)
}

// stopOperator keeps the operator from making again what is deleted: also one on a node
// that is down, which may run all the same, loses the right to. That is undone by `helm
// upgrade` and `helm rollback`.
func (r *run) stopOperator(ctx context.Context) error {
	right := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: operator.DeploymentName}}
	if err := client.IgnoreNotFound(r.Client.Delete(ctx, right)); err != nil {
		return fmt.Errorf("take the operator's rights away: %w", err)
	}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: operator.DeploymentName}}
	err := r.Client.Patch(ctx, d, client.RawPatch(client.Merge.Type(), []byte(`{"spec":{"replicas":0}}`)))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("stop the operator: %w", err)
	}
	return r.await(ctx, operator.DeploymentName)
}

func (r *run) stopAgents(ctx context.Context) error {
	d := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: install.AgentName}}
	if err := client.IgnoreNotFound(r.Client.Delete(ctx, d, client.PropagationPolicy(metav1.DeletePropagationBackground))); err != nil {
		return fmt.Errorf("stop the agents: %w", err)
	}
	return r.await(ctx, install.AgentName)
}

// await waits until no pod of a name is left, but for those on nodes that are down.
func (r *run) await(ctx context.Context, name string) error {
	slog.Info("waiting for pods to end", "name", name)
	var running []string
	err := r.poll(ctx, func() (bool, error) {
		pods, nodes, err := r.look(ctx, name)
		running = nil
		for _, p := range pods {
			if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue // as that of helm test, which has the chart's labels
			}
			if n := nodes[p.Spec.NodeName]; p.Spec.NodeName != "" && n != nil && !isDown(n) {
				running = append(running, p.Name+" on "+p.Spec.NodeName)
			}
		}
		return len(running) == 0, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: after %v these pods still run: %s; look at kubelet on their nodes, and call it again", ErrNotDone, r.Patience, strings.Join(running, ", "))
	}
	return err
}

// look reads the pods of a name, and all nodes.
func (r *run) look(ctx context.Context, name string) ([]corev1.Pod, map[string]*corev1.Node, error) {
	var pods corev1.PodList
	var nodes corev1.NodeList
	if err := r.Client.List(ctx, &pods, client.InNamespace(r.Namespace), client.MatchingLabels{nameLabel: name}); err != nil {
		return nil, nil, fmt.Errorf("list pods: %w", err)
	}
	if err := r.Client.List(ctx, &nodes); err != nil {
		return nil, nil, fmt.Errorf("list nodes: %w", err)
	}
	byName := map[string]*corev1.Node{}
	for i := range nodes.Items {
		byName[nodes.Items[i].Name] = &nodes.Items[i]
	}
	return pods.Items, byName, nil
}

// poll looks until it is done or the patience ends: context.DeadlineExceeded. An API
// server that fails meanwhile is asked again.
func (r *run) poll(ctx context.Context, look func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	for {
		done, err := look()
		if done && err == nil {
			return nil
		}
		if err != nil {
			slog.Warn("trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(lookEvery):
		}
	}
}

// nodes are those that NetIO is or was on: agents have made NetIONodes, or are there,
// or an uninstall that did not end well has begun with them.
func (r *run) nodes(ctx context.Context) ([]string, error) {
	var states v1alpha1.NetIONodeList
	if err := r.Client.List(ctx, &states); err != nil {
		return nil, fmt.Errorf("list NetIONodes: %w", err)
	}
	there := map[string]bool{}
	for _, s := range states.Items {
		there[s.Name] = true
	}
	var exist map[string]*corev1.Node
	for _, name := range []string{install.AgentName, podName} {
		pods, nodes, err := r.look(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, p := range pods {
			there[p.Spec.NodeName] = true
		}
		exist = nodes
	}
	var names []string
	for name := range there {
		if exist[name] != nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// free has nodes freed of NetIO, and returns those that are down.
func (r *run) free(ctx context.Context, names []string) (left []string, err error) {
	// Those of an earlier one have done, or failed, what they could.
	if err := r.deletePods(ctx); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := r.Client.Create(ctx, pod(r.cluster, r.Namespace, name)); err != nil {
			return nil, fmt.Errorf("free node %s of NetIO: %w", name, err)
		}
	}
	slog.Info("freeing nodes of NetIO", "nodes", len(names))
	var waiting []string
	err = r.poll(ctx, func() (bool, error) {
		pods, nodes, err := r.look(ctx, podName)
		if err != nil {
			return false, err
		}
		left, waiting = nil, nil
		byNode := map[string]*corev1.Pod{}
		for i := range pods {
			byNode[pods[i].Spec.NodeName] = &pods[i]
		}
		for _, name := range names {
			switch s, why := judge(nodes[name], byNode[name]); s {
			case down:
				left = append(left, name)
			case busy:
				waiting = append(waiting, name+": "+why)
			}
		}
		return len(waiting) == 0, nil
	})
	if errors.Is(err, context.DeadlineExceeded) && len(waiting) > 0 {
		// The pods stay, for people to look at.
		return nil, fmt.Errorf("%w, after %v:\n%s\nput that right and call it again, or leave the nodes as they are with helm uninstall --no-hooks", ErrNotDone, r.Patience, strings.Join(waiting, "\n"))
	}
	if err != nil {
		return nil, err
	}
	return left, r.deletePods(ctx)
}

// deletePods at once: they have ended, or are on nodes that are down, where they must
// not start once the nodes are back, and perhaps NetIO too.
func (r *run) deletePods(ctx context.Context) error {
	err := r.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(r.Namespace), client.MatchingLabels{nameLabel: podName}, client.GracePeriodSeconds(0))
	if err != nil {
		return fmt.Errorf("delete pods %s: %w", podName, err)
	}
	return nil
}

// forget removes what tells of NetIO on nodes, but on those that it is left on.
func (r *run) forget(ctx context.Context, left []string) error {
	var states v1alpha1.NetIONodeList
	var nodes corev1.NodeList
	if err := errors.Join(r.Client.List(ctx, &states), r.Client.List(ctx, &nodes)); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	for i := range states.Items {
		if s := &states.Items[i]; !slices.Contains(left, s.Name) {
			if err := client.IgnoreNotFound(r.Client.Delete(ctx, s)); err != nil {
				return fmt.Errorf("delete NetIONode: %w", err)
			}
		}
	}
	// helm test leaves its pod for its log, and helm uninstall knows nothing of it.
	if err := r.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(r.Namespace), client.MatchingFields{"metadata.name": testPod}); err != nil {
		return fmt.Errorf("delete the pod of helm test: %w", err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: operator.LeaseName}}
	if err := client.IgnoreNotFound(r.Client.Delete(ctx, lease)); err != nil {
		return fmt.Errorf("delete the operator's Lease: %w", err)
	}
	for i := range nodes.Items {
		if err := r.untaint(ctx, nodes.Items[i].Name); err != nil {
			return err
		}
		if n := &nodes.Items[i]; slices.Contains(left, n.Name) {
			if err := r.Client.Create(ctx, event(r.cluster, n)); err != nil {
				return fmt.Errorf("tell of node %s: %w", n.Name, err)
			}
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("%w: %s; when one is back: %s", ErrLeft, strings.Join(left, ", "), cure(r.cluster, "NODE"))
	}
	return nil
}

// untaint takes the taint from a node that nobody will call ready any more.
func (r *run) untaint(ctx context.Context, name string) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		n := &corev1.Node{}
		if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, n); err != nil {
			return client.IgnoreNotFound(err)
		}
		was := n.DeepCopy()
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.NotReadyTaint })
		if len(n.Spec.Taints) == len(was.Spec.Taints) {
			return nil
		}
		return client.IgnoreNotFound(r.Client.Patch(ctx, n, client.MergeFromWithOptions(was, client.MergeFromWithOptimisticLock{})))
	})
	if err != nil {
		return fmt.Errorf("take the taint %s from node %s: %w", v1alpha1.NotReadyTaint, name, err)
	}
	return nil
}
