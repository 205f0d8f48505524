// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"net/netip"
	"os"
	"testing"
)

func namespace(t *testing.T, name string) *Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n, err := New(fmt.Sprintf("netlab-%d-%s", os.Getpid(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(n.Path); err == nil {
			t.Errorf("%s is still there", n.Path)
		}
	})
	return n
}

// a ── bridge in sw ── b, both families
func TestBridge(t *testing.T) {
	a, b, sw := namespace(t, "a"), namespace(t, "b"), namespace(t, "sw")
	for _, end := range []struct {
		ns     *Namespace
		ifname string
		v4, v6 string
	}{
		{a, "pa", "192.0.2.1/24", "2001:db8::1/64"},
		{b, "pb", "192.0.2.2/24", "2001:db8::2/64"},
	} {
		if err := Connect(end.ns, "eth0", sw, end.ifname); err != nil {
			t.Fatal(err)
		}
		if err := end.ns.Up("eth0", netip.MustParsePrefix(end.v4), netip.MustParsePrefix(end.v6)); err != nil {
			t.Fatal(err)
		}
	}
	if err := sw.Bridge("br0", "pa", "pb"); err != nil {
		t.Fatal(err)
	}
	if err := sw.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	// One ping that waits: the bridge learns and answers within seconds.
	for _, to := range []string{"192.0.2.2", "2001:db8::2"} {
		if out, err := a.Output("ping", "-c", "1", "-W", "10", to); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	if out, err := a.Output("ping", "-c", "1", "-W", "1", "198.51.100.1"); err == nil {
		t.Errorf("an address that nobody has answered: %s", out)
	}
}

func TestRouteNeedsAnInterface(t *testing.T) {
	a := namespace(t, "r")
	if err := a.Route(netip.MustParsePrefix("192.0.2.0/24"), netip.Addr{}, "eth0"); err == nil {
		t.Error("route by an interface that is not there: no error")
	}
	if err := a.Up("lo", netip.MustParsePrefix("192.0.2.1/32")); err != nil {
		t.Error(err)
	}
	if err := a.Route(netip.MustParsePrefix("198.51.100.0/24"), netip.Addr{}, "lo"); err != nil {
		t.Error(err)
	}
}
