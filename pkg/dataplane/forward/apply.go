// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/device"
)

var errNotReplaced = errors.New("another interface has the port's name and could not be removed; look at the forwarder's log, and delete the port")

// Apply puts a whole, valid configuration in force. Ports that it does not name are
// removed, new ones made. It returns the state of the ports in named, or of
// all for nil. When a port in named cannot be made, nothing has changed; others
// that cannot be made are reported in their state, and Run tries again. Before Run it takes effect with the first packet.
func (f *Forwarder) Apply(ctx context.Context, s *dataplanev1.Snapshot, named map[string]bool) ([]*dataplanev1.PortState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()

	_, failed, err := f.makePorts(s, named)
	if err != nil {
		return nil, err
	}
	f.setQuotas(s, failed)
	f.gen++
	f.store(config.Build(s, f.ids, f.tables.Load(), f.gen))
	f.snap = s
	f.steer(s, failed)
	f.failed = failed
	if len(failed) > 0 {
		select {
		case f.unmade <- struct{}{}:
		default:
		}
	}
	// Once every worker has turned its loop nobody sends to what is removed next.
	if f.started.Load() {
		if err := f.each(ctx, func(*Worker) {}); err != nil && !errors.Is(err, errStopped) {
			return nil, err
		}
	}
	f.removePorts(s)
	return f.portStates(s, named, failed), nil
}

// makePorts makes the ports that s has and the device has not. A port that the
// device kept from an earlier process, but with another interface than s
// says, is replaced.
func (f *Forwarder) makePorts(s *dataplanev1.Snapshot, named map[string]bool) (made []string, failed map[string]error, err error) {
	failed = map[string]error{}
	for _, p := range s.Ports {
		if kept, ok := f.kept[p.Name]; ok {
			delete(f.kept, p.Name)
			if !isPort(kept, p) {
				f.log.Info("replace port", "port", p.Name, "had", kept, "wanted", p)
				if !f.removePort(p.Name) {
					failed[p.Name] = errNotReplaced
				}
			}
		}
		if _, ok := f.ids[p.Name]; ok {
			continue
		}
		id, err := f.makePort(p)
		switch {
		case err == nil:
			f.ids[p.Name] = id
			made = append(made, p.Name)
		case named[p.Name]:
			for _, name := range made {
				f.removePort(name)
			}
			return nil, nil, fmt.Errorf("make port %s: %w", p.Name, err)
		default:
			if before := f.failed[p.Name]; before == nil || before.Error() != err.Error() {
				f.log.Error("make port; it is tried again", "port", p.Name, "error", err)
			}
			failed[p.Name] = err
		}
	}
	return made, failed, nil
}

// isPort tells whether a port that the device kept is the one that p means.
func isPort(kept device.PortInfo, p *dataplanev1.Port) bool {
	if p.Kind == dataplanev1.Port_TUNNEL {
		return false
	}
	if uplink := p.Kind == dataplanev1.Port_UPLINK; uplink || kept.NIC {
		return uplink && kept.NIC && kept.IfName == p.Ifname
	}
	return kept.IfName == p.Ifname && kept.NetNS == p.Netns && cmp.Or(kept.MTU, defaultMTU) == int(cmp.Or(p.Mtu, defaultMTU))
}

// setQuotas passes on quotas that have changed. 0, the device's default, leaves
// a port with what it has.
func (f *Forwarder) setQuotas(s *dataplanev1.Snapshot, failed map[string]error) {
	was := make(map[string]uint32, len(f.snap.GetPorts()))
	for _, p := range f.snap.GetPorts() {
		was[p.GetName()] = p.GetNbufQuota()
	}
	for _, p := range s.Ports {
		old, known := was[p.Name]
		id, there := f.ids[p.Name]
		if !known || !there || p.NbufQuota == 0 || p.NbufQuota == old {
			continue
		}
		quota := int(p.NbufQuota)
		if err := f.dev.SetPort(device.PortID(id), device.PortUpdate{Quota: &quota}); err != nil {
			f.log.Error("set nbuf quota", "port", p.Name, "error", err)
			failed[p.Name] = fmt.Errorf("set nbuf quota: %w", err)
		}
	}
}

func (f *Forwarder) removePorts(s *dataplanev1.Snapshot) {
	wanted := make(map[string]bool, len(s.Ports))
	for _, p := range s.Ports {
		wanted[p.Name] = true
	}
	for name := range f.ids {
		if !wanted[name] {
			f.removePort(name)
		}
	}
}

// removePort tells false if the device would not; the next change tries again.
func (f *Forwarder) removePort(name string) bool {
	id := f.ids[name]
	if !f.isTunnel(id) {
		if err := f.dev.RemovePort(device.PortID(id)); err != nil && !errors.Is(err, device.ErrNoPort) {
			f.log.Error("remove port", "port", name, "id", id, "error", err)
			return false
		}
	}
	delete(f.ids, name)
	delete(f.steered, name)
	f.Captures.PortGone(id)
	for _, w := range f.workers {
		// Counters and connections of a number's next port begin at zero.
		_ = w.mail.put(func() { w.forget(id) })
	}
	return true
}

func (f *Forwarder) portStates(s *dataplanev1.Snapshot, named map[string]bool, failed map[string]error) []*dataplanev1.PortState {
	var states []*dataplanev1.PortState
	infos := map[string]device.PortInfo{}
	if ports, err := f.dev.Ports(); err == nil {
		for _, p := range ports {
			infos[p.Name] = p
		}
	}
	for _, p := range s.Ports {
		if named != nil && !named[p.Name] {
			continue
		}
		st := &dataplanev1.PortState{Name: p.Name, Id: f.ids[p.Name]}
		if info, ok := infos[p.Name]; ok {
			st.Ifindex, st.Up = int32(info.IfIndex), info.Up
		}
		st.Up = st.Up || p.Kind == dataplanev1.Port_TUNNEL
		if err := failed[p.Name]; err != nil {
			st.Error = err.Error()
		}
		states = append(states, st)
	}
	return states
}
