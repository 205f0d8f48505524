// SPDX-License-Identifier: Apache-2.0

// Package remote reaches the agents of a cluster's nodes from outside of it, with
// nothing but the API server:
//
//	netioctl ── API server ── kubelet ──exec──> netioctl relay SOCKET ── agent.sock
//	                                            (in the agent's pod)     forwarder.sock
package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
)

// The agents' pods.
const (
	agentLabel     = "app.kubernetes.io/name=netio-agent"
	agentContainer = "agent"
)

// ErrNotFound is returned for what the cluster does not have.
var ErrNotFound = errors.New("not in the cluster")

// Cluster is one whose agents can be reached. Its methods may be called concurrently.
type Cluster struct {
	config *rest.Config
	client kubernetes.Interface
	netio  client.Client
}

// Open finds the cluster of a kubeconfig, "" for the usual ones ($KUBECONFIG,
// ~/.kube/config, a pod's own), and of a context in it, "" for the current one.
func Open(kubeconfig, context string) (*Cluster, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster: %w; say --kubeconfig FILE, or set KUBECONFIG", err)
	}
	return New(config)
}

// Requests a second, unless the configuration says otherwise: client-go's 5 make a test
// of many pods wait for itself.
const (
	requestRate  = 50
	requestBurst = 100
)

// New is the cluster of a configuration.
func New(config *rest.Config) (*Cluster, error) {
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = cmp.Or(config.QPS, requestRate), cmp.Or(config.Burst, requestBurst)
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("know NetIO's kinds: %w", err)
	}
	// Built of the version that is known, not of what the server says it has: one
	// request less, and no right to ask for it is needed.
	mapper := apimeta.NewDefaultRESTMapper(nil)
	mapper.Add(v1alpha1.GroupVersion.WithKind("NetIONode"), apimeta.RESTScopeRoot)
	mapper.Add(v1alpha1.GroupVersion.WithKind("NetIOPolicy"), apimeta.RESTScopeNamespace)
	netio, err := client.New(config, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	return &Cluster{config: config, client: set, netio: netio}, nil
}

// Client is for Kubernetes' own objects.
func (c *Cluster) Client() kubernetes.Interface { return c.client }

// NetIO is for NetIONodes and NetIOPolicies.
func (c *Cluster) NetIO() client.Client { return c.netio }

// Agents are the agents' pods, by their node; where one takes over from another, one that
// runs.
func (c *Cluster) Agents(ctx context.Context) (map[string]*corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: agentLabel})
	if err != nil {
		return nil, fmt.Errorf("find the agents: %w", explain(err, "list pods"))
	}
	agents, running := map[string]*corev1.Pod{}, map[string]*corev1.Pod{}
	for i := range list.Items {
		p := &list.Items[i]
		if p.DeletionTimestamp != nil {
			continue
		}
		agents[p.Spec.NodeName] = newer(agents[p.Spec.NodeName], p)
		if p.Status.Phase == corev1.PodRunning {
			running[p.Spec.NodeName] = newer(running[p.Spec.NodeName], p)
		}
	}
	maps.Copy(agents, running)
	return agents, nil
}

// newer of two pods; the first may be nil.
func newer(a, b *corev1.Pod) *corev1.Pod {
	if a == nil || a.CreationTimestamp.Before(&b.CreationTimestamp) {
		return b
	}
	return a
}

// Nodes tells how NetIO is on all nodes, sorted by name.
func (c *Cluster) Nodes(ctx context.Context) ([]v1alpha1.NetIONode, error) {
	var list v1alpha1.NetIONodeList
	if err := c.netio.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list NetIONodes: %w", explain(err, "get and list netionodes"))
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.NetIONode) int { return strings.Compare(a.Name, b.Name) })
	return list.Items, nil
}

