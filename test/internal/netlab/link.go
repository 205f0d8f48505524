// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connect makes a veth pair with one end in each namespace, both up.
func Connect(a *Namespace, aName string, b *Namespace, bName string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	err := a.Netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     attrs,
		PeerName:      bName,
		PeerNamespace: netlink.NsFd(int(b.handle)),
	})
	if err != nil {
		return fmt.Errorf("make veth %s in %s, %s in %s: %w", aName, a.Name, bName, b.Name, err)
	}
	if err := a.Up(aName); err != nil {
		return err
	}
	return b.Up(bName)
}

// Up sets an interface up and gives it addresses. IPv6 addresses are usable at
// once: there is nobody whom duplicate address detection could find.
func (n *Namespace) Up(ifname string, addrs ...netip.Prefix) error {
	link, err := n.Netlink.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("interface %s in %s: %w", ifname, n.Name, err)
	}
	for _, a := range addrs {
		addr := &netlink.Addr{IPNet: ipNet(a)}
		if a.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := n.Netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add %s to %s in %s: %w", a, ifname, n.Name, err)
		}
	}
	if err := n.Netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set up %s in %s: %w", ifname, n.Name, err)
	}
	return nil
}

// Bridge makes a bridge of the interfaces.
func (n *Namespace) Bridge(name string, members ...string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := n.Netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make bridge %s in %s: %w", name, n.Name, err)
	}
	for _, m := range members {
		if err := n.Enslave(name, m); err != nil {
			return err
		}
	}
	return n.Up(name)
}

// Enslave puts an interface into a bridge.
func (n *Namespace) Enslave(bridge, member string) error {
	master, err := n.Netlink.LinkByName(bridge)
	var link netlink.Link
	if err == nil {
		link, err = n.Netlink.LinkByName(member)
	}
	if err == nil {
		err = n.Netlink.LinkSetMaster(link, master)
	}
	if err != nil {
		return fmt.Errorf("put %s into bridge %s in %s: %w", member, bridge, n.Name, err)
	}
	return nil
}

// Route adds a route by an interface; without a valid gateway the destination
// is on the link.
func (n *Namespace) Route(to netip.Prefix, gateway netip.Addr, ifname string) error {
	link, err := n.Netlink.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("interface %s in %s: %w", ifname, n.Name, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to)}
	if gateway.IsValid() {
		route.Gw = gateway.AsSlice()
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := n.Netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("add route to %s in %s: %w", to, n.Name, err)
	}
	return nil
}

// Default is the prefix of all addresses of the family of a.
func Default(a netip.Addr) netip.Prefix {
	if a.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// Host is the prefix of a alone.
func Host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
