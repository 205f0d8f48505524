// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"os"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/device/devicetest"
)

// nicFaults has allocations fail while a NIC is made a port, and steered.
func nicFaults(t *testing.T) {
	d, err := Open(Config{Name: "nic-faults", Nbufs: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Destroy(); err != nil {
			t.Error(err)
		}
	}()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "fault0"}, PeerName: "fault1"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(veth)
	link, err := netlink.LinkByName("fault0")
	if err != nil {
		t.Fatal(err)
	}

	fd := d.lanes[0].fd
	a, prefixes := &addNIC{}, make([]prefix, 600)
	for i := range prefixes {
		prefixes[i] = prefix{Addr: [16]byte{10, byte(i >> 8), byte(i)}, Family: unix.AF_INET, Len: 24}
	}
	add := func() error {
		*a = addNIC{IfIndex: uint32(link.Attrs().Index)}
		copy(a.Label[:], "nic")
		return ioctlPtr(fd, iocAddNIC, unsafe.Pointer(a))
	}
	remove := func(t *testing.T) {
		if err := ioctl(fd, iocDelPort, uintptr(a.Port)); err != nil {
			t.Fatal(err)
		}
	}
	left := func(t *testing.T) string {
		users, err := os.ReadFile("/sys/module/netio/refcnt")
		if err != nil {
			t.Fatal(err)
		}
		ports, err := d.Ports()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%susers, %d ports", users, len(ports))
	}
	t.Run("add", func(t *testing.T) {
		devicetest.EachFault(t, devicetest.FaultCase{Try: add, Left: left, Undo: func(t *testing.T, err error) {
			if err == nil {
				remove(t)
			}
		}})
	})
	t.Run("steer", func(t *testing.T) {
		devicetest.EachFault(t, devicetest.FaultCase{
			Prepare: func(t *testing.T) {
				if err := add(); err != nil {
					t.Fatal(err)
				}
			},
			Try: func() error {
				s := &steerNIC{Port: a.Port, Count: uint32(len(prefixes)), Prefixes: uint64(uintptr(unsafe.Pointer(&prefixes[0])))}
				return ioctlPtr(fd, iocSteer, unsafe.Pointer(s))
			},
			Undo: func(t *testing.T, _ error) { remove(t) },
			Left: left,
		})
	})
}
