// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/agent/kube"
	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/events"
)

const (
	// lookEvery is how often the node's state is compared with what was said of it.
	lookEvery = 2 * time.Second
	// conflictPause is how soon it is said again where another one wrote meanwhile.
	conflictPause = 50 * time.Millisecond
	// atMost is how often something is said, however much changes.
	atMost = time.Second
	// heartbeat is how often it is said again.
	heartbeat = time.Minute
	// maxMessage bounds a condition's message, in bytes (metav1.Condition: 32768);
	// people read the first problems.
	maxMessage = 2048
	// maxPolicyMessage bounds that of one of many policies.
	maxPolicyMessage = 512
)

// Publish implements node.Source: it keeps the node's NetIONode.
func (s *Source) Publish(ctx context.Context, look func() node.Report, wake, changed <-chan struct{}) {
	p := &publisher{name: s.name}
	for {
		report := look()
		p.tell(ctx, s, &report)
		err := p.publish(ctx, s, report)
		next := lookEvery
		switch {
		case apierrors.IsConflict(err): // the operator wrote meanwhile
			next = conflictPause
		case err != nil && ctx.Err() == nil:
			p.complain(err)
		default:
			p.complained = ""
		}
		if !awaitNews(ctx, next, wake, changed) {
			return
		}
	}
}

// awaitNews waits until there is something to say, and tells whether ctx goes on: next, when
// it is woken, or when something changed and the last time was a while ago.
func awaitNews(ctx context.Context, next time.Duration, wake, changed <-chan struct{}) bool {
	timer, soonest := time.After(next), time.After(min(next, atMost))
	var listen <-chan struct{} // nil until then
	for {
		select {
		case <-ctx.Done():
			return false
		case <-wake:
			return true
		case <-timer:
			return true
		case <-soonest:
			listen = changed
		case <-listen:
			return true
		}
	}
}

// publisher writes one NetIONode.
type publisher struct {
	name   string
	client client.Client
	said   *v1alpha1.NetIONodeStatus // nil before the first time
	specs  [3]string                 // of the policies, with what was said
	when   time.Time
	news   news
	events *events.Recorder // nil before the first Event
	// complained is the last error, to be logged once. It is no problem of the node's:
	// the API server is away, which is said elsewhere, or RBAC is wrong.
	complained string
}

func (p *publisher) complain(err error) {
	if text := err.Error(); text != p.complained {
		p.complained = text
		slog.Warn("cannot write the NetIONode of this node; it is tried again", "error", err)
	}
}

func (p *publisher) publish(ctx context.Context, s *Source, r node.Report) error {
	status, specs := statusOf(r), specsOf(r)
	if p.said != nil {
		if status.Enforcement == nil {
			status.Enforcement = p.said.Enforcement
		}
		status.Conditions = keepTimes(p.said.Conditions, status.Conditions)
		if !r.PoolsPending && time.Since(p.when) < heartbeat && specs == p.specs && same(p.said, status) {
			return nil
		}
	}
	if p.client == nil {
		scheme := runtime.NewScheme()
		for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
			if err := add(scheme); err != nil {
				return fmt.Errorf("make scheme: %w", err)
			}
		}
		c, err := client.New(s.config, client.Options{Scheme: scheme})
		if err != nil {
			return fmt.Errorf("connect to the apiserver: %w", err)
		}
		p.client = c
	}
	object, err := p.object(ctx, s)
	if err != nil {
		return err
	}
	if p.said == nil { // an earlier agent's conditions began when they began
		status.Conditions = keepTimes(object.Status.Conditions, status.Conditions)
		if status.Enforcement == nil { // and what it had put in force is in force
			status.Enforcement = object.Status.Enforcement
		}
	}
	status.LastHeartbeatTime = metav1.Now()
	object.Status = *status
	if err := p.client.Status().Update(ctx, object); err != nil {
		return fmt.Errorf("write status of NetIONode %s: %w", p.name, err)
	}
	p.said, p.specs, p.when = status, specs, time.Now()
	if r.Written != nil {
		r.Written(kube.BlocksOf(object))
	}
	return nil
}

// object is the NetIONode, which is made if it is not there. It belongs to the Node.
func (p *publisher) object(ctx context.Context, s *Source) (*v1alpha1.NetIONode, error) {
	n := &v1alpha1.NetIONode{}
	err := p.client.Get(ctx, client.ObjectKey{Name: p.name}, n)
	view, _, _ := s.latest()
	self := view.Node(p.name)
	switch {
	case err == nil && (self == nil || len(n.OwnerReferences) == 1 && n.OwnerReferences[0].UID == types.UID(self.UID)):
		return n, nil
	case err != nil && !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("read NetIONode %s: %w", p.name, err)
	case self == nil:
		return nil, fmt.Errorf("the cluster has no node %s", p.name)
	}
	owner := []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: p.name, UID: types.UID(self.UID)}}
	if err == nil { // that of a Node which was deleted and made anew
		before := n.DeepCopy()
		n.OwnerReferences = owner
		if err := p.client.Patch(ctx, n, client.MergeFrom(before)); err != nil {
			return nil, fmt.Errorf("write owner of NetIONode %s: %w", p.name, err)
		}
		return n, nil
	}
	n = &v1alpha1.NetIONode{ObjectMeta: metav1.ObjectMeta{Name: p.name, OwnerReferences: owner}}
	if err := p.client.Create(ctx, n); err != nil {
		return nil, fmt.Errorf("make NetIONode %s: %w", p.name, err)
	}
	return n, nil
}

