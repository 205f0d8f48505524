// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/config"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/netnsid"
	"netio.dev/netio/pkg/agent/podnet"
	"netio.dev/netio/pkg/cni/pending"
	"netio.dev/netio/pkg/ipam"
)

// Request is what a runtime asks for.
type Request struct {
	attachment.ID
	// NetNS is the path of the network namespace.
	NetNS string
	// Namespace, Name and UID of the pod, "" where the runtime does not tell.
	Namespace, Name, UID string
	Labels               map[string]string
	// ServiceAccount that the pod runs as, "" if that is not known.
	ServiceAccount string
	// Pool of addresses.
	Pool Pool
	// Addresses that the pod is to have; a family that is not named gets one
	// all the same.
	Addresses []netip.Addr
	// MTU in bytes, 0 for the agent's.
	MTU int
}

// Add wires a pod and returns when its policy is in force and its interface up.
// After an error nothing is left. An attachment that is there already, with the
// same namespace, is returned as it is. Errors: attachment.ErrInvalid,
// ErrRequest, ErrElsewhere, ErrNotReady, ErrPool, ErrNoPort, podnet.ErrNoNetNS, those of ipam's Lease
// and forwarder's Add, ctx's.
func (m *Manager) Add(ctx context.Context, r Request) (*attachment.Attachment, error) {
	if err := m.check(&r); err != nil {
		return nil, err
	}
	unlock, err := m.locks.lock(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := m.settle(record(r.ID)); err != nil {
		return nil, err
	}
	nsID, err := podnet.Identify(r.NetNS)
	if err != nil {
		return nil, err
	}
	if old := m.get(r.ID); old != nil {
		if old.NetNSID == nsID {
			return old, nil
		}
		if alive, err := podnet.Alive(old.NetNS, old.NetNSID); alive || err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %s is at %s; delete it first", ErrElsewhere, r.ID, old.NetNS), err)
		}
		slog.Info("replacing an attachment whose network namespace is gone", "attachment", r.ID, "netns", old.NetNS)
		if err := m.remove(r.ID); err != nil {
			return nil, err
		}
	}
	// Before the lease: an address that is given back must cool down.
	if _, err := m.forwarder.Add(ctx, "", func(s desired.State) desired.State { return s }); err != nil {
		return nil, tried("attach", r.ID, err)
	}
	if m.ready != nil {
		switch err := m.ready(ctx, &r); {
		case errors.Is(err, ErrPool): // no fault of the host's
			return nil, tried("attach", r.ID, err)
		case err != nil:
			return nil, tried("attach", r.ID, fmt.Errorf("%w: %w", ErrNotReady, err))
		}
	}
	return m.addFromPool(ctx, r, nsID)
}

// check reports what is wrong with a request, and fills in what it leaves out.
func (m *Manager) check(r *Request) error {
	if err := r.ID.Check(); err != nil {
		return err
	}
	if r.Namespace == "" {
		r.Namespace = "default"
	}
	if r.Name == "" {
		r.Name = r.ContainerID
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.MTU == 0 {
		r.MTU = m.settings.MTU
	}
	if r.MTU < config.MinMTU || r.MTU > config.MaxMTU {
		return fmt.Errorf("%w: mtu %d; expected %d to %d", ErrRequest, r.MTU, config.MinMTU, config.MaxMTU)
	}
	return nil
}

// add does the steps of the package's drawing, and takes them back in reverse
// order if one fails.
func (m *Manager) add(ctx context.Context, r Request, nsID netnsid.ID) (_ *attachment.Attachment, err error) {
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for _, f := range slices.Backward(undo) {
			if err := f(); err != nil {
				slog.Warn("could not take back what an ADD had done; it is made good later", "attachment", r.ID, "error", err)
			}
		}
		err = tried("attach", r.ID, err)
	}()
	m.leasing.RLock()
	defer m.leasing.RUnlock()

	a := &attachment.Attachment{
		ID: r.ID, NetNS: r.NetNS, NetNSID: nsID, Namespace: r.Namespace, Name: r.Name, UID: r.UID,
		Labels: maps.Clone(r.Labels), ServiceAccount: r.ServiceAccount, Pool: r.Pool.Name, MTU: r.MTU, Since: time.Now().UTC(),
	}
	a.Port = m.reservePort(r.ID)
	undo = append(undo, func() error { m.freePort(a.Port); return nil })

	undo = append(undo, func() error { _, err := m.leases.Release(owner(r.ID)); return err })
	lease, err := m.leases.Lease(ctx, owner(r.ID), ipam.Request{Pool: r.Pool.Name, IPv4: r.Pool.IPv4, IPv6: r.Pool.IPv6, Addresses: r.Addresses})
	if err != nil {
		return nil, err
	}
	a.Addresses = lease.Addresses

	port, err := m.forwarder.Add(ctx, a.Port, func(s desired.State) desired.State { return s.With(a) })
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() error {
		return m.forwarder.Remove(func(s desired.State) desired.State { return s.Without(a.Port) })
	})
	if e := port.GetError(); e != "" {
		return nil, fmt.Errorf("%w: %s", ErrNoPort, e)
	}

	done, err := m.configure(a)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err // nobody waits for it any more
	}
	undo = append(undo, func() error { return m.store.Delete(r.ID) })
	if err := m.store.Put(done); err != nil {
		return nil, err
	}
	m.put(done)
	slog.Info("attached", "attachment", done.ID, "pod", done.Namespace+"/"+done.Name, "port", done.Port, "addresses", done.Addresses)
	return done, nil
}

// configure configures the interface and returns the attachment as it is then.
func (m *Manager) configure(a *attachment.Attachment) (*attachment.Attachment, error) {
	m.mu.Lock()
	settings := m.settings
	m.mu.Unlock()
	state, err := podnet.Configure(podnet.Config{
		NetNS: a.NetNS, NetNSID: a.NetNSID, IfName: a.IfName, MTU: a.MTU, Addresses: a.Addresses, Gateways: settings.Gateways, Sysctls: settings.Sysctls,
	})
	if err != nil {
		return nil, err
	}
	done := *a
	done.IfIndex, done.Routes = state.IfIndex, state.Routes
	return &done, nil
}

// settle makes the deletions of an attachment good that the CNI plugin promised
// while the agent was away; the attachment is locked.
func (m *Manager) settle(r pending.Record) error {
	return pending.Settle(m.pending, r, m.redeem)
}
