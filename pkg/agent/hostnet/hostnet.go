// SPDX-License-Identifier: Apache-2.0

// Package hostnet gives the host its side of the pods' network, on an
// interface that the forwarder makes, the host knet:
//
//	              host's stack
//	eth0 ────────────┤ forwarding; masquerade (table inet netio)
//	                 │
//	netio0: 10.244.0.1/32 scope link, fd00:10:244::1/128 deprecated
//	                 │  10.244.0.0/24     dev netio0 src 10.244.0.1
//	                 │  fd00:10:244::/64  dev netio0 src fd00:10:244::1
//	                 │
//	            forwarder ── knets of the pods
//
// In a cluster, routes lead to the pods of the nodes that are neighbours, each by
// its node's address; and where services are the forwarder's business alone, their
// addresses lead to netio0, as do node ports, which get another destination first.
//
// The router addresses are the pods' gateway. They belong to the host's stack,
// which answers ping of them; the forwarder uses them as the source of its ICMP
// errors, for which the host accepts its own addresses as a source on this
// interface (accept_local). They are scope link and deprecated, so that the
// host never chooses them for traffic of its own except to pods, where the
// route names them.
//
// Everything is compared with what is there and changed only where it differs,
// so that Reconcile may be called at any time.
package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/agent/sysctl"
)

// Errors of Reconcile and Check.
var (
	// ErrNoInterface: the forwarder has not made the host knet, yet or any more.
	ErrNoInterface = errors.New("the host's knet is not there")
	// ErrForeign: an interface, address or route of someone else is in the way.
	ErrForeign = errors.New("in the way")
	// ErrNoIPv6: the kernel was started without IPv6.
	ErrNoIPv6 = errors.New("IPv6 is turned off")
	// ErrNotNeighbour: there is no direct way to another host.
	ErrNotNeighbour = errors.New("not a neighbour")
	// ErrNoNftables: the kernel cannot masquerade.
	ErrNoNftables = errors.New("nftables is not available")
)

// Config is what the host's network is to be.
type Config struct {
	// IfName of the host knet, MTU in bytes.
	IfName string
	MTU    int
	// Routers has at most one address of each family.
	Routers []netip.Addr
	// Sources has at most one address of each family, of the host's own, that it
	// speaks to pods from; a family without one has the router's.
	Sources []netip.Addr
	// Peers are other hosts with pods.
	Peers []Peer
	// Pods are the prefixes that lead to the knet.
	Pods []netip.Prefix
	// Masquerade gives what pods send to the world the host's address, except
	// to destinations in Except.
	Masquerade bool
	Except     []netip.Prefix
	// Services that are reached through the knet.
	Services Services
	// Tunnel is nil where peers are neighbours. Else their pods are reached through
	// the knet, too.
	Tunnel *Tunnel
}

// Tunnel is how the forwarder's tunnels to other hosts pass through the host's stack:
// what it sends comes from the knet, with an address of the host's as its source,
// and goes its way; what comes for it gets another destination, which leads to the
// knet.
type Tunnel struct {
	// VNI is VXLAN's network identifier, Port its UDP port.
	VNI  uint32
	Port uint16
	// Addresses of the host that other hosts send to, and Received, of the same
	// families, what becomes of them. At most one of each family.
	Addresses, Received []netip.Addr
	// MTU of pods in bytes: it is that of routes to pods.
	MTU int
}

// Services are what leads to the forwarder beside pods.
type Services struct {
	// Addresses of services.
	Addresses []netip.Addr
	// TCP, UDP and SCTP are ports, sorted, which on every address of the host but
	// loopback are a service's.
	TCP, UDP, SCTP []uint16
	// Sources are what the forwarder gives connections to services as their source,
	// at most one of each family, in the prefixes of pods. What goes on from there to
	// elsewhere gets the host's address. They are also the destination that node
	// ports get.
	Sources []netip.Addr
}

// Peer is another host, and the prefixes of its pods.
type Peer struct {
	Name string
	// Addresses of the host; the first one of a prefix's family leads to its pods.
	Addresses []netip.Addr
	Pods      []netip.Prefix
}

func (c *Config) router(six bool) (netip.Addr, bool) { return ofFamily(c.Routers, six) }

// source is the address that the host speaks to pods from.
func (c *Config) source(six bool) (netip.Addr, bool) {
	if a, ok := ofFamily(c.Sources, six); ok {
		return a, true
	}
	return c.router(six)
}

// ofFamily is the first address of a family.
func ofFamily(addresses []netip.Addr, six bool) (netip.Addr, bool) {
	for _, a := range addresses {
		if a.Is6() == six {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (c *Config) ipv6() bool {
	_, ok := c.router(true)
	return ok
}

// Host is a machine's, or a network namespace's, stack.
type Host struct {
	// NetNS is the path of the network namespace, "" for the caller's own.
	NetNS string
	// Sysctls are where they are, "" for where they usually are.
	Sysctls sysctl.Dir
	// SysctlRecord is a file that remembers the values of sysctls before they
	// were changed; "" for no record.
	SysctlRecord string

	// knet is the index of the host knet, 0 while there is none.
	knet atomic.Int64
}

// Reconcile makes the host's network what c says. It does all that it can;
// the error has a line for each part that it could not.
func (h *Host) Reconcile(c Config) error {
	return h.with(func(s *session) error {
		if c.Tunnel != nil { // what led past it goes first
			return errors.Join(s.reconcilePeers(c), s.reconcileLink(c), s.reconcileSysctls(c), s.reconcileNAT(c))
		}
		return errors.Join(s.reconcileLink(c), s.reconcilePeers(c), s.reconcileSysctls(c), s.reconcileNAT(c))
	})
}

// Remove takes away everything that Reconcile made, but leaves sysctls as they
// are: other programs may have come to rely on forwarding. What is gone
// already is no error.
func (h *Host) Remove(c Config) error {
	return h.with(func(s *session) error {
		c.Masquerade, c.Peers, c.Services, c.Tunnel = false, nil, Services{}, nil
		return errors.Join(s.removeLink(c), s.reconcilePeers(c), s.reconcileNAT(c))
	})
}

// RestoreSysctls puts the recorded values back and clears the record.
func (h *Host) RestoreSysctls() error {
	return h.with(func(s *session) error { return s.restoreSysctls() })
}

// session is one pass over the host's stack.
type session struct {
	*Host
	netlink *netlink.Handle
	ns      ns.NetNS // nil for the caller's own
}

func (h *Host) with(f func(*session) error) error {
	s := &session{Host: h}
	var err error
	if h.NetNS == "" {
		s.netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
	} else {
		if s.ns, err = ns.GetNS(h.NetNS); err != nil {
			return fmt.Errorf("open network namespace: %w", err)
		}
		defer s.ns.Close()
		s.netlink, err = netlink.NewHandleAt(netns.NsHandle(s.ns.Fd()), unix.NETLINK_ROUTE)
	}
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer s.netlink.Close()
	return f(s)
}

// inside runs f on a thread in the host's namespace.
func (s *session) inside(f func() error) error {
	if s.ns == nil {
		return f()
	}
	return s.ns.Do(func(ns.NetNS) error { return f() })
}
