// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// TestDeletionFreesAddresses: a pod that is gone holds no address, and nobody
// answers at those that it had.
func TestDeletionFreesAddresses(t *testing.T) {
	namespace := newNamespace(t)
	first, last := under.Nodes[0], under.Nodes[len(under.Nodes)-1]
	startPod(t, namespace, "stays", first)
	startPod(t, namespace, "goes", last)
	stays, goes := awaitPod(t, namespace, "stays"), awaitPod(t, namespace, "goes")
	agent := agentOf(t, last.Name)
	if held, err := holds(t.Context(), agent, goes); err != nil || !held {
		t.Fatalf("the agent knows of %s: %v, %v", goes.name, held, err)
	}
	deletePod(t, goes)
	await(t, "addresses free", func(ctx context.Context) error {
		held, err := holds(ctx, agent, goes)
		if err != nil {
			return err
		}
		if held {
			return fmt.Errorf("the agent still knows of %s", goes.name)
		}
		info, err := agent.Info(ctx, &agentv1.InfoRequest{})
		if err != nil {
			return err
		}
		list, err := agent.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
		if err != nil {
			return err
		}
		used := map[bool]uint64{} // by the family: blocks of pools are there too
		for _, pool := range info.GetPools() {
			if used[strings.Contains(pool.GetCidr(), ":")] += pool.GetUsed(); pool.GetCooling() > 0 {
				return fmt.Errorf("pool %s: %d cooling", pool.GetCidr(), pool.GetCooling())
			}
		}
		for six, n := range used {
			if n != uint64(len(list.GetEndpoints())) {
				return fmt.Errorf("%d used of IPv6 %v, for %d pods", n, six, len(list.GetEndpoints()))
			}
		}
		return nil
	})
	// By TCP alone: that nobody is there ends a connection, but no wait for a
	// datagram.
	answers, err := stays.reach(t.Context(), goes.tcpTargets()...)
	if err != nil {
		t.Fatal(err)
	}
	for target, a := range answers {
		if a.Error == "" {
			t.Errorf("%s: %s answers", target, a.Name)
		}
	}
}

// holds tells whether an agent has the pod among its endpoints.
func holds(ctx context.Context, agent agentv1.AgentClient, p pod) (bool, error) {
	list, err := agent.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
	if err != nil {
		return false, err
	}
	for _, e := range list.GetEndpoints() {
		if e.GetNamespace() == p.namespace && e.GetName() == p.name {
			return true, nil
		}
	}
	return false, nil
}
