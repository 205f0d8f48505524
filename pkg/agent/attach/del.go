// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/desired"
	"netio.dev/netio/pkg/agent/netnsid"
	"netio.dev/netio/pkg/cni/pending"
	"netio.dev/netio/pkg/ipam"
)

// Del unwires a pod. What is gone already is no error, nor is a forwarder that
// is away: it drops the port when it is back. Errors: those of the disk, ctx's.
func (m *Manager) Del(ctx context.Context, id attachment.ID) error {
	if id.Check() != nil {
		return nil // nothing of that name can ever have been attached
	}
	unlock, err := m.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := m.remove(id); err != nil {
		return err
	}
	return pending.Remove(m.pending, record(id))
}

// Undo takes an ADD back whose outcome is unknown: what is attached goes if that
// ADD can have made it, which was given the network namespace at path netns; nsID
// is what was there, zero if that is not known. Anything else is left alone, which
// is no error. Errors are those of Del.
func (m *Manager) Undo(ctx context.Context, id attachment.ID, netns string, nsID netnsid.ID) error {
	if id.Check() != nil {
		return nil
	}
	unlock, err := m.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	r := record(id)
	r.Undo, r.NetNS, r.NetNSID = true, netns, nsID
	return m.redeem(r)
}

// redeem does what a record promises; the attachment is locked.
func (m *Manager) redeem(r pending.Record) error {
	id := promisedFor(r)
	if m.spares(r) {
		slog.Info("an ADD is taken back that named the attachment of another network namespace, which stays", "attachment", id, "netns", r.NetNS)
		return nil
	}
	return m.remove(id)
}

// spares tells whether something is attached that a record is not about. Where
// a damaged attachment is nobody knows.
func (m *Manager) spares(r pending.Record) bool {
	id := promisedFor(r)
	if a := m.get(id); a != nil {
		return !r.Means(a.NetNS, a.NetNSID)
	}
	return r.Undo && m.damaged(id)
}

// remove unwires an attachment that is locked, and what a kill left of one.
func (m *Manager) remove(id attachment.ID) error {
	if err := m.store.Delete(id); err != nil {
		return tried("detach", id, err)
	}
	m.mu.Lock()
	m.unreadable = slices.DeleteFunc(m.unreadable, func(u attachment.ID) bool { return u == id })
	m.mu.Unlock()
	if a := m.get(id); a != nil {
		// While the forwarder is away this counts from when it is back.
		if err := m.forwarder.Remove(func(s desired.State) desired.State { return s.Without(a.Port) }); err != nil {
			slog.Info("the forwarder will drop the port later", "port", a.Port, "reason", err)
		}
		m.forget(a)
		m.detached()
		slog.Info("detached", "attachment", id, "pod", a.Namespace+"/"+a.Name, "port", a.Port)
	}
	if _, err := m.leases.Release(owner(id)); err != nil {
		return tried("detach", id, err)
	}
	return nil
}

// GC unwires the attachments of a network that are not valid, and returns
// them.
func (m *Manager) GC(ctx context.Context, network string, valid []attachment.ID) ([]attachment.ID, error) {
	keep := map[attachment.ID]bool{}
	for _, id := range valid {
		id.Network = network
		keep[id] = true
	}
	var removed []attachment.ID
	var errs []error
	for _, id := range m.known() {
		if id.Network != network || keep[id] {
			continue
		}
		if err := m.Del(ctx, id); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, id)
	}
	if err := m.collectLeases(network); err != nil {
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// collectLeases releases leases without attachment, of one network or, for "",
// of all.
func (m *Manager) collectLeases(network string) error {
	prefix := ""
	if network != "" {
		prefix = ipam.NetworkPrefix(network)
	}
	m.leasing.Lock()
	defer m.leasing.Unlock()
	var live []string
	for _, id := range m.known() {
		live = append(live, owner(id))
	}
	stale, err := m.leases.GC(prefix, live)
	if err != nil {
		return fmt.Errorf("release stale leases: %w", err)
	}
	for _, l := range stale {
		slog.Info("released a stale lease", "owner", l.Owner, "addresses", l.Addresses)
	}
	return nil
}

// SettlePending makes all deletions good that the CNI plugin promised while the
// agent was away.
func (m *Manager) SettlePending(ctx context.Context) error {
	records, err := pending.List(m.pending)
	errs := []error{err}
	for _, r := range records {
		id := promisedFor(r)
		if id.Check() != nil {
			errs = append(errs, pending.Remove(m.pending, r)) // never attached
			continue
		}
		unlock, err := m.locks.lock(ctx, id)
		if err != nil {
			errs = append(errs, err)
			break
		}
		errs = append(errs, m.settle(r))
		unlock()
	}
	return errors.Join(errs...)
}