// statusOf is what there is to say of a node.
func statusOf(r node.Report) *v1alpha1.NetIONodeStatus {
	status := &v1alpha1.NetIONodeStatus{
		Version: r.Version, Device: r.Device, Endpoints: int32(r.Endpoints), Policies: int32(r.Policies), ProblemCount: int32(len(r.Problems)),
	}
	for _, prefix := range r.PodCIDRs {
		status.PodCIDRs = append(status.PodCIDRs, prefix.String())
	}
	status.Pools = poolsOf(r)
	ready := metav1.Condition{Type: v1alpha1.NodeReady, Status: metav1.ConditionTrue, Reason: "PodsHaveNetwork", Message: "pods can be added, and have their network"}
	if r.NotReady != nil {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, "NotReady", cut(r.NotReady.Error())
	}
	degraded := metav1.Condition{Type: v1alpha1.NodeDegraded, Status: metav1.ConditionFalse, Reason: "NoProblems", Message: "nothing is wrong"}
	if len(r.Problems) > 0 {
		degraded.Status, degraded.Reason, degraded.Message = metav1.ConditionTrue, "Problems", describe(r.Problems)
	}
	status.Conditions = []metav1.Condition{ready, degraded}
	status.KernelModule = moduleOf(r)
	if c := moduleCondition(r); c != nil {
		status.Conditions = append(status.Conditions, *c)
	}
	status.Enforcement = enforcementOf(r)
	return status
}

// specsOf are the versions at which policies last said something new, of those that
// are in force. What the operator writes into their status is not worth a word.
func specsOf(r node.Report) [3]string {
	return [3]string{r.InForce.Policies.Spec, r.InForce.ClusterPolicies.Spec, r.InForce.ClusterNetworkPolicies.Spec}
}

// enforcementOf is what there is to say of policies, nil for nothing.
func enforcementOf(r node.Report) *v1alpha1.NodeEnforcement {
	if !r.Joined {
		return nil
	}
	e := &v1alpha1.NodeEnforcement{
		NetIOPolicies: r.InForce.Policies.Seen, NetIOClusterPolicies: r.InForce.ClusterPolicies.Seen,
		ClusterNetworkPolicies: r.InForce.ClusterNetworkPolicies.Seen,
	}
	if r.Refused != nil {
		e.Refused = cut(r.Refused.Error())
	}
	told := r.PolicyProblems[:min(len(r.PolicyProblems), v1alpha1.MaxPolicyProblems)]
	e.ProblemsLeftOut = int32(len(r.PolicyProblems) - len(told))
	for _, p := range told {
		p.Message = cutTo(p.Message, maxPolicyMessage)
		e.Problems = append(e.Problems, v1alpha1.PolicyProblem(p))
	}
	return e
}

// describe lists problems, as many as a message holds.
func describe(problems []problem.Problem) string {
	var b strings.Builder
	for i, p := range problems {
		line := p.Source + ": " + p.Message
		if more := fmt.Sprintf("\n... and %d more; netioctl status on the node lists them", len(problems)-i); b.Len()+len(line)+len(more) > maxMessage {
			if i == 0 {
				b.WriteString(cut(line))
				continue
			}
			b.WriteString(more)
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(line)
	}
	return b.String()
}

func cut(text string) string { return cutTo(text, maxMessage/2) }

func cutTo(text string, most int) string {
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// keepTimes gives conditions the time at which they last changed.
func keepTimes(was, now []metav1.Condition) []metav1.Condition {
	for i := range now {
		now[i].LastTransitionTime = metav1.Now()
		if old := apimeta.FindStatusCondition(was, now[i].Type); old != nil && old.Status == now[i].Status {
			now[i].LastTransitionTime = old.LastTransitionTime
		}
	}
	return now
}

// same compares all but the heartbeat and versions; see specsOf.
func same(a, b *v1alpha1.NetIONodeStatus) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	for _, s := range []*v1alpha1.NetIONodeStatus{x, y} {
		s.LastHeartbeatTime = metav1.Time{}
		if e := s.Enforcement; e != nil {
			e.NetIOPolicies, e.NetIOClusterPolicies, e.ClusterNetworkPolicies = "", "", ""
		}
	}
	return equality.Semantic.DeepEqual(x, y)
}
