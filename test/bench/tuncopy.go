// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/test/internal/netlab"
)

// tunCopy joins the pods by a loop that does nothing but copy each packet from one
// TUN to the other: what a process that forwards over TUN can reach at best here.
// It polls for some time after a packet, as NetIO's forwarder does, with that
// one's scheduling.
//
//	a eth0 ══ TUN  read, write  TUN ══ eth0 b
type tunCopy struct {
	kernelPath
	cancel context.CancelFunc
	done   chan error
}

const (
	tunQueue  = 2000 // packets, as on NetIO's soft device
	tunPolls  = 200 * time.Microsecond
	tunRounds = 16        // packets from one side before the other has its turn
	tunRoom   = 128 << 10 // more than a packet and its virtio-net header
	tunNice   = -10
)

func (*tunCopy) Name() string { return "tun-copy" }

func (t *tunCopy) Setup() (Pair, error) {
	a, b, _, err := namespaces(t.Name())
	if err != nil {
		return Pair{}, err
	}
	pair := Pair{A: a, B: b}
	pair.AAddr, _, pair.BAddr, _ = addresses(5)
	var fds []int
	for _, side := range []struct {
		ns   *netlab.Namespace
		addr netip.Addr
	}{{a, pair.AAddr}, {b, pair.BAddr}} {
		var fd int
		if err := side.ns.Do(func() (err error) { fd, err = openTUN(); return err }); err != nil {
			return Pair{}, err
		}
		fds = append(fds, fd)
		if err := side.ns.Up("eth0", netlab.Host(side.addr)); err != nil {
			return Pair{}, err
		}
		if err := side.ns.Route(netlab.Default(side.addr), netip.Addr{}, "eth0"); err != nil {
			return Pair{}, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel, t.done = cancel, make(chan error, 1)
	go func() { t.done <- copyBetween(ctx, [2]int(fds)) }()
	return pair, nil
}

// Stop implements Topology.
func (t *tunCopy) Stop() error {
	if t.cancel == nil {
		return nil
	}
	t.cancel()
	return <-t.done
}

// openTUN makes eth0 in the thread's network namespace, with the offloads of NetIO's
// soft device.
func openTUN() (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq("eth0")
	if err != nil {
		return -1, err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	if err := errors.Join(unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr), unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads)); err != nil {
		return -1, fmt.Errorf("make TUN interface: %w", err)
	}
	link, err := netlink.LinkByName("eth0")
	if err == nil {
		err = netlink.LinkSetTxQLen(link, tunQueue)
	}
	if err != nil {
		return -1, fmt.Errorf("set queue of TUN interface: %w", err)
	}
	return fd, nil
}

// copyBetween copies until ctx is done, and closes the files.
func copyBetween(ctx context.Context, fds [2]int) error {
	runtime.LockOSThread()
	defer func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) }()
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: tunNice}, 0); err != nil {
		return fmt.Errorf("set scheduling: %w", err)
	}
	buf := make([]byte, tunRoom)
	last := time.Now()
	for ctx.Err() == nil {
		found := false
		for i, from := range fds {
			for range tunRounds {
				n, err := unix.Read(from, buf)
				if err != nil {
					break
				}
				found = true
				_, _ = unix.Write(fds[1-i], buf[:n]) // what it does not take is lost
			}
		}
		if found {
			last = time.Now()
		} else if time.Since(last) > tunPolls {
			wait := []unix.PollFd{{Fd: int32(fds[0]), Events: unix.POLLIN}, {Fd: int32(fds[1]), Events: unix.POLLIN}}
			if _, err := unix.Poll(wait, 100); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("wait for packets: %w", err)
			}
		}
	}
	return nil
}
