// SPDX-License-Identifier: Apache-2.0

// Package connectivity tests a cluster's network with pods of its own: it makes them on
// every node, has them ask each other, and takes them away again.
//
//	nodes ──> members: pod, other pod, pod in the node's network, service
//	            │ plan: who asks whom, by what           (a pure function)
//	            v
//	          links ──exec──> netioctl probe ask ──the network──> netioctl probe serve
//	            │
//	            v
//	          results ──> report, with what the forwarders say of broken links
//
// All pods run netioctl of the agents' image, which the nodes have.
package connectivity

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
	"netio.dev/netio/pkg/netioctl/remote"
)

// Options of a test.
type Options struct {
	// Nodes to test; none: at most MaxNodes of all, 0 for all.
	Nodes    []string
	MaxNodes int
	// Namespace that is there; "": one is made for the test.
	Namespace string
	// Image with netioctl; "": that of each node's agent.
	Image string
	// World is ADDRESS:PORT outside of the cluster, "" for none.
	World string
	// HostPort is the TCP and UDP port of nodes that is tested.
	HostPort uint16
	// Wait is how long an answer may take, Settle how long services and policies may
	// take to come to all nodes.
	Wait, Settle time.Duration
	// Keep leaves all that was made.
	Keep bool
	// Say tells how it goes on.
	Say func(format string, args ...any)
}

// Observer asks forwarders. Its methods may be called concurrently.
type Observer interface {
	// Trace says in words what becomes of a packet of a TCP, UDP or ICMP (echo)
	// connection, and whether a forwarder drops it. pod is namespace/name, "" for the
	// node itself, with address from.
	Trace(ctx context.Context, node, pod string, from netip.Addr, to netip.AddrPort, by probe.How) (text string, dropped bool, err error)
	// Drops are how many packets a node's forwarder has dropped, by reason.
	Drops(ctx context.Context, node string) (map[string]uint64, error)
}

// bounds of single steps.
const (
	startPatience   = 90 * time.Second
	cleanupPatience = 90 * time.Second
	lookEvery       = 250 * time.Millisecond
)

// test is one under way.
type test struct {
	Options
	cluster   *remote.Cluster
	client    kubernetes.Interface
	observer  Observer
	run       string // its name
	namespace string
	own       bool   // the namespace
	prefix    string // of names
	layout    layout
	pods      map[string]*corev1.Pod // by the names of parties
	undo      []func(context.Context) error
	results   []Result
	notes     []string

	pullSecrets []string
}

// Run tests the cluster. An error means that there is no report, or, if there is one,
// that it is not whole; what was made is taken away in either case. If ctx ends, that is
// done all the same.
func Run(ctx context.Context, cluster *remote.Cluster, observer Observer, o Options) (*Report, error) {
	t := &test{Options: o, cluster: cluster, client: cluster.Client(), observer: observer, run: rand.String(5), pods: map[string]*corev1.Pod{}}
	t.namespace, t.own = o.Namespace, o.Namespace == ""
	if t.own {
		t.namespace = "netio-connectivity-" + t.run
	} else {
		t.prefix = "connectivity-" + t.run + "-"
	}
	if err := t.prepare(ctx); err != nil {
		return nil, err
	}
	planned, err := t.carryOut(ctx)
	cleanErr := t.cleanUp(context.WithoutCancel(ctx))
	if cleanErr != nil && ctx.Err() != nil {
		t.Say("%v", cleanErr) // else what is said last is that the test was ended
	}
	if !planned {
		return nil, errors.Join(err, cleanErr)
	}
	report := t.report()
	if err != nil {
		report.Ended = err.Error()
	}
	return report, errors.Join(err, cleanErr)
}

// prepare looks whether the test can be, and makes nothing.
func (t *test) prepare(ctx context.Context) error {
	if err := checkRights(ctx, t.client, t.Namespace); err != nil {
		return err
	}
	if !t.own {
		ns, err := t.client.CoreV1().Namespaces().Get(ctx, t.namespace, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return fmt.Errorf("there is no namespace %s; without --namespace the test makes one", t.namespace)
		case apierrors.IsForbidden(err): // whether it is there, the first pod will tell
		case err != nil:
			return fmt.Errorf("look at namespace %s: %w", t.namespace, err)
		case ns.Status.Phase == corev1.NamespaceTerminating:
			return fmt.Errorf("namespace %s is being deleted, and takes nothing new: wait, or choose another --namespace", t.namespace)
		}
	}
	all, err := t.candidates(ctx)
	if err != nil {
		return err
	}
	chosen, notes, err := choose(all, t.Nodes, t.MaxNodes)
	if err != nil {
		return err
	}
	t.notes = append(t.notes, notes...)
	t.lay(chosen)
	t.findLeftOvers(ctx)
	return nil
}

// lay is the layout on nodes whose agents run; others' are results already.
func (t *test) lay(chosen []candidate) {
	t.layout = layout{headless: t.prefix + "all", port: podPort, hostPort: t.HostPort, world: t.World, wait: t.Wait, settle: t.Settle}
	for _, c := range chosen {
		r := Result{Link: Link{Kind: AgentsRun, From: End{What: Node, Node: c.node.Name}}, State: OK}
		if !c.runs() {
			r.State, r.Why = Failed, fmt.Sprintf("its agent does not run, and it is not tested: kubectl describe pod -n %s %s", c.agent.Namespace, c.agent.Name)
			t.results = append(t.results, r)
			continue
		}
		t.results = append(t.results, r)
		m := member{name: c.node.Name, addresses: addressesOf(c.node), service: fmt.Sprintf("%son-%d", t.prefix, len(t.layout.members)+1)}
		m.image, m.pullPolicy = imageOf(c.agent)
		if t.Image != "" {
			m.image, m.pullPolicy = t.Image, corev1.PullIfNotPresent
		}
		for _, secret := range c.agent.Spec.ImagePullSecrets {
			if c.agent.Namespace == t.namespace && len(t.layout.members) == 0 {
				t.pullSecrets = append(t.pullSecrets, secret.Name)
			}
		}
		for at, r := range map[**party]role{&m.pod: rolePod, &m.peer: rolePeer, &m.host: roleHost} {
			*at = &party{name: fmt.Sprintf("%s%s-%d", t.prefix, r, len(t.layout.members)+1), node: m.name, role: r}
		}
		t.layout.members = append(t.layout.members, m)
	}
}

// carryOut makes what is needed and tests. What could not be tested any more is among the
// results, once it is planned.
func (t *test) carryOut(ctx context.Context) (planned bool, err error) {
	if len(t.layout.members) == 0 {
		return true, nil
	}
	if err := t.start(ctx); err != nil {
		return false, err
	}
	links, notes := plan(&t.layout)
	t.notes = append(t.notes, notes...)
	t.Say("testing %d links", len(links))
	t.askAll(ctx, links)
	t.Say("testing policies")
	t.denials(ctx)
	t.trace(ctx)
	return true, context.Cause(ctx)
}
