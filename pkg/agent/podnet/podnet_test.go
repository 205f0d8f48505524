// SPDX-License-Identifier: Apache-2.0

package podnet

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"netio.dev/netio/pkg/agent/attachment"
	"netio.dev/netio/pkg/agent/netnstest"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func route(dst, gw string) attachment.Route {
	r := attachment.Route{Destination: netip.MustParsePrefix(dst)}
	if gw != "" {
		r.Gateway = addr(gw)
	}
	return r
}

// pod makes a namespace with a knet, and what it is to become.
func pod(t *testing.T) (Config, *os.File) {
	path := netnstest.New(t)
	tun, err := netnstest.TUN(path, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	id, err := Identify(path)
	if err != nil {
		t.Fatal(err)
	}
	return Config{NetNS: path, NetNSID: id, IfName: "eth0", MTU: 1400,
		Addresses: []netip.Addr{addr("10.244.0.7"), addr("fd00:10:244::7")},
		Gateways:  []netip.Addr{addr("10.244.0.1"), addr("fd00:10:244::1")}}, tun
}

func made(c Config, s State) *attachment.Attachment {
	return &attachment.Attachment{ID: attachment.ID{Network: "n", ContainerID: "c", IfName: c.IfName},
		NetNS: c.NetNS, NetNSID: c.NetNSID, Addresses: c.Addresses, MTU: c.MTU, IfIndex: s.IfIndex, Routes: s.Routes}
}

func inside(t *testing.T, path string, f func() error) {
	t.Helper()
	if err := netnstest.Do(path, f); err != nil {
		t.Fatal(err)
	}
}

func TestConfigure(t *testing.T) {
	c, _ := pod(t)
	s, err := Configure(c)
	if err != nil {
		t.Fatal(err)
	}
	want := []attachment.Route{
		route("10.244.0.1/32", ""), route("0.0.0.0/0", "10.244.0.1"),
		route("fd00:10:244::1/128", ""), route("::/0", "fd00:10:244::1"),
	}
	equal := cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })}
	if d := cmp.Diff(want, s.Routes, equal); d != "" {
		t.Errorf("routes (-want +got):\n%s", d)
	}
	if err := Check(made(c, s)); err != nil {
		t.Errorf("check: %v", err)
	}
	again, err := Configure(c)
	if err != nil || !cmp.Equal(s, again, equal) {
		t.Errorf("a second time: %v, %v", again, err)
	}

	inside(t, c.NetNS, func() error {
		// What an application will find.
		for dst, src := range map[string]string{"192.0.2.1": "10.244.0.7", "10.244.0.1": "10.244.0.7", "2001:db8::1": "fd00:10:244::7"} {
			rs, err := netlink.RouteGet(addr(dst).AsSlice())
			if err != nil {
				return err
			}
			if got := rs[0].Src.String(); got != src || rs[0].LinkIndex != s.IfIndex {
				t.Errorf("to %s from %s by interface %d, expected %s by %d", dst, got, rs[0].LinkIndex, src, s.IfIndex)
			}
		}
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		six, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return err
		}
		if len(six) != 1 {
			t.Errorf("IPv6 addresses %v, expected no link-local one", six)
		}
		return nil
	})
}

// A namespace in which the runtime turned IPv6 off, as some do.
func TestConfigureIPv6Off(t *testing.T) {
	c, _ := pod(t)
	inside(t, c.NetNS, func() error {
		for _, f := range []string{"all", "default", "eth0"} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+f+"/disable_ipv6", []byte("1"), 0); err != nil {
				return err
			}
		}
		return nil
	})
	s, err := Configure(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(made(c, s)); err != nil {
		t.Error(err)
	}
}

