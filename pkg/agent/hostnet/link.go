// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks our routes, as rtnetlink(7) asks of routing daemons; the
// number is not in use by those of iproute2's rt_protos.
const routeProtocol = netlink.RouteProtocol(110)

// reconcileLink does the host knet itself, its addresses and routes.
func (s *session) reconcileLink(c Config) error {
	link, err := s.findLink(c.IfName)
	if err != nil {
		return err
	}
	if link == nil {
		s.knet.Store(0)
		return fmt.Errorf("%w: there is no %s; the forwarder makes it when it has its configuration", ErrNoInterface, c.IfName)
	}
	s.knet.Store(int64(link.Attrs().Index))
	if link.Attrs().MTU != c.MTU {
		if err := s.netlink.LinkSetMTU(link, c.MTU); err != nil {
			return fmt.Errorf("set MTU %d of %s: %w", c.MTU, c.IfName, err)
		}
	}
	if c.ipv6() {
		if err := s.inside(func() error { return s.enableIPv6(c.IfName) }); err != nil {
			return err
		}
	}
	if err := s.reconcileAddresses(link, c); err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := s.netlink.LinkSetUp(link); err != nil {
			return fmt.Errorf("set %s up: %w", c.IfName, err)
		}
	}
	return s.reconcileRoutes(link, c)
}

// findLink returns the host knet, nil if it is not there. An interface with
// its name that is no knet is not touched.
func (s *session) findLink(name string) (netlink.Link, error) {
	link, err := s.netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", name, err)
	}
	if t, ok := link.(*netlink.Tuntap); ok && t.Mode == netlink.TUNTAP_MODE_TUN || link.Type() == "knet" {
		return link, nil
	}
	return nil, fmt.Errorf("%w: interface %s is of type %q and not a knet; set hostInterface to a name that is not in use", ErrForeign, name, link.Type())
}

// reconcileAddresses gives the interface the router addresses and takes all
// others from it.
func (s *session) reconcileAddresses(link netlink.Link, c Config) error {
	have, err := s.netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", c.IfName, err)
	}
	missing := map[netip.Addr]bool{}
	for _, r := range c.Routers {
		missing[r] = true
	}
	for _, a := range have {
		ip, _ := netip.AddrFromSlice(a.IP)
		ip = ip.Unmap()
		ones, bits := a.Mask.Size()
		if missing[ip] && ones == bits && (ip.Is6() || a.Scope == unix.RT_SCOPE_LINK) && (ip.Is4() || a.PreferedLft == 0) {
			delete(missing, ip)
			continue
		}
		if err := s.netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s from %s: %w", a.IPNet, c.IfName, err)
		}
	}
	for r := range missing {
		if err := s.noForeign(link, netip.PrefixFrom(r, r.BitLen())); err != nil {
			return err
		}
		a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(r, r.BitLen()))}
		if r.Is4() {
			a.Scope = unix.RT_SCOPE_LINK
		} else {
			a.Flags = unix.IFA_F_NODAD
			a.ValidLft, a.PreferedLft = math.MaxUint32, 0
		}
		if err := s.netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("add address %s to %s: %w", r, c.IfName, err)
		}
	}
	return nil
}

// reconcileRoutes leads the prefixes of pods and the addresses of services to the
// interface.
func (s *session) reconcileRoutes(link netlink.Link, c Config) error {
	missing := map[netip.Prefix]*netlink.Route{}
	want := func(p netip.Prefix) {
		r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(p), Protocol: routeProtocol}
		if p.Addr().Is4() {
			r.Scope = netlink.SCOPE_LINK
		}
		if src, ok := c.source(p.Addr().Is6()); ok {
			r.Src = src.AsSlice()
		}
		missing[p] = r
	}
	for _, a := range c.Services.Addresses {
		want(netip.PrefixFrom(a, a.BitLen()))
	}
	for _, p := range c.Pods {
		want(p)
	}
	if c.Tunnel != nil {
		for _, peer := range c.Peers {
			for _, p := range peer.Pods {
				want(p)
			}
		}
		for _, r := range missing {
			r.MTU = c.Tunnel.MTU
		}
		// What comes in the tunnel is as large as the network between the hosts allows.
		for _, a := range c.Tunnel.Received {
			want(netip.PrefixFrom(a, a.BitLen()))
		}
	}
	have, err := s.ourRoutes(link)
	if err != nil {
		return err
	}
	for _, r := range have {
		p, _ := prefixOf(r.Dst)
		if want := missing[p]; want != nil && want.Src.Equal(r.Src) && want.MTU == r.MTU {
			delete(missing, p)
			continue
		}
		if err := s.netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("remove route %s from %s: %w", r.Dst, c.IfName, err)
		}
	}
	var errs []error
	for p, r := range missing {
		if !isService(c, p) {
			if err := s.noForeign(link, p); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if err := s.netlink.RouteAdd(r); err != nil {
			errs = append(errs, fmt.Errorf("add route %s to %s: %w", p, c.IfName, err))
		}
	}
	return errors.Join(errs...)
}

// isService tells routes to services, and to the forwarder itself, from those to pods.
func isService(c Config, p netip.Prefix) bool {
	return p.IsSingleIP() && (slices.Contains(c.Services.Addresses, p.Addr()) || c.Tunnel != nil && slices.Contains(c.Tunnel.Received, p.Addr()))
}

func (s *session) ourRoutes(link netlink.Link) ([]netlink.Route, error) {
	filter := &netlink.Route{LinkIndex: link.Attrs().Index, Protocol: routeProtocol}
	rs, err := s.netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes of %s: %w", link.Attrs().Name, err)
	}
	return rs, nil
}

// removeLink takes addresses and routes away by deleting the interface; while
// the forwarder holds it, that takes it from the forwarder.
func (s *session) removeLink(c Config) error {
	link, err := s.findLink(c.IfName)
	if err != nil || link == nil {
		return err
	}
	if err := s.netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", c.IfName, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok
}
