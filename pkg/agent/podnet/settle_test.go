// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestConfigureSettles: when Configure returns, the kernel takes packets for the
// pod's addresses. The kernel adds the local route of an IPv6 address from a work
// queue; a ping right after an ADD was lost when that was busy.
func TestConfigureSettles(t *testing.T) {
	for range 40 {
		c, tun := pod(t)
		if _, err := Configure(c); err != nil {
			t.Fatal(err)
		}
		ns, err := netns.GetFromPath(c.NetNS)
		if err != nil {
			t.Fatal(err)
		}
		h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
		ns.Close()
		if err != nil {
			t.Fatal(err)
		}
		ok, err := isLocal(h, c.Addresses[1])
		h.Close()
		tun.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			t.Fatalf("%s has no local route", c.Addresses[1])
		}
	}
}
