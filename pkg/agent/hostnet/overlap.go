// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Check reports addresses and routes of the host which lie in the prefixes of
// pods, and an interface that has the host knet's name without being one:
// taking those over would cut the host's own traffic. Errors: ErrForeign, one
// line for each.
func (h *Host) Check(c Config) error {
	return h.with(func(s *session) error {
		link, err := s.findLink(c.IfName)
		errs := []error{err}
		for _, p := range c.Pods {
			errs = append(errs, s.noForeign(link, p))
		}
		return errors.Join(errs...)
	})
}

// noForeign reports an address or route that is not of the host knet and lies in
// p. Wider routes, the default one above all, are no conflict: the longest
// prefix wins.
func (s *session) noForeign(knet netlink.Link, p netip.Prefix) error {
	ours := -1
	if knet != nil {
		ours = knet.Attrs().Index
	}
	family := netlink.FAMILY_V6
	if p.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	addrs, err := s.netlink.AddrList(nil, family)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		ip, _ := netip.AddrFromSlice(a.IP)
		if a.LinkIndex != ours && p.Contains(ip.Unmap()) {
			return fmt.Errorf("%w: %s has address %s, which is in %s of the pods; choose other podCIDRs", ErrForeign, s.ifName(a.LinkIndex), ip.Unmap(), p)
		}
	}
	routes, err := s.netlink.RouteListFiltered(family, &netlink.Route{Table: mainTable}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if dst, ok := prefixOf(r.Dst); ok && r.LinkIndex != ours && dst.Bits() >= p.Bits() && p.Contains(dst.Addr()) {
			return fmt.Errorf("%w: the route to %s by %s lies in %s of the pods; choose other podCIDRs or remove the route", ErrForeign, dst, s.ifName(r.LinkIndex), p)
		}
	}
	return nil
}

// mainTable is RT_TABLE_MAIN of rtnetlink(7).
const mainTable = 254

func (s *session) ifName(index int) string {
	if link, err := s.netlink.LinkByIndex(index); err == nil {
		return link.Attrs().Name
	}
	return fmt.Sprintf("interface %d", index)
}

// Addresses returns the addresses of the host that others can reach it by, in
// the order that the kernel lists them: all but loopback and link-local ones.
func (h *Host) Addresses() (list []netip.Addr, err error) {
	err = h.with(func(s *session) error {
		addrs, err := s.netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		for _, a := range addrs {
			ip, _ := netip.AddrFromSlice(a.IP)
			if ip = ip.Unmap(); ip.IsGlobalUnicast() {
				list = append(list, ip)
			}
		}
		return nil
	})
	return list, err
}

// UplinkMTU returns the smallest MTU of the interfaces that have one of the addresses,
// or else a default route; 1500 if there is none.
func (h *Host) UplinkMTU(addresses []netip.Addr) (mtu int, err error) {
	err = h.with(func(s *session) error {
		if mtu, err = s.mtuOf(addresses); mtu != 0 || err != nil {
			return err
		}
		routes, err := s.netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: mainTable}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if dst, ok := prefixOf(r.Dst); ok && dst.Bits() != 0 {
				continue
			}
			hops := []int{r.LinkIndex}
			for _, n := range r.MultiPath {
				hops = append(hops, n.LinkIndex)
			}
			for _, i := range hops {
				if link, err := s.netlink.LinkByIndex(i); err == nil && link.Type() != "loopback" && (mtu == 0 || link.Attrs().MTU < mtu) {
					mtu = link.Attrs().MTU
				}
			}
		}
		return nil
	})
	if mtu == 0 {
		mtu = 1500
	}
	return max(mtu, 1280), err
}

// mtuOf is the smallest MTU of the interfaces that have one of the addresses, 0 if
// none has.
func (s *session) mtuOf(addresses []netip.Addr) (mtu int, err error) {
	if len(addresses) == 0 {
		return 0, nil
	}
	all, err := s.netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return 0, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range all {
		if ip, _ := netip.AddrFromSlice(a.IP); !slices.Contains(addresses, ip.Unmap()) {
			continue
		}
		if link, err := s.netlink.LinkByIndex(a.LinkIndex); err == nil && (mtu == 0 || link.Attrs().MTU < mtu) {
			mtu = link.Attrs().MTU
		}
	}
	return mtu, nil
}
