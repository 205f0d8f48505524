// SPDX-License-Identifier: Apache-2.0

package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/podnet"
	"netio.dev/netio/pkg/cni/pending"
	"netio.dev/netio/pkg/ipam"
)

// Recover loads the attachments of the last run and clears what a kill or a
// reboot left: pods whose network namespace is gone, promised deletions, leases
// without attachment. It is called once, before everything else, without a
// forwarder: List is then what the forwarder is to have. The error has a line
// for each thing that is wrong; all the rest works.
func (m *Manager) Recover(ctx context.Context) error {
	all, unreadable, err := m.store.Load()
	m.unreadable = unreadable
	promised, perr := pending.List(m.pending)
	errs := []error{err, perr}
	undone := map[attachment.ID][]pending.Record{}
	for _, r := range promised {
		if r.Undo {
			undone[promisedFor(r)] = append(undone[promisedFor(r)], r)
		}
	}
	for _, a := range all {
		keep, err := podnet.Alive(a.NetNS, a.NetNSID)
		if err != nil {
			errs = append(errs, fmt.Errorf("look for the namespace of %s: %w", a.ID, err))
			keep = true
		}
		_, deleted, err := pending.Lookup(m.pending, record(a.ID))
		if errors.Is(err, pending.ErrRecord) {
			deleted, err = true, nil // its name still says whose it is
		}
		errs = append(errs, err)
		deleted = deleted || slices.ContainsFunc(undone[a.ID], func(r pending.Record) bool { return r.Means(a.NetNS, a.NetNSID) })
		if !keep || deleted {
			slog.Info("forgetting a pod that is gone", "attachment", a.ID, "netns", a.NetNS, "deleted", deleted)
			err := m.store.Delete(a.ID)
			if err == nil {
				continue
			}
			// It is attached as long as it is recorded, and what was promised of
			// it is tried again.
			errs = append(errs, err)
		}
		if other, taken := m.ports[a.Port]; taken {
			errs = append(errs, fmt.Errorf("attachments %s and %s both have port %s; restart the second one's pod", other, a.ID, a.Port))
			m.unreadable = append(m.unreadable, a.ID)
			continue
		}
		m.put(a)
	}
	errs = append(errs, m.clearPending(promised), m.collectLeases(""))
	for _, a := range m.List() {
		errs = append(errs, m.recoverLease(ctx, a))
	}
	return errors.Join(errs...)
}

// clearPending removes the records that are made good, Recover having left out
// their attachments (whose leases are stale), and those that spare what is
// attached.
func (m *Manager) clearPending(promised []pending.Record) error {
	var errs []error
	for _, r := range promised {
		id := promisedFor(r)
		if m.get(id) == nil && !m.damaged(id) || m.spares(r) {
			errs = append(errs, pending.Remove(m.pending, r))
		}
	}
	return errors.Join(errs...)
}

// recoverLease leases an attachment's addresses again if the lease is lost.
func (m *Manager) recoverLease(ctx context.Context, a *attachment.Attachment) error {
	lease, ok, err := m.leases.Lookup(owner(a.ID))
	if err != nil {
		return err
	}
	if ok && slices.Equal(lease.Addresses, a.Addresses) {
		return nil
	}
	if _, err := m.leases.Lease(ctx, owner(a.ID), ipam.Request{Pool: a.Pool, Addresses: a.Addresses}); err != nil {
		return fmt.Errorf("lease the addresses of %s again: %w; restart its pod", a.ID, err)
	}
	slog.Warn("leased the addresses of a pod again", "attachment", a.ID, "addresses", a.Addresses)
	return nil
}

// Rewire configures the interfaces again that the forwarder has made anew. The
// error has a line for each that could not be.
func (m *Manager) Rewire(ctx context.Context) error {
	var errs []error
	for _, a := range m.List() {
		if ctx.Err() != nil {
			break
		}
		errs = append(errs, m.rewire(ctx, a.ID))
	}
	return errors.Join(errs...)
}

func (m *Manager) rewire(ctx context.Context, id attachment.ID) error {
	unlock, err := m.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	a := m.get(id)
	if a == nil {
		return nil // deleted since
	}
	is, err := podnet.Look(a)
	switch {
	case errors.Is(err, podnet.ErrNoNetNS):
		return nil // the runtime will delete it
	case err != nil:
		return tried("look for the interface of", id, err)
	case is.Index == 0:
		return fmt.Errorf("%w: %s in %s is not there", ErrNoPort, a.IfName, a.NetNS)
	case is.Index == a.IfIndex && !is.Blank:
		return nil
	}
	done, err := m.configure(a)
	if err != nil {
		return tried("configure again", id, err)
	}
	if err := m.store.Put(done); err != nil {
		return err
	}
	m.put(done)
	slog.Info("configured an interface again that the forwarder made anew", "attachment", id)
	return nil
}
