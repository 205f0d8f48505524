// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostRoute is where a machine's kernel sends what is for an address.
type hostRoute struct {
	text string     // in words
	src  netip.Addr // that the machine itself sends with; not valid without one
	via  netip.Addr // the next router; not valid without one
}

// thisHostRoute asks this machine's kernel, in the network namespace of netioctl.
func thisHostRoute(dst netip.Addr) (hostRoute, error) {
	routes, err := netlink.RouteGet(dst.AsSlice())
	if err != nil {
		return hostRoute{}, err
	}
	if len(routes) == 0 {
		return hostRoute{}, fmt.Errorf("no route to %s", dst)
	}
	r := routes[0]
	switch r.Type {
	case unix.RTN_LOCAL:
		return hostRoute{text: dst.String() + " is its own"}, nil
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT:
		return hostRoute{text: "it has no way to " + dst.String()}, nil
	}
	h := hostRoute{text: dst.String()}
	if src, ok := netip.AddrFromSlice(r.Src); ok {
		h.src = src.Unmap()
	}
	if via, ok := netip.AddrFromSlice(r.Gw); ok {
		h.via = via.Unmap()
		h.text += " by " + h.via.String()
	}
	if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
		h.text += " on " + link.Attrs().Name
	}
	return h, nil
}

// toNeighbour tells whether a route leads elsewhere than to where all else goes: to
// another node, for one.
func (a *app) toNeighbour(r hostRoute) bool {
	if !r.via.IsValid() {
		return false
	}
	for _, out := range outside.addresses {
		if out.Is4() == r.via.Is4() {
			rest, err := a.hostRoute(out)
			return err != nil || rest.via != r.via
		}
	}
	return false
}

// sendsAs gives the host's place the addresses with which the host really sends to
// dst, as far as its kernel can be asked: a port's own are its gateway's.
func (a *app) sendsAs(src, dst place) place {
	var addresses []netip.Addr
	for _, to := range dst.addresses {
		if r, err := a.hostRoute(to); err == nil && r.src.IsValid() {
			addresses = append(addresses, r.src)
		}
	}
	if len(addresses) > 0 {
		src.addresses = addresses
	}
	return src
}
