// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// denyWait is how long an answer may take that is not to come: one repetition of a SYN.
const denyWait = 1500 * time.Millisecond

// denial is a policy that forbids pods to ask other pods, on all nodes.
type denial struct {
	kind         Kind
	reason       string // of the drops
	bySender     bool   // the sender's node drops, else the receiver's
	make, remove func(context.Context) error
}

// denials tests that policies hold, and let go: each forbids all pods to ask the other
// pod of their node and of another one.
func (t *test) denials(ctx context.Context) {
	network, netio := t.newNetworkPolicy(t.prefix+"deny"), t.newNetIOPolicy(t.prefix+"deny")
	for _, d := range []denial{
		{
			kind: NetworkPolicy, reason: "policy-ingress",
			make: func(ctx context.Context) error {
				_, err := t.client.NetworkingV1().NetworkPolicies(t.namespace).Create(ctx, network, metav1.CreateOptions{})
				return err
			},
			remove: func(ctx context.Context) error {
				return t.client.NetworkingV1().NetworkPolicies(t.namespace).Delete(ctx, network.Name, metav1.DeleteOptions{})
			},
		},
		{
			kind: NetIOPolicyDeny, reason: "policy-egress", bySender: true,
			make:   func(ctx context.Context) error { return t.cluster.NetIO().Create(ctx, netio) },
			remove: func(ctx context.Context) error { return t.cluster.NetIO().Delete(ctx, netio) },
		},
	} {
		t.deleteLater(d.remove)
		t.deny(ctx, &d)
	}
}

// denied are the links that a denial forbids.
func (t *test) denied(kind Kind) []Link {
	p := planner{layout: &t.layout}
	for _, family := range []int{4, 6} {
		if !p.has(family) {
			continue
		}
		for i := range t.layout.members {
			from := t.layout.members[i].pod
			near, far := &t.layout.members[i], &t.layout.members[(i+1)%len(t.layout.members)]
			p.direct(kind, family, from, near.peer, near, probe.TCP)
			if far != near {
				p.direct(kind, family, from, far.peer, far, probe.TCP)
			}
		}
	}
	for i := range p.links {
		p.links[i].question.Wait = denyWait
	}
	return p.links
}

// deny tests one. Links that are broken without a policy tell nothing of it.
func (t *test) deny(ctx context.Context, d *denial) {
	links := t.denied(d.kind)
	results := make([]Result, len(links))
	for i := range links {
		results[i] = Result{Link: links[i], State: OK}
		if links[i].skip != "" {
			results[i].State, results[i].Why = Skipped, links[i].skip
		}
	}
	defer func() { t.results = append(t.results, results...) }()
	give := func(state State, why string, args ...any) {
		for i := range results {
			if results[i].State == OK {
				results[i].State, results[i].Why = state, fmt.Sprintf(why, args...)
			}
		}
	}
	if ctx.Err() != nil {
		give(Skipped, "the test ended before")
		return
	}
	for i, a := range t.once(ctx, links, results, t.Wait) {
		if results[i].State == OK && (a == nil || a.Error != "") {
			results[i].State, results[i].Why = Skipped, "it is broken without the policy, too"
		}
	}
	before := t.drops(ctx)
	if err := d.make(ctx); err != nil {
		give(Failed, "the policy cannot be made: %s", reason(err))
		return
	}
	after := before
	t.until(ctx, links, results, denyWait, func(a *probe.Answer) bool { return a != nil && a.Error != "" },
		// An answer may also be late, before the policy is in force.
		func() bool { after = t.drops(ctx); return d.counted(results, before, after) },
		func(r *Result) {
			r.State, r.Why = Failed, fmt.Sprintf("still answered %v after the policy was made", t.Settle)
		})
	t.seen(d, results, before, after)
	if err := d.remove(ctx); err != nil && !apierrors.IsNotFound(err) {
		give(Failed, "the policy cannot be removed: %s", reason(err))
		return
	}
	t.until(ctx, links, results, t.Wait, func(a *probe.Answer) bool { return a != nil && a.Error == "" },
		func() bool { return true },
		func(r *Result) {
			r.State, r.Why = Failed, fmt.Sprintf("no answer, %v after the policy was removed", t.Settle)
		})
	if ctx.Err() != nil {
		give(Skipped, "the test ended before")
	}
}

