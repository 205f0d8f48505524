// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// tunFlags of every knet's interface: layer 3, no packet information, and
// virtio-net headers for offloads.
const tunFlags = unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR

// txQueueLen is the length of a TUN's queue towards the device, in packets. It
// has to take what senders have in flight while the lane is busy elsewhere: a
// full queue drops.
const txQueueLen = 2000

const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN

// onThread runs f on a thread of its own that is thrown away after it, so that f
// may change the thread's network namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread does not end with a goroutine. While this one
			// occupies it, the next gets another.
			defer runtime.UnlockOSThread()
			done <- onThread(f)
			return
		}
		done <- f()
	}()
	return <-done
}

// inNetns runs f on a thread in the network namespace that the file refers to.
func inNetns(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
		}
		return f()
	})
}

// openTUN makes the TUN interface ifname in the thread's network namespace, or
// attaches to it if it is there and has no user. uso tells whether the
// kernel also segments UDP.
//
// The descriptor stays a bare number: an os.File would put it into the
// runtime's poller, which then woke up for each packet.
func openTUN(ifname string) (fd int, uso bool, err error) {
	fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return -1, false, fmt.Errorf("open /dev/net/tun: %w (load the tun module, or give the container the device)", err)
	}
	if err != nil {
		return -1, false, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	if uso, err = setUpTUN(fd, ifname); err != nil {
		unix.Close(fd)
		return -1, false, err
	}
	return fd, uso, nil
}

func setUpTUN(fd int, ifname string) (uso bool, err error) {
	ifr, err := unix.NewIfreq(ifname)
	if err != nil {
		return false, fmt.Errorf("interface name %q: %w", ifname, err)
	}
	ifr.SetUint16(tunFlags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return false, fmt.Errorf("make TUN interface %s: %w", ifname, err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetLen); err != nil {
		return false, fmt.Errorf("set header size of %s: %w", ifname, err)
	}
	if uso, err = setOffloads(fd); err != nil {
		return false, fmt.Errorf("set offloads of %s: %w", ifname, err)
	}
	return uso, nil
}

// setOffloads lets the kernel hand out and take unsegmented packets. UDP
// segmentation needs Linux 6.2.
func setOffloads(fd int) (uso bool, err error) {
	if unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads|unix.TUN_F_USO4|unix.TUN_F_USO6) == nil {
		return true, nil
	}
	return false, unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads)
}

// setPersist says whether the interface outlives its last file.
func setPersist(fd int, on bool) error {
	v := 0
	if on {
		v = 1
	}
	return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, v)
}
