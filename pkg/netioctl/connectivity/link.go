// SPDX-License-Identifier: Apache-2.0

package connectivity

import (
	"fmt"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"
)

// Kind of a link, in the words of the report.
type Kind string

const (
	AgentsRun       Kind = "agents run"
	PodsStart       Kind = "pods start"
	SameNode        Kind = "pod to pod, same node"
	OtherNode       Kind = "pod to pod, other node"
	PodToNode       Kind = "pod to node"
	NodeToPod       Kind = "node to pod"
	NodeToNode      Kind = "node to node"
	PodToService    Kind = "pod to service"
	NodeToService   Kind = "node to service"
	Hairpin         Kind = "pod to its own service"
	ServiceName     Kind = "pod to service, by name"
	Headless        Kind = "headless service, by name"
	PodToNodePort   Kind = "pod to node port"
	NodeToNodePort  Kind = "node to node port"
	ToAPIServer     Kind = "pod to API server"
	ToWorld         Kind = "pod to the world"
	NodeToWorld     Kind = "node to the world"
	NetworkPolicy   Kind = "NetworkPolicy denies"
	NetIOPolicyDeny Kind = "NetIOPolicy denies"
)

// kinds in the order of the report.
var kinds = []Kind{
	AgentsRun, PodsStart, SameNode, OtherNode, PodToNode, NodeToPod, NodeToNode, PodToService, Hairpin, NodeToService, ServiceName, Headless,
	PodToNodePort, NodeToNodePort, ToAPIServer, ToWorld, NodeToWorld, NetworkPolicy, NetIOPolicyDeny,
}

// What is at an end of a link.
type What string

const (
	Pod       What = "pod"
	OtherPod  What = "other pod" // the second one of a node
	Node      What = "node"
	Service   What = "service"
	NodePort  What = "node port"
	Name      What = "name"
	APIServer What = "API server"
	World     What = "world"
)

// End is who asks, or who is asked.
type End struct {
	What What `json:"what"`
	// Node is that of who asks or answers at last.
	Node string `json:"node,omitempty"`
	// Via is the node whose port is asked.
	Via string `json:"via,omitempty"`
	// Address is asked, or a name.
	Address string `json:"address,omitempty"`
}

func (e End) String() string {
	switch e.What {
	case Pod, OtherPod:
		return fmt.Sprintf("%s on %s", e.What, e.Node)
	case Node:
		return "node " + e.Node
	case Service:
		return "service of the pod on " + e.Node
	case NodePort:
		return fmt.Sprintf("port of node %s, for the pod on %s", e.Via, e.Node)
	case Name:
		return "name " + e.Address
	case World:
		return "world, " + e.Address
	}
	return string(e.What)
}

// Link is one way of one kind of packets.
type Link struct {
	Kind Kind `json:"kind"`
	From End  `json:"from"`
	To   End  `json:"to"`
	// Family is 4 or 6, and 0 where the cluster chooses.
	Family int       `json:"family,omitempty"`
	By     probe.How `json:"by,omitempty"`

	from     *party         // who asks
	question probe.Question // without ID
	itself   bool           // who asks has to be seen by its own address
	skip     string         // why it is not tested
}

func (l *Link) String() string {
	s := l.From.String()
	if l.To.What != "" {
		s += " -> " + l.To.String()
	}
	if l.Family != 0 {
		s += fmt.Sprintf(", IPv%d", l.Family)
	}
	switch l.By {
	case "":
	case probe.Bulk:
		s += fmt.Sprintf(", %d KiB by TCP", probe.BulkSize>>10)
	default:
		s += ", " + words(l.By)
	}
	return s
}

// State of a link.
type State string

const (
	OK      State = "ok"
	Failed  State = "failed"
	Skipped State = "skipped"
)

// Result is what became of a link.
type Result struct {
	Link
	State State `json:"state"`
	// Why it failed or was skipped, or what was seen.
	Why string `json:"why,omitempty"`
	// Trace is what the forwarders say of such a packet, if they were asked; Dropped
	// whether they drop it.
	Trace   string `json:"trace,omitempty"`
	Dropped bool   `json:"dropped,omitempty"`
	// Milliseconds that the answer took.
	Milliseconds int64 `json:"milliseconds,omitempty"`
}
