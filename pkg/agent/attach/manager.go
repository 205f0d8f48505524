// SPDX-License-Identifier: Apache-2.0

// Package attach wires pods to the forwarder and unwires them. Nothing is left
// of what was begun and not finished, whenever the agent is killed:
//
//	Add:  lease ──> port in force ──> interface configured ──> attachment recorded
//	Del:  attachment forgotten ──> port removed ──> lease released
//
// An attachment exists exactly while its record does. A lease or a port without
// one is left over from a kill, and Recover, before anything else is done,
// releases the first and leaves the second out of the configuration that the
// forwarder gets.
package attach

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/forwarder"
	"netio.dev/netio/pkg/agent/sysctl"
	"netio.dev/netio/pkg/cni/pending"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/ipam"
)

// Errors that callers decide on, besides those of packages ipam, podnet,
// forwarder and attachment.
var (
	// ErrUnknown: there is no such attachment.
	ErrUnknown = errors.New("not attached")
	// ErrElsewhere: the attachment exists with another network namespace that
	// is still there.
	ErrElsewhere = errors.New("attached to another network namespace")
	// ErrRequest: what was asked for is not possible.
	ErrRequest = errors.New("invalid request")
	// ErrNoPort: the forwarder could not make the interface.
	ErrNoPort = errors.New("the forwarder could not make the interface")
	// ErrNotReady: the host cannot take pods now.
	ErrNotReady = errors.New("the host is not ready")
	// ErrPool: the pod cannot have addresses of the pool that it is of.
	ErrPool = errors.New("pool of addresses")
	// ErrDiffers: an attachment is not as it was made.
	ErrDiffers = errors.New("the attachment was changed")
)

// Forwarder is what a Manager needs of a forwarder.Keeper.
type Forwarder interface {
	Add(ctx context.Context, port string, edit forwarder.Edit) (*dataplanev1.PortState, error)
	Remove(edit forwarder.Edit) error
	Observation() dataplanev1.ObservationClient
}

// Settings are what new attachments get.
type Settings struct {
	MTU int
	// Gateways has at most one address of each family.
	Gateways []netip.Addr
	// Sysctls are where they are, "" for where they usually are.
	Sysctls sysctl.Dir
}

// Manager adds and removes attachments. Its methods may be called
// concurrently, after Recover.
type Manager struct {
	leases    *ipam.Allocator
	store     *attachment.Store
	forwarder Forwarder
	ready     func(context.Context, *Request) error
	detached  func()
	blocks    Blocks
	pending   string // folder

	locks keyedMutex
	// leasing is held for reading from a lease to its record, so that GC does
	// not take the lease for a stale one.
	leasing sync.RWMutex

	mu       sync.Mutex
	settings Settings
	attached map[attachment.ID]*attachment.Attachment
	// ports has the names in use, also by attachments that are being added.
	ports map[string]attachment.ID
	// unreadable are attachments whose records are damaged: their leases stay.
	unreadable []attachment.ID
}

// NewManager makes a Manager; pendingDir is the folder of package pending.
func NewManager(leases *ipam.Allocator, store *attachment.Store, pendingDir string, s Settings) *Manager {
	return &Manager{leases: leases, store: store, pending: pendingDir, settings: s,
		attached: map[attachment.ID]*attachment.Attachment{}, ports: map[string]attachment.ID{}}
}

// Use sets the forwarder, what waits until the host can take a pod, completes the
// request, and tells why it cannot (nil: it always can), and what is called when an
// attachment is no more, before the first call but Recover.
func (m *Manager) Use(f Forwarder, ready func(context.Context, *Request) error, detached func()) {
	m.forwarder, m.ready, m.detached = f, ready, detached
}

// UseBlocks sets what tells of the blocks of pools, before the first call but Recover.
func (m *Manager) UseBlocks(b Blocks) { m.blocks = b }

// Set changes what new attachments get.
func (m *Manager) Set(s Settings) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settings = s
}

// List returns the attachments, by ID.
func (m *Manager) List() []*attachment.Attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.attached), func(a, b *attachment.Attachment) int {
		return strings.Compare(a.ID.String(), b.ID.String())
	})
}

func (m *Manager) get(id attachment.ID) *attachment.Attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.attached[id]
}

func (m *Manager) put(a *attachment.Attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attached[a.ID] = a
	m.ports[a.Port] = a.ID
}

func (m *Manager) forget(a *attachment.Attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.attached, a.ID)
	delete(m.ports, a.Port)
}

// shortID is how much of a container's ID people see, as with docker and ctr.
const shortID = 12

// reservePort takes a name for the port of an attachment: short if it can be.
func (m *Manager) reservePort(id attachment.ID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := id.ContainerID[:min(len(id.ContainerID), shortID)] + "/" + id.IfName
	if _, taken := m.ports[name]; taken {
		name = id.String()
	}
	m.ports[name] = id
	return name
}

func (m *Manager) freePort(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ports, name)
}

func owner(id attachment.ID) string { return ipam.Owner(id.Network, id.ContainerID, id.IfName) }

func record(id attachment.ID) pending.Record {
	return pending.Record{Network: id.Network, ContainerID: id.ContainerID, IfName: id.IfName}
}

func promisedFor(r pending.Record) attachment.ID {
	return attachment.ID{Network: r.Network, ContainerID: r.ContainerID, IfName: r.IfName}
}

func (m *Manager) damaged(id attachment.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.unreadable, id)
}

// known are the attachments, also those whose records are damaged.
func (m *Manager) known() []attachment.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.AppendSeq(slices.Clone(m.unreadable), maps.Keys(m.attached))
}

// tried names what failed for whom.
func tried(what string, id attachment.ID, err error) error {
	return fmt.Errorf("%s %s: %w", what, id, err)
}
