// SPDX-License-Identifier: Apache-2.0

package policystatus

import (
	"netio.dev/netio/api/v1alpha1"
	"netio.dev/netio/pkg/events"
)

// troubles are the reasons of a policy that is not in force, nor will be, without
// somebody who does something, with their Events.
var troubles = map[string]events.Reason{
	v1alpha1.PolicyReasonRefused:       events.PolicyRefused,
	v1alpha1.PolicyReasonNotUnderstood: events.PolicyNotUnderstood,
	v1alpha1.PolicyReasonTooLarge:      events.PolicyTooLarge,
}

// turned is the Event of a policy that had one reason and has another one now, "" for
// none: a policy that is in force as it should be is none.
func turned(was, now string) events.Reason {
	switch {
	case was == now:
		return ""
	case troubles[now] != "":
		return troubles[now]
	case troubles[was] != "" && now == v1alpha1.PolicyReasonEnforced:
		return events.PolicyEnforced
	}
	return ""
}
