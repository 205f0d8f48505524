// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"maps"
	"slices"
	"time"

	"netio.dev/netio/pkg/dataplane/config"
)

// Pauses between attempts to make ports that could not be made. A reason may be
// gone in milliseconds: after a kill the kernel still closes the interfaces of the
// process before us, and until then they are busy.
const (
	repairSoon = 20 * time.Millisecond
	repairLate = 2 * time.Second
)

// repair makes what ports Apply could not, as soon as it can be done.
func (f *Forwarder) repair(ctx context.Context) {
	pause := repairLate
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.unmade:
			pause = repairSoon
		case <-time.After(pause):
			pause = min(2*pause, repairLate)
		}
		f.tryAgain()
	}
}

func (f *Forwarder) tryAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	lost := f.loseUplinks()
	before := f.failed
	if len(lost) == 0 && !slices.ContainsFunc(slices.Collect(maps.Keys(before)), f.missing) && !slices.ContainsFunc(f.snap.Ports, f.unsteered) {
		return
	}
	made, failed, _ := f.makePorts(f.snap, nil)
	for name, err := range before {
		if slices.Contains(made, name) {
			f.log.Info("port is there now", "port", name)
		} else if !f.missing(name) {
			failed[name] = err // of another kind
		}
	}
	if len(made)+len(lost) > 0 {
		f.gen++
		f.store(config.Build(f.snap, f.ids, f.tables.Load(), f.gen))
	}
	f.steer(f.snap, failed)
	f.failed = failed
}

// missing tells whether the device does not have a port.
func (f *Forwarder) missing(name string) bool {
	_, ok := f.ids[name]
	return !ok
}
