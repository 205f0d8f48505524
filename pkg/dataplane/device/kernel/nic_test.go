// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
)

// fakeNICs are the interfaces of a fakeKernel: lo, eth0, br0, and eth1 in it.
func fakeNICs() []netlink.Link {
	attrs := func(name string, master int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, MTU: 1500, MasterIndex: master}
	}
	return []netlink.Link{
		&netlink.GenericLink{LinkAttrs: attrs("lo", 0), LinkType: "loopback"},
		&netlink.Device{LinkAttrs: attrs("eth0", 0)},
		&netlink.Bridge{LinkAttrs: attrs("br0", 0)},
		&netlink.Device{LinkAttrs: attrs("eth1", 3)},
	}
}

func TestNIC(t *testing.T) {
	k := newFakeKernel(t, 1, 64)
	k.nics = fakeNICs()
	d := newFake(t, k, eventfd)
	knet := add(t, d, device.PortConfig{Name: "a", IfName: "eth0", NetNS: ownNS})
	nic, err := d.AddNIC(device.NICConfig{Name: "up", IfName: "eth0", Quota: 100, Whole: true})
	if err != nil {
		t.Fatal(err)
	}
	want := device.PortInfo{ID: 2, IfIndex: 2, NIC: true, PortConfig: device.PortConfig{Name: "up", IfName: "eth0", MTU: 1500, Quota: 100, Whole: true}}
	if nic != want {
		t.Errorf("added %+v, want %+v", nic, want)
	}
	for _, c := range []struct {
		name, ifname string
		want         error
		words        string
	}{
		{"up", "eth1", device.ErrPortExists, "port up"},
		{"b", "eth0", device.ErrInterfaceInUse, "a port already"},
		{"b", "eth1", device.ErrInterfaceInUse, "bridge br0; take it out (ip link set eth1 nomaster)"},
		{"b", "lo", device.ErrNotNIC, "interface lo"},
		{"b", "eth7", device.ErrNoInterface, "eth7: no such network interface"},
		{"b", "", nil, `interface name ""`},
		{"b\n", "eth0", nil, "line breaks"},
	} {
		_, err := d.AddNIC(device.NICConfig{Name: c.name, IfName: c.ifname})
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s as %q: %v", c.ifname, c.name, err)
		}
	}
	// Its MTU is what it is now, also for the next owner.
	k.ports[2].MTU = 9000
	k.tell(2)
	nic.MTU = 9000
	for _, d := range []*Device{d, newFake(t, k, eventfd)} {
		if got := list(t, d); !reflect.DeepEqual(got, []device.PortInfo{knet, nic}) {
			t.Errorf("listed %+v", got)
		}
	}
	k.lost = true
	if _, err := d.AddNIC(device.NICConfig{Name: "b", IfName: "eth0"}); !errors.Is(err, device.ErrNotOwner) {
		t.Errorf("another's instance: %v", err)
	}
}

func TestSteer(t *testing.T) {
	k := newFakeKernel(t, 1, 64)
	k.nics = fakeNICs()
	d := newFake(t, k, eventfd)
	knet := add(t, d, device.PortConfig{Name: "a", IfName: "eth0", NetNS: ownNS})
	nic, err := d.AddNIC(device.NICConfig{Name: "up", IfName: "eth0"})
	if err != nil {
		t.Fatal(err)
	}
	v4, v6 := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")
	other := netip.MustParsePrefix("10.2.0.0/16")
	if err := d.Steer(nic.ID, device.SteerReplace, v4, v6); err != nil {
		t.Fatal(err)
	}
	want := []prefix{
		{Addr: [16]byte{10, 1}, Family: unix.AF_INET, Len: 16},
		{Addr: [16]byte{0xfd, 0, 0, 1}, Family: unix.AF_INET6, Len: 32},
	}
	if !reflect.DeepEqual(k.steered[uint32(nic.ID)], want) {
		t.Errorf("steered %+v, want %+v", k.steered, want)
	}
	for _, c := range []struct {
		id    device.PortID
		op    device.SteerOp
		list  []netip.Prefix
		want  error
		words string
	}{
		{nic.ID, device.SteerAdd, []netip.Prefix{v4}, device.ErrSteered, "10.1.0.0/16"},
		{nic.ID, device.SteerRemove, []netip.Prefix{other}, device.ErrNotSteered, "10.2.0.0/16"},
		{knet.ID, device.SteerReplace, nil, device.ErrNotNIC, "a knet"},
		{9, device.SteerReplace, nil, device.ErrNoPort, "port 9"},
		{9, device.SteerRemove, []netip.Prefix{v4}, device.ErrNoPort, "port 9"},
		{nic.ID, 7, nil, nil, "7 is no operation"},
		{nic.ID, device.SteerAdd, []netip.Prefix{{}}, nil, "invalid"},
		{nic.ID, device.SteerAdd, []netip.Prefix{netip.MustParsePrefix("10.2.0.1/16")}, nil, "want 10.2.0.0/16"},
		{nic.ID, device.SteerAdd, []netip.Prefix{netip.MustParsePrefix("::ffff:10.2.0.0/112")}, nil, "written as IPv6"},
		{nic.ID, device.SteerAdd, make([]netip.Prefix, abi.SteerMax+1), nil, "at most 4096"},
	} {
		err := d.Steer(c.id, c.op, c.list...)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v: %v", c, err)
		}
	}
	if !reflect.DeepEqual(k.steered[uint32(nic.ID)], want) {
		t.Errorf("what was refused has changed it to %+v", k.steered)
	}
}

