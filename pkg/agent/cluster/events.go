// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/rest"
	clientevents "k8s.io/client-go/tools/events"

	"netio.dev/netio/pkg/agent/node"
	"netio.dev/netio/pkg/agent/problem"
	"netio.dev/netio/pkg/events"
)

// eventPatience is how long something must be so before there is an Event of it:
// starts and restarts take less, and need nobody.
const eventPatience = 10 * time.Second

// news finds what is worth an Event in what is seen of a node, time after time.
type news struct {
	// since is when it was first not ready, or degraded, zero if it is not; told is
	// that there was an Event of it.
	notReady, degraded struct {
		since time.Time
		told  bool
	}
	problems string // that were told
	// forwarder is when it was started, 0 while that is not known.
	forwarder int64
}

type event struct {
	reason events.Reason
	action string
	note   string
}

// look returns the Events that a report makes.
func (n *news) look(r *node.Report, now time.Time) []event {
	var all []event
	if r.ForwarderStarted != 0 {
		if n.forwarder != 0 && n.forwarder != r.ForwarderStarted {
			all = append(all, event{events.ForwarderRestarted, "Restart", fmt.Sprintf("the forwarder was started anew at %s; its log on the node says why the last one ended", time.Unix(0, r.ForwarderStarted).UTC().Format(time.RFC3339))})
		}
		n.forwarder = r.ForwarderStarted
	}

	switch {
	case r.NotReady == nil:
		if n.notReady.told {
			all = append(all, event{events.NodeReady, "Watch", "pods can be added, and have their network"})
		}
		n.notReady.since, n.notReady.told = time.Time{}, false
	case n.notReady.since.IsZero():
		n.notReady.since = now
	case !n.notReady.told && now.Sub(n.notReady.since) >= eventPatience:
		n.notReady.told = true
		all = append(all, event{events.NodeNotReady, "Watch", r.NotReady.Error()})
	}

	switch what := describe(ofNode(r.Problems)); {
	case what == "":
		if n.degraded.told {
			all = append(all, event{events.NodeRecovered, "Watch", "nothing is wrong any more"})
		}
		n.degraded.since, n.degraded.told, n.problems = time.Time{}, false, ""
	case n.degraded.since.IsZero():
		n.degraded.since = now
	case now.Sub(n.degraded.since) >= eventPatience && (!n.degraded.told || what != n.problems):
		// One that comes or goes waits as long as the first one did.
		n.degraded.since, n.degraded.told, n.problems = now, true, what
		all = append(all, event{events.NodeDegraded, "Watch", strings.ReplaceAll(what, "\n", "; ")})
	}
	return all
}

// ofNode are the problems of the node itself: those of policies are the same on all
// nodes, and the operator tells of them, once.
func ofNode(problems []problem.Problem) []problem.Problem {
	return slices.DeleteFunc(slices.Clone(problems), func(p problem.Problem) bool { return strings.HasPrefix(p.Source, node.PolicySource) })
}

// recorder makes the recorder of the agent's Events, which works until ctx ends.
func recorder(ctx context.Context, config *rest.Config) (*events.Recorder, error) {
	c, err := eventsclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("connect to the apiserver: %w", err)
	}
	b := clientevents.NewBroadcaster(&clientevents.EventSinkImpl{Interface: c})
	if err := b.StartRecordingToSinkWithContext(ctx); err != nil {
		return nil, fmt.Errorf("write Events: %w", err)
	}
	context.AfterFunc(ctx, b.Shutdown)
	return events.New(b.NewRecorder(scheme.Scheme, "netio-agent")), nil
}

// tell writes the Events that a report makes, on the Node.
func (p *publisher) tell(ctx context.Context, s *Source, r *node.Report) {
	all := p.news.look(r, time.Now())
	if len(all) == 0 {
		return
	}
	if p.events == nil {
		made, err := recorder(ctx, s.config)
		if err != nil {
			p.complain(err)
			return
		}
		p.events = made
	}
	regarding := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: p.name}}
	view, _, _ := s.latest()
	if self := view.Node(p.name); self != nil {
		regarding.UID = types.UID(self.UID)
	}
	for _, e := range all {
		p.events.Tell(regarding, e.reason, e.action, e.note)
	}
}
