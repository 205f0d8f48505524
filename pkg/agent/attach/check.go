// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/podnet"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Check compares an attachment with what is there: record, lease, forwarder's
// port, interface. The error has a line for each difference. The addresses are
// those that the runtime was told, nil if it does not say. Errors: ErrUnknown,
// ErrElsewhere, ErrDiffers, podnet.ErrNoNetNS, podnet.ErrDiffers, those of the
// forwarder's call.
func (m *Manager) Check(ctx context.Context, id attachment.ID, netns string, addresses []netip.Addr) error {
	unlock, err := m.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	a := m.get(id)
	if a == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	if now, err := podnet.Identify(netns); err != nil {
		return err
	} else if now != a.NetNSID {
		return fmt.Errorf("%w: %s was attached at %s, another namespace than %s is now", ErrElsewhere, id, a.NetNS, netns)
	}
	errs := []error{podnet.Check(a), m.checkLease(a), m.checkPort(ctx, a)}
	for _, want := range addresses {
		if !slices.Contains(a.Addresses, want) {
			errs = append(errs, fmt.Errorf("%w: address %s of the previous result is not of %s, which has %v", ErrDiffers, want, id, a.Addresses))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) checkLease(a *attachment.Attachment) error {
	lease, ok, err := m.leases.Lookup(owner(a.ID))
	if err != nil {
		return err
	}
	if !ok || !slices.Equal(lease.Addresses, a.Addresses) {
		return fmt.Errorf("%w: %s has %v but leases %v; delete it and add it again", ErrDiffers, a.ID, a.Addresses, lease.Addresses)
	}
	return nil
}

func (m *Manager) checkPort(ctx context.Context, a *attachment.Attachment) error {
	resp, err := m.forwarder.Observation().ListPorts(ctx, &dataplanev1.ListPortsRequest{})
	if err != nil {
		return fmt.Errorf("ask the forwarder for its ports: %w", err)
	}
	for _, p := range resp.GetPorts() {
		if p.GetConfig().GetName() != a.Port {
			continue
		}
		if p.GetError() != "" {
			return fmt.Errorf("%w: the forwarder has no interface for port %s, and tries again: %s", ErrDiffers, a.Port, p.GetError())
		}
		if !p.GetUp() {
			return fmt.Errorf("%w: the forwarder's port %s is down", ErrDiffers, a.Port)
		}
		var has []netip.Addr
		for _, s := range p.GetConfig().GetAddresses() {
			if ip, err := netip.ParseAddr(s); err == nil {
				has = append(has, ip)
			}
		}
		if !slices.Equal(has, a.Addresses) {
			return fmt.Errorf("%w: the forwarder's port %s has addresses %v, expected %v", ErrDiffers, a.Port, has, a.Addresses)
		}
		return nil
	}
	return fmt.Errorf("%w: the forwarder has no port %s", ErrDiffers, a.Port)
}
