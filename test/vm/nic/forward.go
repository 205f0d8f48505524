// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/device/kernel"
	"netio.dev/netio/pkg/dataplane/ring"
)

const (
	instanceName = "nic"
	uplink       = "uplink" // name of the NIC's port
)

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
	ports, err := dev.Ports()
	if err != nil {
		return err
	}
	for _, p := range ports { // of a forwarder before
		if err := dev.RemovePort(p.ID); err != nil {
			return err
		}
	}
	knet, err := dev.AddPort(device.PortConfig{Name: "pod", IfName: "eth0", NetNS: *pod, MTU: *mtu})
	if err != nil {
		return err
	}
	up, err := dev.AddNIC(device.NICConfig{Name: uplink, IfName: *nic})
	if err != nil {
		return err
	}
	if err := dev.Steer(up.ID, device.SteerReplace, local...); err != nil {
		return err
	}
	runtime.LockOSThread()
	fmt.Println("forwarding")
	return loop(dev, uint32(knet.ID), uint32(up.ID), *drop)
}

// loop sends what comes from the one port to the other.
func loop(dev device.Device, knet, nic uint32, drop bool) error {
	a, h := dev.Area(), dev.Area().Header()
	in := ring.NewReader(a.InQ(0), h.InqOrder, &a.PLane(0).InqHead, a.DLane(0).InqStart)
	out := ring.NewWriter(a.OutQ(0), h.OutqOrder, &a.DLane(0).OutqHead, &a.PLane(0).OutqTail, a.DLane(0).OutqStart)
	var took, gave [64]uint32
	var seen uint64
	began, was, chained := time.Now(), idle(), false
	dropped := a.Port(nic).RxDrop
	action := uint32(abi.OutTX)
	var woken uint32 // the device's sleep that was last ended
	large := map[bool]bool{}
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
				if nb.GSOType != abi.GSONone && !large[nb.IPort == nic] {
					large[nb.IPort == nic] = true
					fmt.Printf("large packets from port %d\n", nb.IPort)
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
		if now := time.Now(); drop && seen > 0 && now.Sub(began) > time.Second/2 {
			idle, lost := idle(), atomic.LoadUint64(&a.Port(nic).RxDrop)
			took := now.Sub(began)
			fmt.Printf("received %d, dropped %d in %d us, busy for %d us\n", seen, lost-dropped, took.Microseconds(), (took - idle + was).Microseconds())
			seen, began, was, dropped = 0, now, idle, lost
		}
	}
}

// idle is for how long the machine's CPUs have had nothing to do, to the nanosecond:
// /proc/stat has it in ticks, and what they did by whom a tick has met.
func idle() (d time.Duration) {
	text, _ := os.ReadFile("/proc/timer_list")
	for _, m := range sleeptime.FindAllSubmatch(text, -1) {
		ns, _ := strconv.ParseInt(string(m[1]), 10, 64)
		d += time.Duration(ns)
	}
	return d
}

var sleeptime = regexp.MustCompile(`_sleeptime *: (\d+) nsecs`) // idle, iowait
