// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"fmt"
	"strings"
	"testing"

	"netio.dev/netio/test/vm"
)

// TestVirtio has netio_virtio do what a driver of a NIC does beside packets: MTU,
// MAC address, receive filter, suspend, end and beginning anew.
func TestVirtio(t *testing.T) {
	const mtu = 1400 // as the device advises
	for _, series := range nicSeries(t) {
		t.Run(series.Name, func(t *testing.T) {
			one, other := vm.NewWire(t.TempDir())
			one.Options = fmt.Sprint("host_mtu=", mtu)
			nodes := startNodesOn(t, vm.Config{Series: series}, mtu, one, other)
			n := nodes[0]
			for _, n := range nodes {
				n.useNative(t)
			}
			if got := strings.TrimSpace(n.run(t, "nic cat /sys/class/net/eth0/mtu")); got != fmt.Sprint(mtu) {
				t.Errorf("the MTU is %s, and the device advises %d", got, mtu)
			}
			if r, err := n.Run(t.Context(), vm.Command{Args: strings.Fields("ip link set eth0 mtu 1500")}); err != nil || r.Code == 0 {
				t.Errorf("an MTU beyond the device's: %v, %s", err, r.Output)
			}
			for _, n := range nodes {
				n.configure(t)
				n.connect(t, "")
			}
			// works has the pods, and the hosts, reach each other.
			works := func(what string) {
				t.Helper()
				t.Log(what)
				for i, n := range nodes {
					other := nodes[1-i].number
					n.run(t, "ip neigh flush dev eth0")
					for _, args := range []string{
						"ping -c 2 -i 0.2 -w 20 192.0.2.%d", "ping -c 2 -i 0.2 -w 20 2001:db8::%d",
						"ip netns exec pod ping -c 2 -i 0.2 -w 20 10.0.%d.2", "ip netns exec pod ping -c 2 -i 0.2 -w 20 fd00:%d::2",
					} {
						n.run(t, fmt.Sprintf(args, other))
					}
				}
			}
			works("as it is at first")
			// The device filters by the addresses that it has been told.
			n.ip(t, "link set eth0 address 52:54:00:00:00:77")
			works("with another MAC address")
			n.ip(t, "link set eth0 promisc on")
			works("with all packets")
			n.ip(t, "link set eth0 promisc off")
			for i := range 70 { // more than the filter has room for
				n.ip(t, fmt.Sprintf("maddr add 33:33:00:00:01:%02x dev eth0", i))
			}
			works("with many groups")
			n.ip(t, "link set eth0 down")
			n.configure(t)
			works("down and up")

			if err := n.Write(t.Context(), "/sys/power/pm_test", "devices"); err != nil {
				t.Logf("no suspend: %v", err) // a kernel without CONFIG_PM_DEBUG
				return
			}
			if err := n.Write(t.Context(), "/sys/power/state", "freeze"); err != nil {
				t.Fatal(err)
			}
			works("after suspend")
		})
	}
}
