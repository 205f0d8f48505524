// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/device/kernel"
	"netio.dev/netio/pkg/dataplane/ring"
)

// What kmod/include/uapi/linux/netio.h has of NICs.
type (
	attach struct {
		version, flags uint32
		name           [abi.NameMax]byte
		geometry       [4]uint32
		size, epoch    uint64
	}
	addNIC struct {
		port, ifindex, flags, quota uint32
		label                       [1024]byte
	}
	prefix struct {
		addr     [16]byte
		family   uint8
		len      uint8
		reserved uint16
	}
	steerNIC struct {
		port, op, count, reserved uint32
		prefixes                  uint64
	}
)

const (
	attachJoin   = 4
	iocAttach    = 3<<30 | unsafe.Sizeof(attach{})<<16 | 'n'<<8 | 0xa0
	iocDelPort   = 'n'<<8 | 0xa6
	iocAddNIC    = 3<<30 | unsafe.Sizeof(addNIC{})<<16 | 'n'<<8 | 0xa7
	iocSteer     = 1<<30 | unsafe.Sizeof(steerNIC{})<<16 | 'n'<<8 | 0xa8
	instanceName = "nic"
	uplink       = "uplink" // label of the NIC's port
)

func ioctl(fd int, request, arg uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg); errno != 0 {
		return errno
	}
	return nil
}

// expect fails unless an ioctl gives the error that it should.
func expect(what string, got, want error) error {
	if got != want {
		return fmt.Errorf("%s: %v, want %v", what, got, want)
	}
	return nil
}

