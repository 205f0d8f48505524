// SPDX-License-Identifier: Apache-2.0

// Package podnet configures a pod's knet inside the pod's network namespace:
//
//	eth0: <POINTOPOINT,NOARP,UP> mtu 1500        made by the forwarder, down
//	    inet  10.244.0.7/32
//	    inet6 fd00:10:244::7/128 nodad
//	10.244.0.1 dev eth0 scope link               the gateway is on link,
//	default via 10.244.0.1 dev eth0              so tools that need one find one
//	fd00:10:244::1 dev eth0
//	default via fd00:10:244::1 dev eth0
//
// There is no ARP and no neighbour discovery on a knet; the gateway's address
// is only a name for it. Nothing here moves a thread of the agent into a pod's
// namespace but for the moment that a sysctl is written, on a thread locked
// for that.
package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/netnsid"
	"netio.dev/netio/pkg/agent/sysctl"
)

// Config is what a pod's interface is to be.
type Config struct {
	// NetNS and NetNSID say where it is.
	NetNS   string
	NetNSID netnsid.ID
	IfName  string
	MTU     int
	// Addresses of the pod; Gateways of the node, at most one of a family.
	Addresses []netip.Addr
	Gateways  []netip.Addr
	// Sysctls are where they are, "" for where they usually are.
	Sysctls sysctl.Dir
}

// State is what a pod's interface has become.
type State struct {
	IfIndex int
	// Routes that lead through the interface. A route that the pod had
	// already, through another interface, stays as it was and is not listed: with
	// several networks the first one has the default route.
	Routes []attachment.Route
}

// Configure gives the interface its MTU, addresses and routes and sets it
// up. What is there already is no error. Errors: ErrNoNetNS.
func Configure(c Config) (State, error) {
	n, err := openSame(c.NetNS, c.NetNSID)
	if err != nil {
		return State{}, err
	}
	defer n.Close()
	h, err := netlink.NewHandleAt(netns.NsHandle(n.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return State{}, fmt.Errorf("open netlink in %s: %w", c.NetNS, err)
	}
	defer h.Close()
	link, err := h.LinkByName(c.IfName)
	if err != nil {
		return State{}, fmt.Errorf("find %s in %s: %w", c.IfName, c.NetNS, err)
	}
	if err := setLink(n, h, link, c); err != nil {
		return State{}, fmt.Errorf("configure %s in %s: %w", c.IfName, c.NetNS, err)
	}
	s := State{IfIndex: link.Attrs().Index}
	for _, g := range gateways(c) {
		for _, r := range []attachment.Route{
			{Destination: netip.PrefixFrom(g, g.BitLen())},
			{Destination: netip.PrefixFrom(g, 0).Masked(), Gateway: g},
		} {
			ours, err := addRoute(h, s.IfIndex, r)
			if err != nil {
				return State{}, fmt.Errorf("add route %s to %s in %s: %w", r.Destination, c.IfName, c.NetNS, err)
			}
			if !ours {
				break // the gateway is behind the first network's interface
			}
			s.Routes = append(s.Routes, r)
		}
	}
	return s, nil
}

func setLink(n ns.NetNS, h *netlink.Handle, link netlink.Link, c Config) error {
	if err := h.LinkSetMTU(link, c.MTU); err != nil {
		return fmt.Errorf("set MTU %d: %w", c.MTU, err)
	}
	six := false
	for _, a := range c.Addresses {
		six = six || a.Is6()
	}
	if six {
		if err := n.Do(func(ns.NetNS) error { return enableIPv6(c.Sysctls, c.IfName) }); err != nil {
			return err
		}
	}
	for _, a := range c.Addresses {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, a.BitLen()))}
		if a.Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := h.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add address %s: %w", a, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return settle(h, c.Addresses)
}

// enableIPv6 runs in the pod's namespace: some runtimes make namespaces in
// which IPv6 is off.
func enableIPv6(sysctls sysctl.Dir, ifname string) error {
	conf := filepath.Join("ipv6/conf", ifname)
	if _, err := os.Stat(sysctls.Path(conf)); err != nil {
		return fmt.Errorf("this kernel has IPv6 turned off: boot without ipv6.disable=1 or take the IPv6 prefixes out of podCIDRs (%w)", err)
	}
	for name, value := range map[string]string{
		"disable_ipv6":  "0",
		"accept_ra":     "0",
		"addr_gen_mode": "1", // no link-local address, so no router solicitations: nobody answers
	} {
		if err := sysctls.Write(filepath.Join(conf, name), value); err != nil {
			return fmt.Errorf("turn IPv6 on: %w", err)
		}
	}
	return nil
}

// gateways are those of the families that the pod has addresses of.
func gateways(c Config) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(c.Gateways), func(g netip.Addr) bool {
		return !slices.ContainsFunc(c.Addresses, func(a netip.Addr) bool { return a.Is4() == g.Is4() })
	})
}

// addRoute adds a route unless there is one with that destination, and tells
// whether the route that is there now is ours.
func addRoute(h *netlink.Handle, ifindex int, r attachment.Route) (ours bool, err error) {
	err = h.RouteAdd(toNetlink(ifindex, r))
	if !errors.Is(err, unix.EEXIST) {
		return err == nil, err
	}
	return hasRoute(h, ifindex, r)
}

func toNetlink(ifindex int, r attachment.Route) *netlink.Route {
	nr := &netlink.Route{LinkIndex: ifindex, Dst: ipNet(r.Destination)}
	if r.Gateway.IsValid() {
		nr.Gw = r.Gateway.AsSlice()
	} else {
		nr.Scope = netlink.SCOPE_LINK
	}
	return nr
}

func hasRoute(h *netlink.Handle, ifindex int, r attachment.Route) (bool, error) {
	family := netlink.FAMILY_V6
	if r.Destination.Addr().Is4() {
		family = netlink.FAMILY_V4
	}
	want := toNetlink(ifindex, r)
	got, err := h.RouteListFiltered(family, want, netlink.RT_FILTER_DST|netlink.RT_FILTER_OIF)
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	for _, g := range got {
		if g.Gw.Equal(want.Gw) {
			return true, nil
		}
	}
	return false, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