// A second network in the same pod does not take the default route.
func TestConfigureSecondInterface(t *testing.T) {
	c, _ := pod(t)
	first, err := Configure(c)
	if err != nil {
		t.Fatal(err)
	}
	tun, err := netnstest.TUN(c.NetNS, "net1")
	if err != nil {
		t.Fatal(err)
	}
	defer tun.Close()
	c2 := c
	c2.IfName, c2.Addresses = "net1", []netip.Addr{addr("10.244.0.8"), addr("fd00:10:244::8")}
	second, err := Configure(c2)
	if err != nil {
		t.Fatal(err)
	}
	if len(second.Routes) != 0 {
		t.Errorf("the second interface got %v", second.Routes)
	}
	if err := errors.Join(Check(made(c, first)), Check(made(c2, second))); err != nil {
		t.Error(err)
	}
}

func TestCheckDifferences(t *testing.T) {
	tests := []struct {
		name   string
		change func(netlink.Link) error
		want   []string
	}{
		{"down", netlink.LinkSetDown, []string{"it is down", "address fd00:10:244::7 is missing", "the route to 0.0.0.0/0 is missing"}},
		{"mtu", func(l netlink.Link) error { return netlink.LinkSetMTU(l, 1300) }, []string{"its MTU is 1300, expected 1400"}},
		{"address", func(l netlink.Link) error {
			a, err := netlink.ParseAddr("10.244.0.7/32")
			if err != nil {
				return err
			}
			return netlink.AddrDel(l, a)
		}, []string{"address 10.244.0.7 is missing"}},
		{"route", func(l netlink.Link) error {
			return netlink.RouteDel(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("::/0"))})
		}, []string{"the route to ::/0 is missing"}},
		{"another name", func(l netlink.Link) error {
			if err := netlink.LinkSetDown(l); err != nil {
				return err
			}
			return netlink.LinkSetName(l, "eth1")
		}, []string{"eth0 in", "it is gone"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := pod(t)
			s, err := Configure(c)
			if err != nil {
				t.Fatal(err)
			}
			inside(t, c.NetNS, func() error {
				l, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				return tt.change(l)
			})
			err = Check(made(c, s))
			if !errors.Is(err, ErrDiffers) {
				t.Fatalf("got %v", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %v\nexpected %q in it", err, w)
				}
			}
		})
	}
}

func TestNoNetNS(t *testing.T) {
	c, _ := pod(t)
	if alive, err := Alive(c.NetNS, c.NetNSID); !alive || err != nil {
		t.Errorf("alive %v, %v", alive, err)
	}
	reboot := c
	reboot.NetNSID.Boot = "before"
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	plain, none := c, c
	plain.NetNS, none.NetNS = file, file+"-none"
	for name, c := range map[string]Config{"of an earlier boot": reboot, "a plain file": plain, "no such path": none} {
		if _, err := Configure(c); !errors.Is(err, ErrNoNetNS) {
			t.Errorf("%s: configure: %v", name, err)
		}
		if alive, err := Alive(c.NetNS, c.NetNSID); alive || err != nil {
			t.Errorf("%s: alive %v, %v", name, alive, err)
		}
	}
	if _, err := Identify(file); !errors.Is(err, ErrNoNetNS) {
		t.Errorf("identify a plain file: %v", err)
	}
}

func TestLook(t *testing.T) {
	c, tun := pod(t)
	look := func() Interface {
		t.Helper()
		i, err := Look(made(c, State{}))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	if i := look(); i.Index == 0 || !i.Blank {
		t.Errorf("a new one: %+v", i)
	}
	s, err := Configure(c)
	if err != nil {
		t.Fatal(err)
	}
	if i := look(); i.Index != s.IfIndex || i.Blank {
		t.Errorf("a configured one: %+v", i)
	}
	inside(t, c.NetNS, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	})
	if i := look(); i.Blank {
		t.Errorf("one that the pod set down: %+v", i)
	}
	tun.Close()
	if i := look(); i.Index != 0 || i.Blank {
		t.Errorf("a removed one: %+v", i)
	}
	if err := Check(made(c, s)); !errors.Is(err, ErrDiffers) {
		t.Errorf("check: %v", err)
	}
}
