// SPDX-License-Identifier: Apache-2.0

// Package events has the Events that NetIO writes into a cluster, for people who can
// do something about them: all of them are listed here, and explained in
// docs/kubernetes.md.
package events

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
)

// Reason is an Event's.
type Reason string

// Reasons of the agents, on their Node.
const (
	NodeNotReady       Reason = "NetIONotReady"
	NodeReady          Reason = "NetIOReady"
	NodeDegraded       Reason = "NetIODegraded"
	NodeRecovered      Reason = "NetIORecovered"
	ForwarderRestarted Reason = "NetIOForwarderRestarted"
)

// Reasons of the operator, on a NetIONode and on policies.
const (
	NodeSilent          Reason = "NodeSilent"
	NodeHeard           Reason = "NodeHeard"
	PolicyRefused       Reason = "PolicyRefused"
	PolicyNotUnderstood Reason = "PolicyNotUnderstood"
	PolicyTooLarge      Reason = "PolicyTooLarge"
	PolicyEnforced      Reason = "PolicyEnforced"
)

// Reasons of the operator, on the NetIOCluster.
const (
	ClusterAvailable Reason = "Available"
	ClusterRefused   Reason = "Refused"
	ClusterDegraded  Reason = "NodesDegraded"
)

// NodeNotFreed is a reason of helm uninstall, on a Node.
const NodeNotFreed Reason = "NetIONotRemoved"

// normal are the reasons that nobody needs to do anything about; All has these and
// the others, which are warnings.
var normal = map[Reason]bool{NodeReady: true, NodeRecovered: true, NodeHeard: true, PolicyEnforced: true, ClusterAvailable: true}

// All are all reasons.
var All = []Reason{
	NodeNotReady, NodeReady, NodeDegraded, NodeRecovered, ForwarderRestarted,
	NodeSilent, NodeHeard, PolicyRefused, PolicyNotUnderstood, PolicyTooLarge, PolicyEnforced,
	ClusterAvailable, ClusterRefused, ClusterDegraded, NodeNotFreed,
}

const (
	// perSecond and burst are how many Events are written: what makes a thousand at
	// once is told by status, and one that matters must not go down in them.
	perSecond = 0.2
	burst     = 25
	// maxNote is the API's limit for a note, in bytes.
	maxNote = 1024
)

// Recorder writes Events, no more than a few. What is too many is left out. Its
// methods may be called concurrently.
type Recorder struct {
	recorder events.EventRecorder
	limit    flowcontrol.RateLimiter
}

// New makes a Recorder that writes by way of another one, which adds up Events of one
// object and reason that come again within six minutes.
func New(recorder events.EventRecorder) *Recorder {
	return &Recorder{recorder: recorder, limit: flowcontrol.NewTokenBucketRateLimiter(perSecond, burst)}
}

// Tell writes an Event about an object. The action is what was done, or found, in a
// word like Enforce.
func (r *Recorder) Tell(object runtime.Object, reason Reason, action, note string) {
	if !r.limit.TryAccept() {
		return
	}
	kind := corev1.EventTypeWarning
	if normal[reason] {
		kind = corev1.EventTypeNormal
	}
	r.recorder.Eventf(object, nil, kind, string(reason), action, "%s", cut(note))
}

// cut makes a note as short as the API wants it.
func cut(note string) string {
	if len(note) <= maxNote {
		return note
	}
	const more = "..."
	return strings.ToValidUTF8(note[:maxNote-len(more)], "") + more
}
