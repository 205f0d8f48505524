// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"netio.dev/netio/pkg/cni/pending"
	"netio.dev/netio/test/internal/daemon"
)

// between is how many pods come between two events.
const between = 9

// events kills processes and collects garbage until done.
func (b *bed) events(done <-chan struct{}) {
	random := rand.New(rand.NewPCG(*seed, workers))
	kinds := []struct {
		name string
		do   func(*rand.Rand) error
	}{
		{"SIGKILL of the worker", b.stormWorker},
		{"SIGKILL of the agent", b.stormAgent},
		{"SIGKILL of the agent within an ADD of a live ID elsewhere", b.stormMistake},
		{"SIGKILL of the supervisor", b.stormSupervisor},
		{"SIGKILL of agent and worker", b.stormBoth},
		{"GC", b.collect},
	}
	var order []int // each kind comes once before one comes again
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for next := between; ; {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		if b.count() < next {
			continue
		}
		if len(order) == 0 {
			order = random.Perm(len(kinds))
		}
		kind := kinds[order[0]]
		order = order[1:]
		if err := kind.do(random); err != nil {
			b.fail(fmt.Errorf("%s: %w", kind.name, err))
			return
		}
		b.note("%s", kind.name)
		next = b.count() + 1 + random.IntN(2*between)
	}
}

func (b *bed) stormWorker(*rand.Rand) error {
	b.weather.begin()
	if err := b.killWorker(b.ctx); err != nil {
		return err
	}
	return b.recovered()
}

// stormAgent leaves the agent away until some pods were deleted without it.
func (b *bed) stormAgent(random *rand.Rand) error {
	b.weather.begin()
	b.agent.Kill()
	b.awaitPromises(1 + random.IntN(3))
	if err := b.startAgent(); err != nil {
		return err
	}
	return b.recovered()
}

// stormMistake: an ADD names a live pod's ID and another network namespace, and
// the agent dies before it can refuse. The plugin takes the ADD back; the pod
// stays.
func (b *bed) stormMistake(random *rand.Rand) error {
	b.weather.begin()
	if err := b.mistakenAdd(random); err != nil {
		return err
	}
	if err := b.startAgent(); err != nil {
		return err
	}
	return b.recovered()
}

// mistakenAdd leaves the agent killed. Nobody deletes the live pod meanwhile.
func (b *bed) mistakenAdd(random *rand.Rand) error {
	b.steps.Lock()
	defer b.steps.Unlock()
	defer b.agent.Kill()
	live := b.pods()
	if len(live) == 0 {
		return nil
	}
	elsewhere, err := newPod("elsewhere", colours[0])
	if err != nil {
		return err
	}
	a := elsewhere.attachment
	a.id = live[random.IntN(len(live))].id
	// Frozen, the agent takes the call and does not answer.
	if err := b.agent.Freeze(); err != nil {
		return errors.Join(err, elsewhere.close())
	}
	added := make(chan error, 1)
	go func() {
		_, err := b.runtime.add(b.ctx, a)
		added <- err
	}()
	err = await(b.ctx, b.pluginCalls)
	b.agent.Kill()
	if <-added == nil {
		err = errors.Join(err, fmt.Errorf("ADD of %s in another namespace succeeded", a.id))
	}
	promised, lerr := pending.List(pending.Dir(stateDir))
	if !slices.ContainsFunc(promised, func(r pending.Record) bool { return r.Undo && r.NetNS == a.netns }) {
		err = errors.Join(err, lerr, fmt.Errorf("the ADD of %s elsewhere left no promise to take it back: %v", a.id, promised))
	}
	return errors.Join(err, elsewhere.close())
}

// pluginCalls is an error until a plugin runs that has connected to the agent:
// it opens no other socket.
func (b *bed) pluginCalls() error {
	pids, err := daemon.Instances(filepath.Join(b.bin, "netio-cni"))
	if err != nil {
		return err
	}
	for _, pid := range pids {
		links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			return err
		}
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, "socket:") {
				return nil
			}
		}
	}
	return errors.New("no plugin has connected to the agent")
}

// stormSupervisor also ends the worker, and with it every interface.
func (b *bed) stormSupervisor(random *rand.Rand) error {
	b.weather.begin()
	b.forwarder.Kill()
	if random.IntN(2) == 0 {
		time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
	}
	if err := b.startForwarder(); err != nil {
		return err
	}
	return b.recovered()
}

// stormBoth: they come back in either order.
func (b *bed) stormBoth(*rand.Rand) error {
	b.weather.begin()
	b.agent.Kill()
	if err := b.killWorker(b.ctx); err != nil {
		return err
	}
	if err := b.startAgent(); err != nil {
		return err
	}
	return b.recovered()
}

// awaitPromises waits, not for ever, until the plugin has promised so many
// deletions: near the end there may be no pods left.
func (b *bed) awaitPromises(n int) {
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) && b.ctx.Err() == nil {
		entries, err := os.ReadDir(pending.Dir(stateDir))
		if err == nil && len(entries) >= n {
			b.note("agent started with promised deletions")
			return
		}
		time.Sleep(pause)
	}
}

// recovered returns, and the storm is over, when every pod is as its runtime
// expects it.
func (b *bed) recovered() error {
	if err := b.runtime.awaitReady(b.ctx); err != nil {
		return err
	}
	b.steps.Lock()
	defer b.steps.Unlock()
	for _, p := range b.pods() {
		if err := await(b.ctx, func() error { return b.runtime.check(b.ctx, p.attachment) }); err != nil {
			return err
		}
	}
	b.weather.end()
	return nil
}

// collect removes what was abandoned. Runtimes add and remove nothing meanwhile.
func (b *bed) collect(*rand.Rand) error {
	b.steps.Lock()
	defer b.steps.Unlock()
	var valid []attachment
	for _, p := range b.pods() {
		valid = append(valid, p.attachment)
	}
	return b.runtime.gc(b.ctx, valid)
}
