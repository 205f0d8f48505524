// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

const (
	procInstances = "/proc/thread-self/net/netio/instances"
	procPorts     = "/proc/thread-self/net/netio/ports"
)

// testDevice is an instance of its own for a test.
func testDevice(t *testing.T, c Config) *Device {
	t.Helper()
	needDevice(t)
	c.Name, c.TakeOver = fmt.Sprintf("test-%d-%d", os.Getpid(), instances.Add(1)), true
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Destroy(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func addPort(t *testing.T, d *Device, ns, ifname string) device.PortInfo {
	t.Helper()
	p, err := d.AddPort(device.PortConfig{Name: ifname, IfName: ifname, NetNS: "/run/netns/" + ns})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// within runs f in a network namespace.
func within(t *testing.T, ns string, f func() error) {
	t.Helper()
	inNetns(t, func() error {
		h, err := os.Open("/run/netns/" + ns)
		if err != nil {
			return err
		}
		defer h.Close()
		if err := unix.Setns(int(h.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// rings of a device's first lane.
func rings(d *Device) (ring.Reader, ring.Writer) {
	a, h := d.Area(), d.Area().Header()
	return ring.NewReader(a.InQ(0), h.InqOrder, &a.PLane(0).InqHead, a.DLane(0).InqStart),
		ring.NewWriter(a.OutQ(0), h.OutqOrder, &a.DLane(0).OutqHead, &a.PLane(0).OutqTail, a.DLane(0).OutqStart)
}

// TestShow reads of an instance and its ports in /proc/net/netio.
func TestShow(t *testing.T) {
	d := testDevice(t, Config{Lanes: 2, Nbufs: 512, Ports: 100, ParkedBytes: 1 << 20})
	makeNetns(t, "show")
	// More than a page of them: readers go on where they were.
	var ports []device.PortInfo
	for i := range 80 {
		ports = append(ports, addPort(t, d, "show", fmt.Sprint("k", i)))
	}
	a := d.Area()
	_, out := rings(d)
	out.Publish([]uint32{abi.Entry(abi.OutWant, 7), abi.Entry(abi.EntActionMask, 1)})
	if err := d.Kick(0); err != nil {
		t.Fatal(err)
	}

	text := read(t, procInstances)
	for _, want := range []string{
		fmt.Sprintf("%s: abi %s, lanes 2, epoch %d, owner %d\n", d.name(), abi.VersionString(abi.Version), a.Live().Epoch, os.Getpid()),
		"  nbufs 512, free 505, process 7\n", "  ports 80 of 99, waiting 0\n", "  parked 0 of 1048576 bytes\n",
		fmt.Sprintf("  lane 0: inq tail %d head %d, outq head %d tail %d, ", a.DLane(0).InqTail, a.PLane(0).InqHead, a.DLane(0).OutqHead, a.PLane(0).OutqTail),
		"bad_entry 1 ", "  lane 1: ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %q:\n%s", procInstances, want, text)
		}
	}
	text = read(t, procPorts)
	for _, p := range ports {
		want := fmt.Sprintf("\n%s %d %s %d down 0 %d 0 0 0 0 0 0\n", d.name(), p.ID, p.IfName, p.IfIndex, a.Port(uint32(p.ID)).NbufQuota)
		if strings.Count(text, want) != 1 {
			t.Errorf("%s lacks %q:\n%s", procPorts, want, text)
		}
	}

	// Another network namespace has instances of its own, or none.
	within(t, "show", func() error {
		for _, path := range []string{procInstances, procPorts} {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if strings.Contains(string(b), d.name()) {
				return fmt.Errorf("%s of another network namespace tells of %s:\n%s", path, d.name(), b)
			}
		}
		return nil
	})
}

// addKnet makes a knet with a port number of the caller's choice.
func addKnet(t *testing.T, d *Device, name string, port uint32) {
	t.Helper()
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(knetKind))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(knetInstance, nl.ZeroTerminated(d.name()))
	const knetPort = 2 // IFLA_KNET_PORT
	data.AddRtAttr(knetPort, nl.Uint32Attr(port))
	req.AddData(info)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		t.Fatal(err)
	}
}

// TestFarPorts has ports whose numbers are far apart: they are shown, and told of
// by events, one by one.
func TestFarPorts(t *testing.T) {
	const most = 1 << 18
	d := testDevice(t, Config{Ports: most})
	numbers := []uint32{1, 4095, 4096, 4097, 100000, most - 1}
	for _, n := range numbers {
		addKnet(t, d, fmt.Sprint("far", n), n)
		defer func() {
			if err := d.kernel.delPort(n); err != nil {
				t.Error(err)
			}
		}()
	}
	text := read(t, procPorts)
	at := 0
	for _, n := range numbers {
		want := fmt.Sprintf("\n%s %d far%d ", d.name(), n, n)
		i := strings.Index(text, want)
		if i < at || strings.Count(text, want) != 1 {
			t.Errorf("port %d is at %d, after %d:\n%s", n, i, at, text)
		}
		at = i
	}

	in, _ := rings(d)
	told := map[uint32]int{}
	var ents [64]uint32
	for _, e := range ents[:in.Take(ents[:])] {
		if abi.Action(e) == abi.InPort {
			told[abi.Param(e)]++
		}
	}
	in.Release()
	for _, n := range numbers {
		if told[n] != 1 {
			t.Errorf("port %d: told %d times, want once", n, told[n])
		}
	}
}

// TestShowWhileItEnds reads while instances and ports come and go.
func TestShowWhileItEnds(t *testing.T) {
	needDevice(t)
	makeNetns(t, "ends")
	var stop atomic.Bool
	var reading sync.WaitGroup
	for _, path := range []string{procInstances, procPorts} {
		reading.Go(func() {
			for !stop.Load() {
				if _, err := os.ReadFile(path); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 10 {
		d, err := Open(Config{Name: fmt.Sprintf("ends-%d", os.Getpid()), Nbufs: 64})
		if err != nil {
			t.Error(err)
			break
		}
		for i := range 5 {
			if _, err := d.AddPort(device.PortConfig{Name: fmt.Sprint(i), IfName: fmt.Sprint("e", i), NetNS: "/run/netns/ends"}); err != nil {
				t.Error(err)
			}
		}
		if err := d.Destroy(); err != nil {
			t.Error(err)
		}
	}
	stop.Store(true)
	reading.Wait()
}

// TestLabelIsPrivate: a pod does not see what the owner keeps with its knet.
func TestLabelIsPrivate(t *testing.T) {
	d := testDevice(t, Config{})
	makeNetns(t, "label")
	addPort(t, d, "label", "there")
	if _, err := d.AddPort(device.PortConfig{Name: "label-of-it", IfName: "here"}); err != nil {
		t.Fatal(err)
	}
	dump := func() (string, error) {
		req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		msgs, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
		return fmt.Sprintf("%q", msgs), err
	}
	within(t, "label", func() error {
		text, err := dump()
		if err == nil && (!strings.Contains(text, "there") || strings.Contains(text, "/run/netns/label")) {
			err = fmt.Errorf("in the pod: %s", text)
		}
		return err
	})
	text, err := dump()
	if err != nil || !strings.Contains(text, "label-of-it") {
		t.Errorf("in the instance's network namespace: %v, %s", err, text)
	}
}

// TestAttachAtOnce has many attach by one name at once: there is one instance, and
// one of them owns it.
func TestAttachAtOnce(t *testing.T) {
	needDevice(t)
	for round := range 10 {
		c := Config{Name: fmt.Sprintf("once-%d-%d", os.Getpid(), round), Nbufs: 64}
		var owners [8]*Device
		var errs [8]error
		var wg sync.WaitGroup
		for i := range owners {
			wg.Go(func() { owners[i], errs[i] = Open(c) })
		}
		wg.Wait()
		n := 0
		for i, d := range owners {
			switch {
			case errs[i] == nil:
				n++
				defer func() {
					if err := d.Destroy(); err != nil {
						t.Error(err)
					}
				}()
			case !errors.Is(errs[i], ErrBusy):
				t.Error(errs[i])
			}
		}
		if n != 1 {
			t.Errorf("%d owners", n)
		}
		if got := strings.Count(read(t, procInstances), c.Name+":"); got != 1 {
			t.Errorf("%d instances named %s", got, c.Name)
		}
	}
}

// TestTracepoints has tracepoints fire, and reads of it in tracefs.
func TestTracepoints(t *testing.T) {
	needDevice(t)
	const tracing = "/sys/kernel/tracing/"
	if _, err := os.Stat(tracing + "events"); err != nil {
		t.Skip("the kernel has no tracefs")
	}
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(tracing+file, []byte(text), 0); err != nil {
			t.Fatal(err)
		}
	}
	write("events/netio/enable", "1")
	defer write("events/netio/enable", "0")
	write("trace", "")

	d := testDevice(t, Config{})
	makeNetns(t, "trace")
	p := addPort(t, d, "trace", "eth0")
	configure(t, "/run/netns/trace", "eth0", "10.3.0.1/24")
	a, h := d.Area(), d.Area().Header()
	in, out := rings(d)
	within(t, "trace", func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, make([]byte, 100), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{10, 3, 0, 2}})
	})
	var packet uint32
	for found := false; !found; {
		if err := d.Wait(0, -1); err != nil {
			t.Fatal(err)
		}
		var ents [64]uint32
		for _, e := range ents[:in.Take(ents[:])] {
			if abi.Action(e) == abi.InRX && a.Nbuf(abi.Param(e)).Total == 128 {
				packet, found = abi.Param(e), true
			}
		}
		in.Release()
	}
	for _, s := range []struct {
		eport   uint32
		entries []uint32
	}{
		{uint32(p.ID), []uint32{abi.Entry(abi.OutClone, packet)}},
		{h.PortMax - 1, []uint32{abi.Entry(abi.OutTX, packet), abi.Entry(abi.OutFree, packet)}},
	} {
		a.Nbuf(packet).EPort = s.eport
		out.Publish(s.entries)
		if err := d.Kick(0); err != nil {
			t.Fatal(err)
		}
	}

	text := read(t, tracing+"trace")
	name := "instance=" + d.name()
	for _, want := range []string{
		fmt.Sprintf("netio_owner: %s change=attach epoch=1 pid=%d", name, os.Getpid()),
		fmt.Sprintf("netio_receive: %s lane=0 port=%d len=128", name, p.ID),
		fmt.Sprintf("netio_send: %s lane=0 port=%d len=128", name, p.ID),
		fmt.Sprintf("netio_drop: %s port=%d len=128 reason=tx_no_port", name, h.PortMax-1),
		fmt.Sprintf("netio_kick: %s lane=0 pos=", name),
		fmt.Sprintf("netio_bad_entry: %s lane=0 pos=", name),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the trace lacks %q:\n%s", want, text)
		}
	}
	events, err := filepath.Glob(tracing + "events/netio/netio_*")
	if err != nil || len(events) != 8 {
		t.Errorf("tracepoints %q, %v", events, err)
	}
}
