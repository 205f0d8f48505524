// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// NewTaps returns the ends of a wire that carries what NICs can do beyond frames:
// packets of up to 64 KiB that are not cut yet, checksums that are not made yet,
// and several queues. In a network namespace of its own:
//
//	machine ── tap0 ── bridge ── tap1 ── machine
//
// It needs root, and lasts as long as the test.
func NewTaps(t testing.TB, queues, mtu int) (a, b Wire) {
	t.Helper()
	var ends [2]Wire
	made := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine; the taps keep the namespace.
		runtime.LockOSThread()
		made <- makeTaps(&ends, queues, mtu)
	}()
	err := <-made
	t.Cleanup(func() {
		for _, w := range ends {
			for _, f := range w.queues {
				f.Close()
			}
		}
	})
	if err != nil {
		t.Fatalf("make a wire of taps: %v", err)
	}
	return ends[0], ends[1]
}

func makeTaps(ends *[2]Wire, queues, mtu int) error {
	ns, err := netns.New()
	if err != nil {
		return err
	}
	defer ns.Close()
	// Nothing is on the wire but what the machines say.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil {
		return err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "wire", MTU: mtu}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return err
	}
	for i := range ends {
		name := fmt.Sprint("tap", i)
		ends[i].MAC = fmt.Sprintf("52:54:00:00:00:0%x", 0xa+i)
		for range queues {
			f, err := openTap(name, queues > 1)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			ends[i].queues = append(ends[i].queues, f)
		}
		tap, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, set := range []func() error{
			func() error { return netlink.LinkSetMTU(tap, mtu) },
			func() error { return netlink.LinkSetMaster(tap, bridge) },
			func() error { return netlink.LinkSetUp(tap) },
		} {
			if err := set(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// openTap opens a queue of a tap in the thread's network namespace.
func openTap(name string, several bool) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if several {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