// NodeOfPod is the node of a pod by namespace/name, or by a name that only one has,
// with that and its addresses. Error: ErrNotFound.
func (c *Cluster) NodeOfPod(ctx context.Context, name string) (node, whole string, addresses []netip.Addr, err error) {
	namespace, short, ok := strings.Cut(name, "/")
	if !ok {
		namespace, short = metav1.NamespaceAll, name
	}
	list, err := c.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", short).String()})
	if err != nil {
		return "", "", nil, fmt.Errorf("find pod %s: %w", name, explain(err, "list pods"))
	}
	switch len(list.Items) {
	case 0:
		return "", "", nil, fmt.Errorf("pod %s: %w", name, ErrNotFound)
	case 1:
	default:
		return "", "", nil, fmt.Errorf("%d pods are called %s; write namespace/name", len(list.Items), name)
	}
	p := &list.Items[0]
	if p.Spec.NodeName == "" {
		return "", "", nil, fmt.Errorf("pod %s has no node yet: kubectl describe pod -n %s %s", name, p.Namespace, p.Name)
	}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			addresses = append(addresses, a)
		}
	}
	return p.Spec.NodeName, p.Namespace + "/" + p.Name, addresses, nil
}

// NodeOf is the node that has an address, or a pod with it; "" if none has.
func (c *Cluster) NodeOf(ctx context.Context, addr netip.Addr) (string, error) {
	node, err := c.nodeOfPodAt(ctx, addr, fields.OneTermEqualSelector("status.podIP", addr.String()))
	if node != "" || err != nil {
		return node, err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return "", err
	}
	for i := range nodes {
		for _, cidr := range nodes[i].Status.PodCIDRs {
			if p, err := netip.ParsePrefix(cidr); err == nil && p.Contains(addr) {
				return nodes[i].Name, nil
			}
		}
	}
	list, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("find who has %s: %w", addr, explain(err, "list nodes"))
	}
	for i := range list.Items {
		for _, a := range list.Items[i].Status.Addresses {
			if is, err := netip.ParseAddr(a.Address); err == nil && is == addr {
				return list.Items[i].Name, nil
			}
		}
	}
	// A pod's address of the second family, of a pool: no selector finds it.
	return c.nodeOfPodAt(ctx, addr, fields.Everything())
}

// nodeOfPodAt is the node of a pod with an address, of those that are selected; "" if
// none has it.
func (c *Cluster) nodeOfPodAt(ctx context.Context, addr netip.Addr, which fields.Selector) (string, error) {
	pods, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: which.String()})
	if err != nil {
		return "", fmt.Errorf("find who has %s: %w", addr, explain(err, "list pods"))
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Status.Phase != corev1.PodRunning && p.Status.Phase != corev1.PodPending {
			continue // it has its address no more
		}
		for _, ip := range p.Status.PodIPs {
			if is, err := netip.ParseAddr(ip.IP); err == nil && is == addr {
				return p.Spec.NodeName, nil
			}
		}
	}
	return "", nil
}

// agent is the pod of a node's agent. Error: ErrNotFound.
func (c *Cluster) agent(ctx context.Context, node string) (*corev1.Pod, error) {
	list, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: agentLabel, FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String()})
	if err != nil {
		return nil, fmt.Errorf("find the agent of node %s: %w", node, explain(err, "list pods"))
	}
	var found *corev1.Pod
	for i := range list.Items {
		p := &list.Items[i]
		if p.DeletionTimestamp != nil || p.Status.Phase != corev1.PodRunning {
			continue
		}
		// While one takes over from another, either is as good: both see the sockets.
		found = newer(found, p)
	}
	switch {
	case found != nil:
		return found, nil
	case len(list.Items) > 0:
		p := &list.Items[0]
		return nil, fmt.Errorf("the agent of node %s does not run: kubectl describe pod -n %s %s", node, p.Namespace, p.Name)
	}
	return nil, fmt.Errorf("node %s has no agent: %w; kubectl get pods -A -o wide -l %s lists those that there are", node, ErrNotFound, agentLabel)
}

// explain tells what a person lacks.
func explain(err error, right string) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("%w; it takes the right to %s", err, right)
	}
	return err
}
