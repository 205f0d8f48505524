// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostRoute is where this machine's kernel would send what is for an address, in
// words. The network namespace is that of netioctl.
func hostRoute(dst netip.Addr) (string, error) {
	routes, err := netlink.RouteGet(dst.AsSlice())
	if err != nil {
		return "", err
	}
	if len(routes) == 0 {
		return "", fmt.Errorf("no route to %s", dst)
	}
	r := routes[0]
	switch r.Type {
	case unix.RTN_LOCAL:
		return dst.String() + " is its own", nil
	case unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT:
		return "it has no way to " + dst.String(), nil
	}
	s := dst.String()
	if r.Gw != nil {
		s += " by " + r.Gw.String()
	}
	if link, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
		s += " on " + link.Attrs().Name
	}
	return s, nil
}