// once asks links whose results are OK so far; nil for the others.
func (t *test) once(ctx context.Context, links []Link, results []Result, wait time.Duration) []*probe.Answer {
	answers := make([]*probe.Answer, len(links))
	by := map[*party][]probe.Question{}
	for i := range links {
		if results[i].State != OK {
			continue
		}
		q := links[i].question
		q.ID, q.Wait = i, wait
		by[links[i].from] = append(by[links[i].from], q)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	for from, questions := range by {
		wg.Go(func() {
			got, _ := t.ask(ctx, from, questions) // an answer that is missing says enough
			mu.Lock()
			defer mu.Unlock()
			for i, a := range got {
				answers[i] = a
			}
		})
	}
	wg.Wait()
	return answers
}

// until asks until all answers are right and enough, which is asked then, holds, or Settle
// is over: then wrong is called for those that are not right.
func (t *test) until(ctx context.Context, links []Link, results []Result, wait time.Duration, right func(*probe.Answer) bool, enough func() bool, wrong func(*Result)) {
	end := time.Now().Add(t.Settle)
	for {
		answers := t.once(ctx, links, results, wait)
		var not []int
		for i, a := range answers {
			if results[i].State == OK && !right(a) {
				not = append(not, i)
			}
		}
		if ctx.Err() != nil || len(not) == 0 && enough() {
			return
		}
		if time.Now().After(end) {
			for _, i := range not {
				wrong(&results[i])
			}
			return
		}
		if pause(ctx) != nil {
			return
		}
	}
}

// dropped is what a node's forwarder has dropped, by reason.
type dropped struct {
	count map[string]uint64
	err   error
}

// drops of all nodes.
func (t *test) drops(ctx context.Context) map[string]dropped {
	var mu sync.Mutex
	var wg sync.WaitGroup
	all := map[string]dropped{}
	for i := range t.layout.members {
		name := t.layout.members[i].name
		wg.Go(func() {
			count, err := t.observer.Drops(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			all[name] = dropped{count, err}
		})
	}
	wg.Wait()
	return all
}

// enforcer is the node that has to drop what a link sends.
func (d *denial) enforcer(r *Result) string {
	if d.bySender {
		return r.From.Node
	}
	return r.To.Node
}

// counted tells whether all drops are seen that can be.
func (d *denial) counted(results []Result, before, after map[string]dropped) bool {
	for i := range results {
		was, is := before[d.enforcer(&results[i])], after[d.enforcer(&results[i])]
		if results[i].State == OK && was.err == nil && is.err == nil && is.count[d.reason] <= was.count[d.reason] {
			return false
		}
	}
	return true
}

// seen looks for the drops of denied links where they have to be. Where forwarders cannot
// be asked, a note says so.
func (t *test) seen(d *denial, results []Result, before, after map[string]dropped) {
	var unseen []string
	for i := range results {
		r := &results[i]
		if r.State != OK {
			continue
		}
		node := d.enforcer(r)
		was, is := before[node], after[node]
		switch {
		case was.err != nil || is.err != nil:
			r.Why = "no answer; whether the policy was why could not be seen"
			if err := firstError(was.err, is.err); !slices.Contains(unseen, err) {
				unseen = append(unseen, err)
			}
		case is.count[d.reason] <= was.count[d.reason]:
			r.State, r.Why = Failed, fmt.Sprintf("no answer, but the forwarder on %s has dropped nothing as %s: something else is in the way", node, d.reason)
		default:
			r.Why = fmt.Sprintf("dropped on %s: %s", node, d.reason)
		}
	}
	if len(unseen) > 0 {
		t.notes = append(t.notes, fmt.Sprintf("%s: that packets were dropped for the policy was not looked at: %s", d.kind, strings.Join(unseen, "; ")))
	}
}

func firstError(errs ...error) string {
	for _, err := range errs {
		if err != nil {
			return err.Error()
		}
	}
	return ""
}
