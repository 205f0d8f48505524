// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

const ownNS = "/proc/self/ns/net"

func add(t *testing.T, d *Device, c device.PortConfig) device.PortInfo {
	t.Helper()
	p, err := d.AddPort(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func list(t *testing.T, d *Device) []device.PortInfo {
	t.Helper()
	ports, err := d.Ports()
	if err != nil {
		t.Fatal(err)
	}
	return ports
}

// TestLostAnswer: an interface that was made is found, also where memory is short.
func TestLostAnswer(t *testing.T) {
	k := newFakeKernel(t, 1, 64)
	d := newFake(t, k, eventfd)
	k.mute = true
	a := add(t, d, device.PortConfig{Name: "a", IfName: "eth0", NetNS: ownNS})
	if got := list(t, d); !reflect.DeepEqual(got, []device.PortInfo{a}) {
		t.Errorf("added %+v, listed %+v", a, got)
	}
}

func TestPorts(t *testing.T) {
	k := newFakeKernel(t, 1, 64)
	d := newFake(t, k, eventfd)
	a := add(t, d, device.PortConfig{Name: "a", IfName: "eth0", NetNS: ownNS})
	want := device.PortInfo{ID: 1, IfIndex: 101, PortConfig: device.PortConfig{Name: "a", IfName: "eth0", NetNS: ownNS, MTU: 1500, Quota: 1000}}
	if a != want {
		t.Errorf("added %+v, want %+v", a, want)
	}
	b := add(t, d, device.PortConfig{Name: "b", IfName: "eth1", NetNS: ownNS, MTU: 9000, Quota: 50, Whole: true})
	if got := list(t, d); !reflect.DeepEqual(got, []device.PortInfo{a, b}) {
		t.Errorf("listed %+v", got)
	}
	if _, err := d.AddPort(device.PortConfig{Name: "a", IfName: "eth9"}); !errors.Is(err, device.ErrPortExists) {
		t.Errorf("same name: %v", err)
	}
	if _, err := d.AddPort(device.PortConfig{Name: "c", IfName: "eth0", NetNS: ownNS}); err == nil || !strings.Contains(err.Error(), "eth0 in "+ownNS) {
		t.Errorf("same interface: %v", err)
	}
	if len(k.ports) != 2 || len(k.inNS) != 2 {
		t.Errorf("failed calls have left %v, %v", k.ports, k.inNS)
	}
	// The next owner finds them as they were made.
	k.up(1)
	a.Up = true
	if got := list(t, newFake(t, k, eventfd)); !reflect.DeepEqual(got, []device.PortInfo{a, b}) {
		t.Errorf("the next owner has %+v", got)
	}

	if err := d.RemovePort(a.ID); err != nil {
		t.Error(err)
	}
	for _, id := range []device.PortID{a.ID, 0, 63, 64, 1 << 30} {
		if err := d.RemovePort(id); !errors.Is(err, device.ErrNoPort) {
			t.Errorf("remove port %d: %v", id, err)
		}
		if err := d.SetPort(id, device.PortUpdate{}); !errors.Is(err, device.ErrNoPort) {
			t.Errorf("set port %d: %v", id, err)
		}
	}
	add(t, d, device.PortConfig{Name: "a", IfName: "eth0", NetNS: ownNS})
}

func TestSetPort(t *testing.T) {
	k := newFakeKernel(t, 1, 64)
	d := newFake(t, k, eventfd)
	id := add(t, d, device.PortConfig{Name: "a", IfName: "eth0"}).ID
	quota, mark, yes, few := 77, 9000, true, 3
	if err := d.SetPort(id, device.PortUpdate{Quota: &quota}); err != nil {
		t.Fatal(err)
	}
	if p := k.ports[1]; p.NbufQuota != 77 || p.Flags != 0 || p.MarkBytes != 0 {
		t.Errorf("port %+v", p)
	}
	if err := d.SetPort(id, device.PortUpdate{MarkBytes: &mark, Whole: &yes}); err != nil {
		t.Fatal(err)
	}
	if err := d.SetPort(id, device.PortUpdate{Quota: &few}); err == nil || !strings.Contains(err.Error(), "port 1: quota is 3 nbufs") {
		t.Errorf("too few nbufs for whole packets: %v", err)
	}
	if p := k.ports[1]; p.NbufQuota != 77 || p.Flags != abi.PortFlagWhole || p.MarkBytes != 9000 {
		t.Errorf("port %+v", p)
	}
}

// TestNameOfHost gives a pod's interface a name that the host has too.
func TestNameOfHost(t *testing.T) {
	k := newFakeKernel(t, 1, 64)
	k.taken["eth0"] = true
	d := newFake(t, k, eventfd)
	c := device.PortConfig{Name: "a", IfName: "eth0", NetNS: ownNS, MTU: 1500, Quota: 1000}
	if p := add(t, d, c); p.PortConfig != c || !k.inNS["eth0"] || len(k.inNS) != 1 {
		t.Errorf("port %+v, interfaces %v", p, k.inNS)
	}
	// In the host's own namespace it is taken indeed.
	if _, err := d.AddPort(device.PortConfig{Name: "b", IfName: "eth0"}); err == nil {
		t.Error("an interface of the host was made anew")
	}
	if _, err := d.AddPort(device.PortConfig{Name: "b", IfName: "eth0", NetNS: ownNS}); err == nil || len(k.ports) != 1 {
		t.Errorf("error %v, ports %v", err, k.ports)
	}
}

// TestNamespaceEnds: the port stays known until it is removed.
func TestNamespaceEnds(t *testing.T) {
	for _, inTurn := range []bool{true, false} {
		k := newFakeKernel(t, 1, 64)
		k.inTurn = inTurn
		d := newFake(t, k, eventfd)
		a := add(t, d, device.PortConfig{Name: "a", IfName: "eth0", NetNS: ownNS})
		b := add(t, d, device.PortConfig{Name: "b", IfName: "eth1", NetNS: ownNS})
		k.up(1)
		k.end(1)
		if got := list(t, d); !reflect.DeepEqual(got, []device.PortInfo{a, b}) {
			t.Errorf("listed %+v", got)
		}
		if _, err := d.AddPort(device.PortConfig{Name: "a", IfName: "eth2", NetNS: ownNS}); !errors.Is(err, device.ErrPortExists) {
			t.Errorf("same name: %v", err)
		}
		whole := true
		if err := d.SetPort(a.ID, device.PortUpdate{Whole: &whole}); !errors.Is(err, device.ErrNoPort) {
			t.Errorf("set: %v", err)
		}
		// Its number is no other port's.
		c, err := d.AddPort(device.PortConfig{Name: "c", IfName: "eth2", NetNS: ownNS})
		if inTurn && (err != nil || c.ID == a.ID) || !inTurn && (err == nil || !strings.Contains(err.Error(), "number 1 of port a")) {
			t.Errorf("in turn %v: port %+v, %v", inTurn, c, err)
		}
		if err := d.RemovePort(a.ID); err != nil {
			t.Errorf("remove: %v", err)
		}
		if err := d.RemovePort(a.ID); !errors.Is(err, device.ErrNoPort) {
			t.Errorf("remove again: %v", err)
		}
		if !inTurn {
			if c = add(t, d, device.PortConfig{Name: "c", IfName: "eth2", NetNS: ownNS}); c.ID != 1 {
				t.Errorf("port %+v", c)
			}
		}
		if len(k.ports) != 2 || len(k.inNS) != 2 {
			t.Errorf("the device has %v, %v", k.ports, k.inNS)
		}
	}
}

// TestForeignPorts: what somebody has made by hand is listed, under a name that
// no other port has.
func TestForeignPorts(t *testing.T) {
	k := newFakeKernel(t, 1, 64)
	for i, label := range []string{"", "a\n\neth1\n1500", "a\n\neth2\n1500"} {
		if err := k.addLink(link{name: fmt.Sprint("eth", i), mtu: 1400, label: label}); err != nil {
			t.Fatal(err)
		}
	}
	d := newFake(t, k, eventfd)
	for range 2 {
		var names []string
		for _, p := range list(t, d) {
			names = append(names, p.Name)
		}
		if fmt.Sprint(names) != "[knet-1 a knet-3]" {
			t.Errorf("names %v", names)
		}
	}
	for id := range device.PortID(3) {
		if err := d.RemovePort(id + 1); err != nil {
			t.Error(err)
		}
	}
}

// TestManyPorts: a port is found in a few calls, however many there are.
func TestManyPorts(t *testing.T) {
	for _, inTurn := range []bool{true, false} {
		k := newFakeKernel(t, 1, 3000)
		k.inTurn = inTurn
		d := newFake(t, k, eventfd)
		for i := range 2000 {
			k.calls = 0
			add(t, d, device.PortConfig{Name: fmt.Sprint(i), IfName: fmt.Sprint("e", i)})
			if i%3 == 0 {
				if err := d.RemovePort(device.PortID(1 + i/2)); err != nil && !errors.Is(err, device.ErrNoPort) {
					t.Fatal(err)
				}
			}
			if k.calls > 4 {
				t.Fatalf("in turn %v: port %d needed %d calls", inTurn, i, k.calls)
			}
		}
	}
}

func TestLostInstance(t *testing.T) {
	k := newFakeKernel(t, 2, 64)
	d := newFake(t, k, eventfd)
	p := add(t, d, device.PortConfig{Name: "a", IfName: "eth0"})
	asleep := make(chan error)
	go func() {
		for {
			if err := d.Wait(1, -1); err != nil {
				asleep <- err
				return
			}
		}
	}()
	k.lost = true
	if _, err := d.AddPort(device.PortConfig{Name: "b", IfName: "eth1"}); !errors.Is(err, device.ErrNotOwner) {
		t.Errorf("AddPort: %v", err)
	}
	if err := <-asleep; !errors.Is(err, device.ErrNotOwner) {
		t.Errorf("Wait: %v", err)
	}
	_, err := d.Ports()
	for _, err := range []error{err, d.RemovePort(p.ID), d.SetPort(p.ID, device.PortUpdate{}), d.Kick(0), d.Wait(0, 0), d.Wake(0), d.Destroy()} {
		if !errors.Is(err, device.ErrNotOwner) {
			t.Errorf("error %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if len(k.ports) != 1 {
		t.Errorf("ports %v", k.ports)
	}
}

func TestDestroy(t *testing.T) {
	k := newFakeKernel(t, 1, 64)
	d := newFake(t, k, eventfd)
	add(t, d, device.PortConfig{Name: "a", IfName: "eth0"})
	if err := d.Destroy(); err != nil || !k.destroyed || !k.closed {
		t.Errorf("error %v, %+v", err, k)
	}
	if _, err := d.Ports(); !errors.Is(err, device.ErrClosed) {
		t.Errorf("Ports: %v", err)
	}
}
