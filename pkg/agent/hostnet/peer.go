// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// reconcilePeers leads the prefixes of other hosts' pods to those hosts, and
// takes away what led to hosts that are gone.
func (s *session) reconcilePeers(c Config) error {
	have, err := s.peerRoutes()
	if err != nil {
		return err
	}
	want := map[netip.Prefix]*netlink.Route{}
	var errs []error
	if c.Tunnel != nil {
		c.Peers = nil
	}
	for _, peer := range c.Peers {
		for _, p := range peer.Pods {
			r, err := s.peerRoute(peer, p)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			want[p] = r
		}
	}
	moved := map[netip.Prefix]bool{}
	for _, r := range have {
		p, _ := prefixOf(r.Dst)
		if w := want[p]; w != nil {
			if w.LinkIndex == r.LinkIndex && w.Gw.Equal(r.Gw) {
				delete(want, p)
			}
			moved[p] = true
			continue
		}
		if err := s.netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("remove route %s by %s: %w", p, r.Gw, err))
		}
	}
	for p, r := range want {
		set := s.netlink.RouteAdd
		if moved[p] {
			set = s.netlink.RouteReplace
		}
		switch err := set(r); {
		case errors.Is(err, unix.EEXIST):
			errs = append(errs, fmt.Errorf("%w: there is a route to %s, pods of another node, already; remove it, or give the cluster other prefixes for pods", ErrForeign, p))
		case err != nil:
			errs = append(errs, fmt.Errorf("add route %s by %s: %w", p, r.Gw, err))
		}
	}
	return errors.Join(errs...)
}

// peerRoutes are our routes by other hosts.
func (s *session) peerRoutes() ([]netlink.Route, error) {
	all, err := s.netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: routeProtocol, Table: mainTable}, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []netlink.Route
	for _, r := range all {
		if len(r.Gw) > 0 {
			routes = append(routes, r)
		}
	}
	return routes, nil
}

// peerRoute is the route to a prefix of a peer's pods. The peer must be on a link
// of the host's: a router between them would not know the pods.
func (s *session) peerRoute(peer Peer, p netip.Prefix) (*netlink.Route, error) {
	via, ok := ofFamily(peer.Addresses, p.Addr().Is6())
	if !ok {
		return nil, fmt.Errorf("%w: node %s has pods in %s and no address of that family; give it one (kubelet --node-ip)", ErrNotNeighbour, peer.Name, p)
	}
	ways, err := s.netlink.RouteGet(via.AsSlice())
	if err != nil {
		return nil, fmt.Errorf("find the way to node %s at %s: %w", peer.Name, via, err)
	}
	for _, w := range ways {
		if len(w.Gw) == 0 && w.Type == unix.RTN_UNICAST {
			return &netlink.Route{LinkIndex: w.LinkIndex, Dst: ipNet(p), Gw: via.AsSlice(), Protocol: routeProtocol}, nil
		}
	}
	return nil, fmt.Errorf("%w: %s of node %s is on no link of this host; its pods can be reached only where nodes share a network", ErrNotNeighbour, via, peer.Name)
}
