// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Result is the forwarder's tables. It holds no more than its endpoints need:
// policies that select one of them, address sets that one of those names. All
// lists are sorted by name. A Result, and the messages in it, are shared with
// others and must not be changed.
type Result struct {
	Policies    []*dataplanev1.Policy
	AddressSets []*dataplanev1.AddressSet
	// Endpoints that are not remote, and which policies each has.
	Endpoints []EndpointPolicies
	// Problems are policies that are in force other than they are written, by the
	// policies' names.
	Problems []Problem
}

// EndpointPolicies are the policies of one endpoint, as in Port.policies.
type EndpointPolicies struct {
	ID       string
	Policies []string // sorted
}

// Problem is a policy that was not understood: the schema refuses such an
// object, so it was written by a newer version or past validation. It fails
// closed: the directions that it covers, or may have meant to, are denied at its
// priority for the pods that it selects, and for all of its namespace, or of the
// cluster, if the selector is what was not understood. Audit mode is respected.
//
// Of a ClusterNetworkPolicy each rule is closed for itself, as its API asks: one that
// is not understood and accepts does not match, another one denies everything.
//
// One that is too large for the forwarder stays as it was when it was not; one that
// was so from the beginning closes like one that is not understood.
type Problem struct {
	Policy string // as in Result.Policies
	Reason Reason
	Err    error
	// Effect says what is in force.
	Effect string
}

// Reason is a kind of Problem.
type Reason string

// Reasons. NoEffect is no mistake: rules about ports by a name that no pod has.
const (
	NotUnderstood Reason = "NotUnderstood"
	TooLarge      Reason = "TooLarge"
	NoEffect      Reason = "NoEffect"
)

const (
	effectClosed = "it closes what it selects"
	effectRule   = "such a rule closes, the others are in force"
	effectKept   = "it stays in force as it was before"
	effectRest   = "the rest is in force"
)

// PoliciesOf returns the policies of an endpoint, and whether it is known.
func (r *Result) PoliciesOf(id string) ([]string, bool) {
	i, ok := slices.BinarySearchFunc(r.Endpoints, id, func(e EndpointPolicies, id string) int {
		return strings.Compare(e.ID, id)
	})
	if !ok {
		return nil, false
	}
	return r.Endpoints[i].Policies, true
}
