// SPDX-License-Identifier: Apache-2.0

package hostnet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// neighbour makes a host that has a link to others.
func neighbour(t *testing.T) *Host {
	h, _ := host(t)
	for _, c := range []string{
		"ip link add eth0 type veth peer name eth0peer", "ip link set eth0 up", "ip link set eth0peer up",
		"ip addr add 192.0.2.1/24 dev eth0", "ip -6 addr add 2001:db8::1/64 dev eth0 nodad",
		"ip route add default via 192.0.2.254", "ip -6 route add default via 2001:db8::fffe",
	} {
		run(t, h, strings.Fields(c)...)
	}
	return h
}

func peer(name, addresses, pods string) Peer {
	p := Peer{Name: name}
	for _, a := range strings.Fields(addresses) {
		p.Addresses = append(p.Addresses, netip.MustParseAddr(a))
	}
	for _, c := range strings.Fields(pods) {
		p.Pods = append(p.Pods, netip.MustParsePrefix(c))
	}
	return p
}

// peerRoutes are the routes that the host has to pods of others.
func peerRoutes(t *testing.T, h *Host) string {
	t.Helper()
	return run(t, h, "ip", "-4", "route", "show", "proto", "110", "dev", "eth0") + run(t, h, "ip", "-6", "route", "show", "proto", "110", "dev", "eth0")
}

func TestPeers(t *testing.T) {
	h := neighbour(t)
	c := dualStack()
	for _, step := range []struct {
		name  string
		peers []Peer
		want  []string // routes
	}{
		{"two nodes", []Peer{
			peer("n2", "192.0.2.2 2001:db8::2", "10.244.1.0/24 fd00:10:245::/64"),
			peer("n3", "192.0.2.3", "10.244.2.0/24"),
		}, []string{"10.244.1.0/24 via 192.0.2.2", "fd00:10:245::/64 via 2001:db8::2", "10.244.2.0/24 via 192.0.2.3"}},
		{"another address", []Peer{peer("n2", "192.0.2.9 2001:db8::9", "10.244.1.0/24 fd00:10:245::/64")},
			[]string{"10.244.1.0/24 via 192.0.2.9", "fd00:10:245::/64 via 2001:db8::9"}},
		{"other pods", []Peer{peer("n2", "192.0.2.9", "10.244.7.0/24")}, []string{"10.244.7.0/24 via 192.0.2.9"}},
		{"nobody", nil, nil},
	} {
		c.Peers = step.peers
		for range 2 { // the second time all is there
			mustReconcile(t, h, c)
			got := peerRoutes(t, h)
			mustContain(t, got, step.want...)
			if n := strings.Count(got, " via "); n != len(step.want) {
				t.Errorf("%s: %d routes:\n%s", step.name, n, got)
			}
		}
	}
	c.Peers = []Peer{peer("n2", "192.0.2.2", "10.244.1.0/24")}
	mustReconcile(t, h, c)
	if err := h.Remove(c); err != nil {
		t.Fatal(err)
	}
	if got := peerRoutes(t, h); strings.Contains(got, "via") {
		t.Errorf("left behind:\n%s", got)
	}
}

// A peer that cannot be reached is named, and harms no other.
func TestPeerOutOfReach(t *testing.T) {
	for _, test := range []struct {
		name string
		peer Peer
		is   error
		says string
	}{
		{"behind a router", peer("far", "198.51.100.1", "10.244.8.0/24"), ErrNotNeighbour, "198.51.100.1 of node far is on no link"},
		{"no address of the family", peer("old", "192.0.2.8", "fd00:10:248::/64"), ErrNotNeighbour, "give it one"},
		{"the host's own address", peer("twin", "192.0.2.1", "10.244.8.0/24"), ErrNotNeighbour, "node twin"},
		{"someone else's route", peer("late", "192.0.2.8", "10.99.0.0/24"), ErrForeign, "10.99.0.0/24"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := neighbour(t)
			run(t, h, "ip", "route", "add", "10.99.0.0/24", "via", "192.0.2.254")
			c := dualStack()
			c.Peers = []Peer{test.peer, peer("n2", "192.0.2.2", "10.244.1.0/24")}
			err := h.Reconcile(c)
			if !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v", err)
			}
			mustContain(t, peerRoutes(t, h), "10.244.1.0/24 via 192.0.2.2")
		})
	}
}

// The host speaks to its pods from its own address where it has one.
func TestSources(t *testing.T) {
	h := neighbour(t)
	c := dualStack()
	c.Sources = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	mustReconcile(t, h, c)
	mustContain(t, run(t, h, "ip", "route", "get", "10.244.0.7"), "dev netio0 src 192.0.2.1")
	mustContain(t, run(t, h, "ip", "-6", "route", "get", "fd00:10:244::7"), "dev netio0", "src fd00:10:244::1")
}
