// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// FaultCase is a call each of whose allocations is to fail once.
type FaultCase struct {
	Name string
	// Prepare comes before each try; nil for nothing.
	Prepare func(t *testing.T)
	// Try is the call. It runs on a thread of its own.
	Try func() error
	// Undo takes back what Try has done, err is what that returned.
	Undo func(t *testing.T, err error)
	// Left says what there is. It must be the same after each Undo.
	Left func(t *testing.T) string
	// Also is an error that the kernel's own code gives in place of ENOMEM; nil
	// for none.
	Also error
}

// FaultsReady has the kernel's fault injection see every allocation. It needs
// CONFIG_FAILSLAB and CONFIG_FAIL_PAGE_ALLOC, and a machine of its own.
func FaultsReady(t *testing.T) {
	t.Helper()
	for _, file := range []struct{ name, value string }{
		{"failslab/ignore-gfp-wait", "N"}, {"failslab/verbose", "0"},
		{"fail_page_alloc/ignore-gfp-wait", "N"}, {"fail_page_alloc/min-order", "0"}, {"fail_page_alloc/verbose", "0"},
	} {
		writeFault(t, file.name, file.value)
	}
	// The runtime does not survive a failed mmap: have its heap large enough, once.
	ballast := make([]byte, 32<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	runtime.KeepAlive(ballast)
	runtime.GC()
}

func writeFault(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join("/sys/kernel/debug", name), []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// EachFault has the first allocation of a call fail, then the second, and so on
// until none is left. Each time the call must succeed or say that memory is
// short, leave nothing behind, and succeed when it is tried again.
func EachFault(t *testing.T, c FaultCase) {
	t.Helper()
	again := func() {
		t.Helper()
		if c.Prepare != nil {
			c.Prepare(t)
		}
		err := OnThread(c.Try)
		if err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		c.Undo(t, nil)
	}
	again()
	left := c.Left(t)
	refused := 0
	for n := 1; ; n++ {
		if c.Prepare != nil {
			c.Prepare(t)
		}
		failed, err := failNth(n, c.Try)
		if err != nil {
			refused++
			if !failed {
				t.Fatalf("allocation %d did not fail, but: %v", n, err)
			}
			if !short(err) && (c.Also == nil || !errors.Is(err, c.Also)) {
				t.Errorf("allocation %d: %v", n, err)
			}
		}
		c.Undo(t, err)
		if now := c.Left(t); now != left {
			t.Fatalf("allocation %d (%v) leaves\n%s\nbefore there was\n%s", n, err, now, left)
		}
		if !failed {
			t.Logf("%d allocations, %d of them needed", n-1, refused)
			return
		}
		if err != nil {
			again()
		}
	}
}

// short says whether an error is the kernel's for want of memory. socket(2) says
// ENFILE, senders of messages are told ENOBUFS.
func short(err error) bool {
	return errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENFILE)
}

// failNth runs f on a thread whose nth allocation in the kernel fails, and tells
// whether there were as many.
func failNth(n int, f func() error) (failed bool, err error) {
	terr := OnThread(func() error {
		fd, err2 := unix.Open("/proc/thread-self/fail-nth", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err2 != nil {
			return err2
		}
		defer unix.Close(fd)
		var left [16]byte
		if _, err2 = unix.Pwrite(fd, strconv.AppendInt(nil, int64(n), 10), 0); err2 != nil {
			return err2
		}
		err = f()
		k, err2 := unix.Pread(fd, left[:], 0)
		if err2 == nil {
			failed = strings.TrimSpace(string(left[:k])) == "0"
			_, err2 = unix.Pwrite(fd, []byte("0"), 0)
		}
		return err2
	})
	return failed, errors.Join(terr, err)
}

// Faults has each allocation fail that a device makes for a process or a packet,
// once; left tells what the device has. Then it forwards while allocations fail
// now and then.
func Faults(t *testing.T, h Harness, left func(t *testing.T) string) {
	FaultsReady(t)
	config := Config{Nbufs: 64, Lanes: 2, Ports: 64}

	t.Run("attach", func(t *testing.T) {
		var inst Instance
		var dev device.Device
		EachFault(t, FaultCase{
			Prepare: func(t *testing.T) { inst = h.Create(t, config) },
			Try:     func() (err error) { dev, err = inst.Attach(); return err },
			Undo: func(t *testing.T, failed error) {
				if failed == nil {
					shut(t, dev)
				}
				// It may have been made, and then not be mapped.
				if err := inst.Destroy(); err != nil && !(failed != nil && errors.Is(err, fs.ErrNotExist)) {
					t.Fatal(err)
				}
			},
			Left: left,
		})
	})

	dev := open(t, h, Config{Nbufs: 64})
	t.Run("ports", func(t *testing.T) { portFaults(t, dev, left) })
	t.Run("packets", func(t *testing.T) { packetFaults(t, dev) })
}

// links names the interfaces of the pod and of this network namespace.
func (p *pod) links(t *testing.T) string {
	t.Helper()
	var names []string
	list := func() error {
		entries, err := os.ReadDir("/proc/sys/net/ipv4/conf")
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return err
	}
	p.do(list)
	if err := list(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func portFaults(t *testing.T, dev device.Device, left func(t *testing.T) string) {
	p := newPod(t, dev, 1, device.PortConfig{})
	all := func(t *testing.T) string {
		ports, err := dev.Ports()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%susers, %d ports, interfaces %s", left(t), len(ports), p.links(t))
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer nl.Close()
	var info device.PortInfo
	add := func(ns string) error {
		var err error
		info, err = dev.AddPort(device.PortConfig{Name: "fault", IfName: "fault0", NetNS: ns})
		return err
	}
	mustAdd := func(t *testing.T) {
		if err := add(""); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, _ error) {
		if err := dev.RemovePort(info.ID); err != nil {
			t.Fatal(err)
		}
	}
	ifAdded := func(t *testing.T, err error) {
		if err == nil {
			remove(t, nil)
		}
	}
	quota := 7
	for _, c := range []FaultCase{
		// device_add() says EINVAL of a device whose name could not be copied.
		{Name: "add", Try: func() error { return add("") }, Undo: ifAdded, Also: unix.EINVAL},
		{Name: "add elsewhere", Try: func() error { return add(p.path) }, Undo: ifAdded, Also: unix.EINVAL},
		{Name: "set", Prepare: mustAdd, Try: func() error { return dev.SetPort(info.ID, device.PortUpdate{Quota: &quota}) }, Undo: remove},
		{Name: "list", Prepare: mustAdd, Try: func() error { _, err := dev.Ports(); return err }, Undo: remove},
		{Name: "remove", Prepare: mustAdd, Try: func() error { return dev.RemovePort(info.ID) }, Undo: func(t *testing.T, err error) {
			if err != nil {
				remove(t, nil)
			}
		}},
		{Name: "move", Prepare: mustAdd, Undo: remove, Try: func() error {
			return nl.LinkSetNsFd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: info.IfIndex}}, int(p.ns.Fd()))
		}},
	} {
		c.Left = all
		t.Run(c.Name, func(t *testing.T) { EachFault(t, c) })
	}
}

func packetFaults(t *testing.T, dev device.Device) {
	w := newWorker(t, dev, 0)
	parks := newPod(t, dev, 2, device.PortConfig{MTU: 9000})
	whole := newPod(t, dev, 3, device.PortConfig{MTU: 9000, Whole: true})
	to := parks.udp(parks.v4, 2000)
	// settle fails the test if an nbuf is lost, or counted still.
	settled := func(t *testing.T, _ error) { w.t = t; w.settle() }
	nothing := func(*testing.T) string { return "" }

	for _, p := range []*pod{parks, whole} {
		for _, size := range []int{100, 8000} {
			t.Run(fmt.Sprintf("receive %d, whole %v", size, p == whole), func(t *testing.T) {
				c := p.udp(p.v4, 0)
				EachFault(t, FaultCase{
					Try: func() error {
						_, err := c.WriteToUDPAddrPort(pattern(size, 1), addrPort(p.v4.Next()))
						return err
					},
					Undo: settled, Left: nothing,
				})
			})
		}
	}

	b := udpPacket(parks.v4.Next(), parks.v4, 1, 2000, pattern(3000, 1), false)
	from := whole.udp(whole.v4, 0)
	parked := parks.udp(parks.v4, 0)
	for name, prepare := range map[string]func() []uint32{
		"send": func() []uint32 {
			idx := w.grant(1)[0]
			w.fill(idx, parks.id(), udpPacket(parks.v4.Next(), parks.v4, 1, 2000, pattern(1000, 1), false))
			return []uint32{abi.Entry(abi.OutTX, idx)}
		},
		"send a chain": func() []uint32 { return chain(abi.OutTX, w.cut(parks.id(), b, 1000, 1000, 1028)...) },
		"clone a chain": func() []uint32 {
			nbufs := w.cut(parks.id(), b, 1000, 1000, 1028)
			ents := chain(abi.OutClone, nbufs...)
			for _, idx := range nbufs {
				ents = append(ents, abi.Entry(abi.OutFree, idx))
			}
			return ents
		},
		"send whole": func() []uint32 {
			send(t, from, parks.v4, 2000, pattern(8000, 1))
			rx := w.next(abi.InRX)
			w.area.Nbuf(rx.nbufs[0]).EPort = parks.id()
			return chain(abi.OutTX, rx.nbufs...)
		},
		"clone and send parked, with more in front": func() []uint32 {
			send(t, parked, whole.v4, 2000, pattern(8000, 1))
			idx := w.next(abi.InRX).nbufs[0]
			nb := w.area.Nbuf(idx)
			nb.Off, nb.Len, nb.Total, nb.EPort = nb.Off-40, nb.Len+40, nb.Total+40, parks.id()
			nb.Flags = nb.Flags&^abi.NbCsumPartial | abi.NbDirty
			copy(w.area.NbufBytes(idx)[nb.Off:], b[:40])
			return []uint32{abi.Entry(abi.OutClone, idx), abi.Entry(abi.OutTX, idx)}
		},
		"fetch": func() []uint32 {
			send(t, parked, whole.v4, 2000, pattern(8000, 1))
			return []uint32{abi.Entry(abi.OutFetch, w.next(abi.InRX).nbufs[0])}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var ents []uint32
			EachFault(t, FaultCase{
				Prepare: func(t *testing.T) { w.t = t; ents = prepare() },
				Try:     func() error { w.put(ents...); return dev.Kick(0) },
				Undo:    settled, Left: nothing,
			})
		})
	}
	to.Close()
	t.Run("now and then", func(t *testing.T) { faultyTraffic(t, w, parks) })
	w.t = t
}

// faultyTraffic sends and forwards while one in fifty allocations fails. What comes of it is some packets; after it, every one.
func faultyTraffic(t *testing.T, w *worker, p *pod) {
	w.t = t
	src := p.udp(p.v4, 0)
	for _, attr := range []string{"failslab", "fail_page_alloc"} {
		writeFault(t, attr+"/task-filter", "Y")
		writeFault(t, attr+"/times", "-1")
		writeFault(t, attr+"/probability", "2")
	}
	var stop atomic.Bool
	var sent, refused int
	var wg sync.WaitGroup
	wg.Go(func() {
		defer stop.Store(true)
		err := onFaultyThread(func(call func(func() error) error) error {
			for sent = range 5000 {
				b := pattern(sent%8000, 1)
				err := call(func() error {
					_, err := src.WriteToUDPAddrPort(b, addrPort(p.v4.Next()))
					return err
				})
				if err != nil && !short(err) {
					return err
				}
				if err != nil {
					refused++
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	d := w.area.DLane(0)
	before := d.RxPackets
	err := onFaultyThread(func(call func(func() error) error) error {
		for !stop.Load() {
			if err := call(func() error { return w.dev.Kick(0) }); err != nil {
				return err
			}
			w.take()
			for _, rx := range w.got {
				w.area.Nbuf(rx.nbufs[0]).EPort = p.id()
				w.put(chain(abi.OutTX, rx.nbufs...)...)
			}
			w.got = nil
		}
		return nil
	})
	wg.Wait()
	if err != nil {
		t.Error(err)
	}
	for _, attr := range []string{"failslab", "fail_page_alloc"} {
		writeFault(t, attr+"/probability", "0")
	}
	received := d.RxPackets - before
	t.Logf("%d datagrams, %d of them refused; %d received, %d sent, %d dropped", sent+1, refused, received, d.TxPackets, d.TxDrop)
	if received == 0 || received == uint64(sent+1) || d.TxDrop == 0 || d.BadEntry != 0 {
		t.Errorf("counters %+v", *d)
	}
	w.settle()

	c := p.udp(p.v4, 2000)
	for i := range 100 {
		send(t, src, p.v4.Next(), 2000, pattern(i*80, 1))
		rx := w.next(abi.InRX)
		if data := w.data(rx); len(data) < 28 || int(rx.head.Total) != 28+i*80 {
			t.Fatalf("datagram %d came as %+v", i, rx.head)
		}
		w.free(rx)
		idx := w.grant(1)[0]
		w.fill(idx, p.id(), udpPacket(p.v4.Next(), p.v4, 1, 2000, pattern(i, 1), false))
		w.put(abi.Entry(abi.OutTX, idx))
		w.turn()
		if got := receive(t, c); len(got) != i {
			t.Fatalf("%d bytes arrived, want %d", len(got), i)
		}
	}
	w.settle()
}

// onFaultyThread runs f on a thread. What f has call make, and nothing else, is in
// want of memory now and then.
func onFaultyThread(f func(call func(func() error) error) error) error {
	return OnThread(func() error {
		fd, err := unix.Open("/proc/thread-self/make-it-fail", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return f(func(call func() error) error {
			_, err := unix.Pwrite(fd, []byte("1"), 0)
			if err == nil {
				err = call()
			}
			_, werr := unix.Pwrite(fd, []byte("0"), 0)
			return errors.Join(err, werr)
		})
	})
}
