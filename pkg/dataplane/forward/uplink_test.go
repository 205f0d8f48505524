// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
)

// wired is podNet with a NIC that receives steer, and the way to the world.
func wired(steer ...string) *dataplanev1.Snapshot {
	return podNet(func(s *dataplanev1.Snapshot) {
		s.Ports = append(s.Ports, &dataplanev1.Port{Name: "wire", Kind: dataplanev1.Port_UPLINK, Ifname: "eth7", Steer: steer})
		s.Routes[0].Port, s.Routes[1].Port = "wire", "wire"
	})
}

func steered(t *testing.T, dev *memdev.Device, want ...string) {
	t.Helper()
	if got := fmt.Sprint(dev.Steered("wire")); got != fmt.Sprint(want) {
		t.Errorf("%s is steered, want %v", got, want)
	}
}

// TestUplink: a NIC becomes a port, receives what the configuration says, and is
// none when the configuration has it no more.
func TestUplink(t *testing.T) {
	dev := memdev.New(t, memdev.Config{})
	start := func() *Forwarder {
		f, err := New(Options{Device: dev, MaxConnections: 64})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		return f
	}
	wire := func() device.PortInfo {
		ports, _ := dev.Ports()
		for _, p := range ports {
			if p.Name == "wire" {
				return p
			}
		}
		return device.PortInfo{}
	}
	f := start()
	f.apply(t, wired("10.0.0.0/24", "fd00::7"))
	made := wire()
	if !made.NIC || made.IfName != "eth7" {
		t.Fatalf("the port is %+v", made)
	}
	steered(t, dev, "10.0.0.0/24", "fd00::7/128")
	f.apply(t, wired("10.0.0.7"))
	steered(t, dev, "10.0.0.7/32")

	// The next process finds it, and says again what it is to receive.
	f = start()
	f.apply(t, wired("10.0.0.7", "10.0.0.8"))
	steered(t, dev, "10.0.0.7/32", "10.0.0.8/32")
	if got := wire(); got != made {
		t.Errorf("the port is %+v, and was %+v", got, made)
	}

	// One for another interface is made in the place of the one that there was.
	f = start()
	f.apply(t, func() *dataplanev1.Snapshot {
		s := wired("10.0.0.7")
		s.Ports[len(s.Ports)-1].Ifname = "eth8"
		return s
	}())
	if got := wire(); got.IfName != "eth8" || !got.NIC {
		t.Errorf("the port is %+v, want eth8's", got)
	}
	steered(t, dev, "10.0.0.7/32")
	f.apply(t, podNet())
	if got := wire(); got.ID != 0 {
		t.Errorf("the port %+v is there, and no part of the configuration", got)
	}
}

// TestUplinkRefused: what a NIC or the device cannot do is said, and leaves nothing.
func TestUplinkRefused(t *testing.T) {
	apply := func(dev device.Device, s *dataplanev1.Snapshot) (*Forwarder, error) {
		f, err := New(Options{Device: dev, MaxConnections: 64})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		_, err = f.Apply(context.Background(), s, map[string]bool{"wire": true})
		return f, err
	}
	dev := memdev.New(t, memdev.Config{})
	if _, err := apply(struct{ device.Device }{dev}, wired()); !errors.Is(err, device.ErrNoNICs) {
		t.Errorf("on a device without NICs: %v", err)
	}
	large := wired()
	large.Ports[len(large.Ports)-1].Mtu = 9000
	if _, err := apply(dev, large); err == nil || !strings.Contains(err.Error(), "eth7 has MTU 1500 and its port 9000") {
		t.Errorf("a larger MTU than the interface's: %v", err)
	}
	if ports, _ := dev.Ports(); len(ports) != 0 {
		t.Errorf("what was refused has left %+v", ports)
	}
}

// TestUplinkRepair: what could not be steered is, and an interface that comes back
// is a port again.
func TestUplinkRepair(t *testing.T) {
	r := run(t, memdevConfig, Options{})
	failing := func(what string) {
		r.dev.FailPorts(func(op, name string) error {
			if op == what && name == "wire" {
				return syscall.ENODEV
			}
			return nil
		})
	}
	says := func() string {
		ports, err := r.f.Ports(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ports[slices.IndexFunc(ports, func(p *dataplanev1.PortStatus) bool { return p.Config.Name == "wire" })].Error
	}
	failing("steer")
	r.apply(wired("10.0.0.0/24"))
	if s := says(); !strings.Contains(s, "steer") {
		t.Errorf("the port says %q", s)
	}
	failing("")
	r.eventually("the NIC is steered", func() bool { return len(r.dev.Steered("wire")) == 1 && says() == "" })

	failing("add")
	r.dev.EndNIC("wire")
	r.eventually("the port tells of the interface's end", func() bool { return strings.Contains(says(), "no such device") })
	failing("")
	r.eventually("the NIC is back", func() bool { return len(r.dev.Steered("wire")) == 1 && says() == "" })
}