// TestNICMistakes has the module refuse what Device never asks of it.
func TestNICMistakes(t *testing.T) {
	if _, err := Available(""); err != nil {
		if os.Getenv(needVar) == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	d, err := Open(Config{Name: "nic-mistakes", TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Destroy(); err != nil {
			t.Error(err)
		}
	}()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "mistake0"}, PeerName: "mistake1"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(veth)
	p, err := d.AddNIC(device.NICConfig{Name: "nic", IfName: "mistake0"})
	if err != nil {
		t.Fatal(err)
	}
	peer, err := net.InterfaceByName("mistake1")
	if err != nil {
		t.Fatal(err)
	}
	unended := addNIC{IfIndex: uint32(peer.Index)}
	for i := range unended.Label {
		unended.Label[i] = 'x'
	}
	for what, c := range map[string]struct {
		nic  addNIC
		want error
	}{
		"a label without end":    {unended, unix.EINVAL},
		"unknown flags":          {addNIC{IfIndex: uint32(peer.Index), Flags: 1 << 31}, unix.EINVAL},
		"a quota beyond":         {addNIC{IfIndex: uint32(peer.Index), NbufQuota: abi.NbufsMax + 1}, unix.EINVAL},
		"a number beyond":        {addNIC{IfIndex: uint32(peer.Index), Port: abi.PortsMax}, unix.EINVAL},
		"a number that is used":  {addNIC{IfIndex: uint32(peer.Index), Port: uint32(p.ID)}, unix.EEXIST},
		"an interface of no one": {addNIC{IfIndex: 1 << 30}, unix.ENODEV},
		"a negative index":       {addNIC{IfIndex: 1 << 31}, unix.ENODEV},
		"a NIC twice":            {addNIC{IfIndex: uint32(p.IfIndex)}, unix.EBUSY},
	} {
		if port, err := d.kernel.addNIC(c.nic); err != c.want {
			t.Errorf("%s: port %d, %v, want %v", what, port, err, c.want)
		}
	}
	v4 := func(len uint8, b ...byte) prefix {
		p := prefix{Family: unix.AF_INET, Len: len}
		copy(p.Addr[:], b)
		return p
	}
	for what, c := range map[string]struct {
		op   uint32
		list []prefix
		want error
	}{
		"an unknown operation":     {9, nil, unix.EINVAL},
		"too many prefixes":        {0, make([]prefix, abi.SteerMax+1), unix.ENOSPC},
		"no family":                {1, []prefix{{}}, unix.EINVAL},
		"a length beyond":          {1, []prefix{v4(33)}, unix.EINVAL},
		"an IPv6 length beyond":    {1, []prefix{{Family: unix.AF_INET6, Len: 129}}, unix.EINVAL},
		"bits beyond the prefix":   {1, []prefix{v4(8, 10, 0, 0, 1)}, unix.EINVAL},
		"bytes beyond the address": {1, []prefix{v4(32, 10, 0, 0, 1, 1)}, unix.EINVAL},
		"a reserved field":         {1, []prefix{{Family: unix.AF_INET, Reserved: 1}}, unix.EINVAL},
	} {
		if err := d.kernel.steer(uint32(p.ID), c.op, c.list); err != c.want {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	if err := ioctl(d.lanes[0].fd, iocSteer, 0); err != unix.EFAULT {
		t.Errorf("STEER of nothing: %v", err)
	}
}
