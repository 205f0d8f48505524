// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"

	"netio.dev/netio/pkg/agent/netnstest"
)

func dualStack() Config {
	return Config{
		IfName: "netio0", MTU: 1400,
		Routers:    []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:10:244::1")},
		Pods:       []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00:10:244::/64")},
		Masquerade: true,
		Except:     []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}
}

// host makes a namespace that stands for a machine, with a host knet.
func host(t *testing.T) (*Host, *os.File) {
	h := &Host{NetNS: netnstest.New(t), SysctlRecord: filepath.Join(t.TempDir(), "sysctls.json")}
	tun, err := netnstest.TUN(h.NetNS, "netio0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tun.Close() })
	return h, tun
}

// run runs a command in the host and returns what it prints.
func run(t *testing.T, h *Host, args ...string) string {
	t.Helper()
	var out []byte
	err := netnstest.Do(h.NetNS, func() (err error) {
		out, err = exec.Command(args[0], args[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
	return string(out)
}

// look describes all that Reconcile makes.
func look(t *testing.T, h *Host) string {
	t.Helper()
	var b strings.Builder
	for _, c := range []string{
		"ip -br link show netio0", "ip -4 addr show netio0", "ip -6 addr show netio0",
		"ip -4 route show dev netio0", "ip -6 route show dev netio0", "nft list table inet netio",
		"sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.netio0.accept_local net.ipv4.conf.netio0.rp_filter net.ipv4.conf.netio0.forwarding",
	} {
		b.WriteString(run(t, h, strings.Fields(c)...))
	}
	return b.String()
}

func mustReconcile(t *testing.T, h *Host, c Config) {
	t.Helper()
	if err := h.Reconcile(c); err != nil {
		t.Fatal(err)
	}
}

func mustContain(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in\n%s", w, text)
		}
	}
}

func TestReconcile(t *testing.T) {
	h, _ := host(t)
	c := dualStack()
	mustReconcile(t, h, c)
	first := look(t, h)
	mustContain(t, first, "mtu 1400", "inet 10.244.0.1/32 scope link netio0",
		"inet6 fd00:10:244::1/128 scope global nodad deprecated",
		"10.244.0.0/24 proto 110 scope link src 10.244.0.1",
		"fd00:10:244::/64 proto 110 src fd00:10:244::1",
		`ip saddr 10.244.0.0/24 oifname != "netio0" goto world`, `ip6 saddr fd00:10:244::/64 oifname != "netio0" goto world`,
		"ip daddr 192.0.2.0/24 return", "masquerade",
		"net.ipv4.ip_forward = 1", "net.ipv6.conf.all.forwarding = 1", "accept_local = 1")
	if strings.Contains(first, "fe80") {
		t.Errorf("a link-local address:\n%s", first)
	}
	// The host takes the router's address towards pods only.
	mustContain(t, run(t, h, "ip", "route", "get", "10.244.0.9"), "dev netio0 src 10.244.0.1")
	mustContain(t, run(t, h, "ip", "route", "get", "fd00:10:244::9"), "dev netio0", "src fd00:10:244::1")

	// Nothing is written where nothing differs: handles of rules stay.
	before := run(t, h, "nft", "-a", "list", "table", "inet", "netio")
	mustReconcile(t, h, c)
	if after := run(t, h, "nft", "-a", "list", "table", "inet", "netio"); after != before {
		t.Errorf("the table was written again:\n%s\n%s", before, after)
	}
	if again := look(t, h); again != first {
		t.Errorf("a second pass changed\n%s\nto\n%s", first, again)
	}
}

// Whatever someone breaks is made good, and what is not ours stays.
func TestReconcileRepairs(t *testing.T) {
	h, _ := host(t)
	c := dualStack()
	mustReconcile(t, h, c)
	first := look(t, h)
	run(t, h, "nft", "add", "table", "inet", "theirs")
	for _, damage := range []string{
		"ip link set netio0 down",
		"ip link set netio0 mtu 1300",
		"ip addr del 10.244.0.1/32 dev netio0",
		"ip -6 addr del fd00:10:244::1/128 dev netio0",
		"ip -6 addr change fd00:10:244::1/128 dev netio0 preferred_lft forever",
		"ip addr add 10.9.9.9/32 dev netio0",
		"ip route del 10.244.0.0/24",
		"ip -6 route del fd00:10:244::/64",
		"ip route add 10.77.0.0/24 dev netio0 proto 110",
		"sysctl net.ipv4.ip_forward=0",
		"sysctl net.ipv6.conf.all.forwarding=0",
		"sysctl net.ipv4.conf.netio0.accept_local=0",
		"nft delete table inet netio",
		"nft flush chain inet netio world",
		"nft add rule inet netio postrouting accept",
		"nft add chain inet netio more",
	} {
		t.Run(damage, func(t *testing.T) {
			run(t, h, strings.Fields(damage)...)
			mustReconcile(t, h, c)
			if got := look(t, h); got != first {
				t.Errorf("left\n%s\nexpected\n%s", got, first)
			}
		})
	}
	run(t, h, "nft", "list", "table", "inet", "theirs")
	// Routes of others on the interface are not ours to remove.
	run(t, h, "ip", "route", "add", "10.78.0.0/24", "dev", "netio0")
	mustReconcile(t, h, c)
	mustContain(t, run(t, h, "ip", "route"), "10.78.0.0/24")
}

func TestReconcileChanges(t *testing.T) {
	h, _ := host(t)
	mustReconcile(t, h, dualStack())

	c := dualStack()
	c.Routers, c.Pods = c.Routers[:1], []netip.Prefix{netip.MustParsePrefix("10.245.0.0/24"), netip.MustParsePrefix("10.244.0.7/32")}
	c.Routers[0] = netip.MustParseAddr("10.245.0.1")
	mustReconcile(t, h, c)
	got := look(t, h)
	mustContain(t, got, "inet 10.245.0.1/32", "10.245.0.0/24 proto 110 scope link src 10.245.0.1", "10.244.0.7 proto 110 scope link src 10.245.0.1")
	for _, gone := range []string{"10.244.0.1", "10.244.0.0/24", "fd00:10:244::"} {
		if strings.Contains(got, gone) {
			t.Errorf("%s is still there:\n%s", gone, got)
		}
	}

	c.Masquerade = false
	mustReconcile(t, h, c)
	if tables := run(t, h, "nft", "list", "tables"); strings.Contains(tables, "netio") {
		t.Errorf("masquerade is off but there are %s", tables)
	}
}

func TestRemove(t *testing.T) {
	h, _ := host(t)
	before := run(t, h, "sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
	c := dualStack()
	mustReconcile(t, h, c)
	for range 2 {
		if err := h.Remove(c); err != nil {
			t.Fatal(err)
		}
	}
	left := run(t, h, "ip", "link") + run(t, h, "ip", "route") + run(t, h, "ip", "-6", "route") + run(t, h, "nft", "list", "ruleset")
	for _, gone := range []string{"netio", "10.244", "fd00:10:244"} {
		if strings.Contains(left, gone) {
			t.Errorf("%s is still there:\n%s", gone, left)
		}
	}
	mustContain(t, run(t, h, "sysctl", "net.ipv4.ip_forward"), "= 1")
	for range 2 {
		if err := h.RestoreSysctls(); err != nil {
			t.Fatal(err)
		}
	}
	if after := run(t, h, "sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"); after != before {
		t.Errorf("sysctls were\n%s and are\n%s", before, after)
	}
	if _, err := os.Stat(h.SysctlRecord); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the record is still there: %v", err)
	}
}

// With forwarding on, a host keeps listening to its routers only if accept_ra
// is 2: the default route must not go away.
func TestRouterAdvertisementsStay(t *testing.T) {
	h, _ := host(t)
	run(t, h, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	run(t, h, "sysctl", "net.ipv6.conf.up0.accept_ra=1", "net.ipv6.conf.up1.accept_ra=0")
	mustReconcile(t, h, dualStack())
	mustContain(t, run(t, h, "sysctl", "net.ipv6.conf.up0.accept_ra", "net.ipv6.conf.up1.accept_ra", "net.ipv6.conf.netio0.accept_ra"),
		"up0.accept_ra = 2", "up1.accept_ra = 0", "netio0.accept_ra = 0")
	if err := h.RestoreSysctls(); err != nil {
		t.Fatal(err)
	}
	mustContain(t, run(t, h, "sysctl", "net.ipv6.conf.up0.accept_ra"), "= 1")
}

func TestInTheWay(t *testing.T) {
	tests := []struct {
		name, make string
		config     func(*Config)
		want       string
	}{
		{"name of another interface", "", func(c *Config) { c.IfName = "up0" }, `interface up0 is of type "veth" and not a knet; set hostInterface`},
		{"address in the prefix", "ip addr add 10.244.0.200/16 dev up0", nil, "up0 has address 10.244.0.200, which is in 10.244.0.0/24"},
		{"router's address elsewhere", "ip addr add 10.244.0.1/32 dev up0", nil, "up0 has address 10.244.0.1"},
		{"route in the prefix", "ip route add 10.244.0.128/25 dev up0", nil, "the route to 10.244.0.128/25 by up0 lies in 10.244.0.0/24"},
		{"the very route", "ip -6 route add fd00:10:244::/64 dev up0", nil, "the route to fd00:10:244::/64 by up0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, _ := host(t)
			run(t, h, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
			run(t, h, "ip", "link", "set", "up0", "up")
			run(t, h, "ip", "link", "set", "up1", "up")
			if tt.make != "" {
				run(t, h, strings.Fields(tt.make)...)
			}
			c := dualStack()
			if tt.config != nil {
				tt.config(&c)
			}
			was := run(t, h, "ip", "addr", "show", "up0") + run(t, h, "ip", "route", "show", "dev", "up0")
			for what, err := range map[string]error{"check": h.Check(c), "reconcile": h.Reconcile(c)} {
				if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: %v, expected %q", what, err, tt.want)
				}
			}
			if is := run(t, h, "ip", "addr", "show", "up0") + run(t, h, "ip", "route", "show", "dev", "up0"); is != was {
				t.Errorf("up0 was changed:\n%s\n%s", was, is)
			}
		})
	}
	t.Run("wider routes are fine", func(t *testing.T) {
		h, _ := host(t)
		run(t, h, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
		run(t, h, "ip", "addr", "add", "10.1.0.5/8", "dev", "up0")
		run(t, h, "ip", "link", "set", "up0", "up")
		run(t, h, "ip", "route", "add", "default", "via", "10.9.9.9")
		c := dualStack()
		if err := h.Check(c); err != nil {
			t.Error(err)
		}
		mustReconcile(t, h, c)
		if err := h.Check(c); err != nil {
			t.Errorf("our own routes: %v", err)
		}
	})
}

func TestNoInterface(t *testing.T) {
	h := &Host{NetNS: netnstest.New(t)}
	if err := h.Reconcile(dualStack()); !errors.Is(err, ErrNoInterface) {
		t.Fatalf("got %v", err)
	}
	// What does not need it is done all the same.
	mustContain(t, run(t, h, "nft", "list", "table", "inet", "netio"), "goto world")
	if err := h.Remove(dualStack()); err != nil {
		t.Fatal(err)
	}
}

func TestAddressesAndMTU(t *testing.T) {
	h, _ := host(t)
	if mtu, err := h.UplinkMTU(nil); mtu != 1500 || err != nil {
		t.Errorf("without default route %d, %v", mtu, err)
	}
	run(t, h, "ip", "link", "add", "up0", "mtu", "1420", "type", "veth", "peer", "name", "up1")
	run(t, h, "ip", "addr", "add", "192.0.2.5/24", "dev", "up0")
	run(t, h, "ip", "link", "set", "up0", "up")
	run(t, h, "ip", "route", "add", "default", "via", "192.0.2.1")
	if mtu, err := h.UplinkMTU(nil); mtu != 1420 || err != nil {
		t.Errorf("MTU %d, %v", mtu, err)
	}
	mustReconcile(t, h, dualStack())
	got, err := h.Addresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"192.0.2.5", "10.244.0.1", "fd00:10:244::1"} {
		if !slices.Contains(got, netip.MustParseAddr(want)) {
			t.Errorf("%s is not in %v", want, got)
		}
	}
	if slices.Contains(got, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("loopback is in %v", got)
	}
}

// The keeper repairs what is broken because it is told, not by waiting.
func TestKeeper(t *testing.T) {
	h, tun := host(t)
	passes := make(chan error, 100)
	k := NewKeeper(h, func(_ Config, err error) { passes <- err })
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { k.Run(ctx); close(stopped) }()
	until := func(what string, ok func(err error) bool) {
		t.Helper()
		for err := range passes {
			if ok(err) {
				return
			}
		}
		t.Fatal(what)
	}
	k.Want(dualStack())
	until("first pass", func(err error) bool { return err == nil })
	for _, damage := range []struct{ command, sign string }{
		{"nft flush ruleset", "goto world"},
		{"ip link set netio0 down", "state UNKNOWN"},
		{"ip addr del 10.244.0.1/32 dev netio0", "inet 10.244.0.1/32"},
		{"ip route del 10.244.0.0/24", "10.244.0.0/24 dev netio0"},
	} {
		run(t, h, strings.Fields(damage.command)...)
		until(damage.command, func(error) bool {
			var all string
			_ = netnstest.Do(h.NetNS, func() error {
				for _, c := range []string{"nft list ruleset", "ip addr show netio0", "ip route"} {
					f := strings.Fields(c)
					out, _ := exec.Command(f[0], f[1:]...).Output()
					all += string(out)
				}
				return nil
			})
			return strings.Contains(all, damage.sign)
		})
	}
	tun.Close()
	until("the interface is gone", func(err error) bool { return errors.Is(err, ErrNoInterface) })
	tun2, err := netnstest.TUN(h.NetNS, "netio0")
	if err != nil {
		t.Fatal(err)
	}
	defer tun2.Close()
	until("the interface is back", func(err error) bool { return err == nil })
	cancel()
	<-stopped
	mustContain(t, run(t, h, "ip", "addr", "show", "netio0"), "10.244.0.1/32")
}

// A pass over what is right already changes nothing, so that the keeper, who
// is told of changes, does not call itself for ever.
func TestReconcileIsQuiet(t *testing.T) {
	h, _ := host(t)
	mustReconcile(t, h, dualStack())
	at, err := netns.GetFromPath(h.NetNS)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	for i, marker := range []string{"ip link set lo mtu 1234", "nft add table inet marker"} {
		socket, err := nl.SubscribeAt(at, netns.None(), subscriptions[i].protocol, subscriptions[i].groups...)
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		mustReconcile(t, h, dualStack())
		run(t, h, strings.Fields(marker)...)
		msgs, _, err := socket.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if name := []string{"lo\x00", "marker\x00"}[i]; !strings.Contains(string(msgs[0].Data), name) {
			t.Errorf("the first event after a pass is %q, expected that of %q", msgs[0].Data, marker)
		}
	}
}

// A packet of the forwarder's, from the router's address, reaches the host's
// applications: an ICMP error that the forwarder makes would be useless if the
// host dropped it as coming from itself.
func TestRouterAddressAsSource(t *testing.T) {
	for _, filter := range []int{0, 1} {
		t.Run(fmt.Sprint("rp_filter ", filter), func(t *testing.T) {
			h, tun := host(t)
			run(t, h, "sysctl", fmt.Sprint("net.ipv4.conf.all.rp_filter=", filter))
			mustReconcile(t, h, dualStack())
			var got string
			err := netnstest.Do(h.NetNS, func() error {
				// 10.244.0.77 is nobody's: the forwarder says so to who asks.
				return expectUnreachable(tun, "10.244.0.77:9", &got)
			})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got, "connection refused") {
				t.Errorf("the application saw %q", got)
			}
		})
	}
}

// What pods send to the world comes from the host's address, but for the
// exceptions.
//
//	netio0 ── host ── up0 192.0.2.5 ────── 192.0.2.1, 198.51.100.1 world
func TestMasquerade(t *testing.T) {
	h, tun := host(t)
	world := netnstest.New(t)
	run(t, h, "ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
	if err := moveLink(h.NetNS, "up1", world); err != nil {
		t.Fatal(err)
	}
	w := &Host{NetNS: world}
	for _, c := range []string{"ip addr add 192.0.2.1/24 dev up1", "ip addr add 198.51.100.1/32 dev up1", "ip link set up1 up",
		"sysctl net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up1.rp_filter=0"} {
		run(t, w, strings.Fields(c)...)
	}
	for _, c := range []string{"ip addr add 192.0.2.5/24 dev up0", "ip link set up0 up", "ip route add default via 192.0.2.1"} {
		run(t, h, strings.Fields(c)...)
	}
	mustReconcile(t, h, dualStack())

	var listener net.PacketConn
	if err := netnstest.Do(world, func() (err error) {
		listener, err = net.ListenPacket("udp4", "0.0.0.0:9")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for dst, want := range map[string]string{"198.51.100.1": "192.0.2.5", "192.0.2.1": "10.244.0.7"} {
		if _, err := tun.Write(datagram("10.244.0.7", dst)); err != nil {
			t.Fatal(err)
		}
		_, from, err := listener.ReadFrom(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		if got := from.(*net.UDPAddr).IP.String(); got != want {
			t.Errorf("%s saw %s, expected %s", dst, got, want)
		}
	}
}
