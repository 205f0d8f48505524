// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// settleTime bounds the wait for the kernel's work queue; it takes some
	// microseconds on a quiet machine, and tens of milliseconds on a busy one.
	settleTime  = 5 * time.Second
	settlePause = time.Millisecond
)

// settle waits until the kernel takes packets for the addresses. An IPv6
// address is usable only once its local route is there, and the kernel adds
// that from a work queue some time after the interface has come up, also
// without duplicate address detection (net/ipv6/addrconf.c, addrconf_dad_work).
// What comes before is dropped in silence.
func settle(h *netlink.Handle, addrs []netip.Addr) error {
	deadline := time.Now().Add(settleTime)
	for _, a := range addrs {
		if a.Is4() {
			continue
		}
		for {
			ok, err := isLocal(h, a)
			if err != nil {
				return err
			}
			if ok {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("the kernel has not made %s usable within %v; try again", a, settleTime)
			}
			time.Sleep(settlePause)
		}
	}
	return nil
}

func isLocal(h *netlink.Handle, a netip.Addr) (bool, error) {
	want := &netlink.Route{Dst: ipNet(netip.PrefixFrom(a, a.BitLen())), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL}
	got, err := h.RouteListFiltered(netlink.FAMILY_V6, want, netlink.RT_FILTER_DST|netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	if err != nil {
		return false, fmt.Errorf("list local routes: %w", err)
	}
	return len(got) > 0, nil
}
