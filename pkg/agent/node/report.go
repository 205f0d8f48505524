// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"context"
	"time"

	"netio.dev/netio/pkg/ipam"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// reportPatience is how long the forwarder may take to say what its device is.
const reportPatience = time.Second

// report is how the node is now.
func (a *agent) report() Report {
	c := a.current()
	module, moduleErr := a.kernelModule()
	r := Report{
		KernelModule: module, KernelModuleUnknown: moduleErr,
		Version: a.Version, PodCIDRs: c.PodCIDRs, Endpoints: len(a.manager.List()), Policies: int(a.policies.Load()),
		NotReady: cmp.Or(a.ready(), a.degraded()), Problems: a.problems.All(),
	}
	if use, pending, err := a.pools.Use(); err == nil { // else the agent stops
		r.Pools, r.PoolsPending = use, pending
		r.Written = func(has []ipam.Block) {
			a.problems.Replace("pools", lines("pools", a.pools.Written(use, has))...)
		}
	}
	r.Joined = a.keeper.Taken() != nil // before the state: it does not go away again
	state, problems := a.keeper.InForce()
	r.InForce, r.PolicyProblems = state.Versions, policyProblems(state, problems)
	a.mu.Lock()
	r.Refused = a.policiesRefused
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), reportPatience)
	defer cancel()
	if s, err := a.keeper.Observation().Status(ctx, &dataplanev1.StatusRequest{}); err == nil {
		r.Device, r.ForwarderStarted = s.GetDevice(), s.GetStartedUnixNano()
	}
	return r
}
