// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/device"
)

const defaultMTU = 1500

var errSteer = errors.New("steer")

// makePort makes a knet, a port of a NIC, or a tunnel, and returns its number.
func (f *Forwarder) makePort(p *dataplanev1.Port) (uint32, error) {
	var info device.PortInfo
	var err error
	switch p.Kind {
	case dataplanev1.Port_TUNNEL:
		return f.makeTunnel()
	case dataplanev1.Port_UPLINK:
		info, err = f.makeUplink(p)
	default:
		info, err = f.dev.AddPort(device.PortConfig{
			Name: p.Name, IfName: p.Ifname, NetNS: p.Netns,
			MTU: int(cmp.Or(p.Mtu, defaultMTU)), Quota: int(p.NbufQuota),
		})
	}
	return uint32(info.ID), err
}

func (f *Forwarder) makeUplink(p *dataplanev1.Port) (device.PortInfo, error) {
	nics, ok := f.dev.(device.NICs)
	if !ok {
		return device.PortInfo{}, device.ErrNoNICs
	}
	info, err := nics.AddNIC(device.NICConfig{Name: p.Name, IfName: p.Ifname, Quota: int(p.NbufQuota)})
	if err != nil {
		return info, err
	}
	if want := int(cmp.Or(p.Mtu, defaultMTU)); info.MTU < want {
		if err := f.dev.RemovePort(info.ID); err != nil {
			f.log.Error("remove port", "port", p.Name, "id", info.ID, "error", err)
		}
		return info, fmt.Errorf("interface %s has MTU %d and its port %d; raise the one or lower the other", p.Ifname, info.MTU, want)
	}
	return info, nil
}

// steer has the device receive by uplinks what s says. It comes after the
// tables: what arrives finds its routes.
func (f *Forwarder) steer(s *dataplanev1.Snapshot, failed map[string]error) {
	for _, p := range s.Ports {
		if p.Kind != dataplanev1.Port_UPLINK || f.missing(p.Name) {
			continue
		}
		id := f.ids[p.Name]
		if was, known := f.steered[p.Name]; known && slices.Equal(was, p.Steer) {
			continue
		}
		nics, ok := f.dev.(device.NICs)
		if !ok { // a knet of its name, that could not be removed
			continue
		}
		if err := nics.Steer(device.PortID(id), device.SteerReplace, prefixes(p.Steer)...); err != nil {
			err = fmt.Errorf("%w: %w", errSteer, err)
			if before := f.failed[p.Name]; before == nil || before.Error() != err.Error() {
				f.log.Error("steer uplink; it is tried again", "port", p.Name, "error", err)
			}
			failed[p.Name] = err
			continue
		}
		f.steered[p.Name] = slices.Clone(p.Steer)
		if errors.Is(failed[p.Name], errSteer) {
			delete(failed, p.Name)
		}
	}
}

// prefixes reads what config.Validate has passed.
func prefixes(list []string) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a := netip.MustParseAddr(s)
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p)
	}
	return out
}

// unsteered tells whether an uplink does not receive what the configuration says.
func (f *Forwarder) unsteered(p *dataplanev1.Port) bool {
	if p.Kind != dataplanev1.Port_UPLINK || f.missing(p.Name) {
		return false
	}
	was, known := f.steered[p.Name]
	return !known || !slices.Equal(was, p.Steer)
}

// loseUplinks forgets uplinks whose interface is gone: its driver was unbound, or it
// was moved to another network namespace. It may come back, as a port that is to
// be made anew.
func (f *Forwarder) loseUplinks() (lost []string) {
	for _, p := range f.snap.Ports {
		if p.Kind != dataplanev1.Port_UPLINK || f.missing(p.Name) {
			continue
		}
		id := f.ids[p.Name]
		if atomic.LoadUint32(&f.dev.Area().Port(id).State)&abi.PortPresent != 0 {
			continue
		}
		if f.removePort(p.Name) {
			f.log.Warn("the interface of an uplink is gone", "port", p.Name, "interface", p.Ifname)
			lost = append(lost, p.Name)
		}
	}
	return lost
}