// control is a second descriptor of the instance, for NICs.
func control() (int, error) {
	fd, err := unix.Open("/dev/netio", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	a := attach{version: abi.Version, flags: attachJoin}
	copy(a.name[:], instanceName)
	return fd, ioctl(fd, iocAttach, uintptr(unsafe.Pointer(&a)))
}

func steer(fd int, port, op uint32, list ...prefix) error {
	s := steerNIC{port: port, op: op, count: uint32(len(list)), prefixes: uint64(uintptr(unsafe.Pointer(unsafe.SliceData(list))))}
	err := ioctl(fd, iocSteer, uintptr(unsafe.Pointer(&s)))
	runtime.KeepAlive(list)
	return err
}

// mistakes has the device refuse what is wrong, and change nothing.
func mistakes(fd int, nic, knet, index uint32) error {
	add := func(a addNIC) error { return ioctl(fd, iocAddNIC, uintptr(unsafe.Pointer(&a))) }
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	unended := addNIC{ifindex: index}
	for i := range unended.label {
		unended.label[i] = 'x'
	}
	v4 := func(len uint8, b ...byte) prefix {
		p := prefix{family: unix.AF_INET, len: len}
		copy(p.addr[:], b)
		return p
	}
	for what, e := range map[string]struct{ got, want error }{
		"a NIC twice":                {add(addNIC{ifindex: index}), unix.EBUSY},
		"no interface":               {add(addNIC{ifindex: 1 << 30}), unix.ENODEV},
		"the loopback interface":     {add(addNIC{ifindex: uint32(lo.Index)}), unix.EINVAL},
		"a label without end":        {add(unended), unix.EINVAL},
		"unknown flags":              {add(addNIC{ifindex: index, flags: 1 << 31}), unix.EBUSY},
		"STEER of a knet":            {steer(fd, knet, 0), unix.EINVAL},
		"STEER of no port":           {steer(fd, 60000, 0), unix.ENOENT},
		"an unknown operation":       {steer(fd, nic, 9), unix.EINVAL},
		"too many prefixes":          {steer(fd, nic, 0, make([]prefix, 4097)...), unix.ENOSPC},
		"no family":                  {steer(fd, nic, 1, prefix{}), unix.EINVAL},
		"a length beyond":            {steer(fd, nic, 1, v4(33)), unix.EINVAL},
		"bits beyond the prefix":     {steer(fd, nic, 1, v4(8, 10, 0, 0, 1)), unix.EINVAL},
		"bytes beyond the address":   {steer(fd, nic, 1, v4(32, 10, 0, 0, 1, 1)), unix.EINVAL},
		"a prefix twice":             {steer(fd, nic, 1, v4(8, 10), v4(8, 10)), unix.EEXIST},
		"removal of what is not set": {steer(fd, nic, 2, v4(8, 10)), unix.ENOENT},
	} {
		if err := expect(what, e.got, e.want); err != nil {
			return err
		}
	}
	return nil
}

func forward(args []string) error {
	flags := flag.NewFlagSet("forward", flag.ExitOnError)
	nic := flags.String("nic", "eth0", "interface to the other machine")
	pod := flags.String("pod", "", "network namespace of the pod, where the knet is eth0")
	mtu := flags.Int("mtu", 9000, "of the knet")
	lanes := flags.Int("lanes", 1, "")
	drop := flags.Bool("drop", false, "count and drop what comes from the NIC")
	var local prefixes
	flags.Var(&local, "local", "prefixes of the pod")
	flags.Parse(args)

	dev, err := kernel.Open(kernel.Config{Name: instanceName, Lanes: *lanes, TakeOver: true})
	if err != nil {
		return err
	}
	link, err := net.InterfaceByName(*nic)
	if err != nil {
		return err
	}
	fd, err := control()
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	var knet device.PortID
	ports, err := dev.Ports()
	if err != nil {
		return err
	}
	for _, p := range ports { // of a forwarder before
		if p.Name == uplink {
			if err := ioctl(fd, iocDelPort, uintptr(p.ID)); err != nil {
				return err
			}
		} else {
			knet = p.ID
		}
	}
	if knet == 0 {
		p, err := dev.AddPort(device.PortConfig{Name: "pod", IfName: "eth0", NetNS: *pod, MTU: *mtu})
		if err != nil {
			return err
		}
		knet = p.ID
	}
	a := addNIC{ifindex: uint32(link.Index)}
	copy(a.label[:], uplink)
	if err := ioctl(fd, iocAddNIC, uintptr(unsafe.Pointer(&a))); err != nil {
		return fmt.Errorf("add %s: %w", *nic, err)
	}
	var list []prefix
	for _, l := range local {
		p := prefix{family: unix.AF_INET, len: uint8(l.Bits())}
		if l.Addr().Is6() {
			p.family = unix.AF_INET6
		}
		copy(p.addr[:], l.Addr().AsSlice())
		list = append(list, p)
	}
	if err := steer(fd, a.port, 0, list...); err != nil {
		return fmt.Errorf("steer: %w", err)
	}
	if err := mistakes(fd, a.port, uint32(knet), a.ifindex); err != nil {
		return err
	}
	runtime.LockOSThread()
	fmt.Println("forwarding")
	return loop(dev, uint32(knet), a.port, *drop)
}

// loop sends what comes from the one port to the other.
func loop(dev device.Device, knet, nic uint32, drop bool) error {
	a, h := dev.Area(), dev.Area().Header()
	in := ring.NewReader(a.InQ(0), h.InqOrder, &a.PLane(0).InqHead, a.DLane(0).InqStart)
	out := ring.NewWriter(a.OutQ(0), h.OutqOrder, &a.DLane(0).OutqHead, &a.PLane(0).OutqTail, a.DLane(0).OutqStart)
	var took, gave [64]uint32
	var seen uint64
	began, was, chained := time.Now(), busy(), false
	action := uint32(abi.OutTX)
	var woken uint32 // the device's sleep that was last ended
	for {
		n := in.Take(took[:])
		if n == 0 {
			if err := dev.Wait(0, time.Second); err != nil {
				return err
			}
			continue
		}
		count := 0
		for _, e := range took[:n] {
			switch abi.Action(e) {
			case abi.InPort:
				fmt.Printf("port %d: state %#x\n", abi.Param(e), a.Port(abi.Param(e)).State)
				continue
			case abi.InRX, abi.InGrant, abi.InFetched:
			default:
				continue
			}
			if idx := abi.Param(e); !chained {
				nb := a.Nbuf(idx)
				nb.EPort = nic
				if nb.IPort == nic {
					nb.EPort = knet
				}
				action = abi.OutTX
				if drop && nb.IPort == nic {
					action = abi.OutFree
					seen++
				}
			}
			chained = e&abi.EntMore != 0
			gave[count] = abi.Entry(action, abi.Param(e)) | e&abi.EntMore
			if action == abi.OutFree {
				gave[count] &^= abi.EntMore
			}
			count++
		}
		in.Release()
		for sent := 0; sent < count; {
			sent += out.Publish(gave[sent:count])
			seq := atomic.LoadUint32(&a.DLane(0).SleepSeq)
			if seq == woken {
				continue
			}
			woken = seq
			if err := dev.Kick(0); err != nil {
				return err
			}
		}
		if now := time.Now(); drop && seen > 0 && now.Sub(began) > time.Second {
			ms := busy()
			fmt.Printf("received %d in %d ms, busy for %d ms\n", seen, now.Sub(began).Milliseconds(), ms-was)
			seen, began, was = 0, now, ms
		}
	}
}

// busy is for how many milliseconds the machine's CPUs have done something.
func busy() int {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	ticks := 0
	for i, f := range strings.Fields(line) {
		if n, err := strconv.Atoi(f); err == nil && i != 4 && i != 5 { // idle, iowait
			ticks += n
		}
	}
	return 10 * ticks // USER_HZ is 100
}
