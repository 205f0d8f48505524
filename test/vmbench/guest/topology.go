// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"netio.dev/netio/test/internal/netlab"
)

// topology is one way to join two pods: the namespaces a and b, each with an
// interface eth0 of MTU 1500, and what is between them.
type topology interface {
	// setup makes it. After an error it may be half made: the machine ends then.
	setup() (pair, error)
	// forwarder is the process that moves the packets; 0: the kernel does.
	forwarder() (pid int, err error)
	// copied is how many bytes of payload were copied on the way; false: it is not
	// counted.
	copied() (bytes uint64, counted bool, err error)
	// stop ends its processes.
	stop() error
}

// pod has an address of each family.
type pod struct{ ipv4, ipv6 netip.Addr }

func (p pod) addresses() []netip.Addr { return []netip.Addr{p.ipv4, p.ipv6} }

// pair is the two pods, in namespaces: packets go from a to b.
type pair struct {
	A, B, between *netlab.Namespace
	a, b          pod
}

// topologies in the order in which they are measured.
func topologies(o forwarderOptions) ([]string, map[string]topology) {
	return []string{"direct", "netio", "bridge", "routed", "nftables", "tun", "xdp"}, map[string]topology{
		"direct":   direct{},
		"netio":    &netio{forwarderOptions: o, device: "kernel"},
		"bridge":   bridge{},
		"routed":   routed{},
		"nftables": routed{filter: true},
		"tun":      &netio{forwarderOptions: o, device: "soft"},
		"xdp":      &xdp{},
	}
}

// newPair makes the namespaces; n tells the addresses of topologies apart.
func newPair(name string, n byte) (pair, error) {
	at := func(subnet byte) pod {
		return pod{
			netip.AddrFrom4([4]byte{10, n, subnet, 2}),
			netip.AddrFrom16([16]byte{0xfd, 0, 0, n, 0, subnet, 15: 2}),
		}
	}
	p := pair{a: at(1), b: at(2)}
	for _, ns := range []struct {
		to   **netlab.Namespace
		name string
	}{{&p.A, "a"}, {&p.B, "b"}, {&p.between, "between"}} {
		var err error
		if *ns.to, err = netlab.New(name + "-" + ns.name); err != nil {
			return pair{}, err
		}
	}
	return p, nil
}

func (p pair) close() error {
	return errors.Join(p.A.Close(), p.B.Close(), p.between.Close())
}

// side is one pod's end of a pair.
type side struct {
	ns   *netlab.Namespace
	pod  pod
	port string // the other end of its veth, in between
}

func (p pair) sides() []side { return []side{{p.A, p.a, "pa"}, {p.B, p.b, "pb"}} }

// subnet is the network of an address: that of the pod alone, or of both.
func subnet(a netip.Addr, both bool) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 48
	}
	if both {
		bits -= 8
		if a.Is6() {
			bits -= 8
		}
	}
	return netip.PrefixFrom(a, bits)
}

// router is the address of the router on the pod's side.
func router(a netip.Addr) netip.Addr { return a.Prev() }

// address gives a pod's eth0 its addresses.
func (s side) address(both bool) error {
	var prefixes []netip.Prefix
	for _, a := range s.pod.addresses() {
		prefixes = append(prefixes, subnet(a, both))
	}
	return s.ns.Up("eth0", prefixes...)
}

// inKernel is what topologies without a process have in common.
type inKernel struct{}

func (inKernel) forwarder() (int, error)       { return 0, nil }
func (inKernel) copied() (uint64, bool, error) { return 0, false, nil }
func (inKernel) stop() error                   { return nil }

// direct is a veth pair from pod to pod: nothing forwards.
//
//	a eth0 ── eth0 b
type direct struct{ inKernel }

func (direct) setup() (pair, error) {
	p, err := newPair("direct", 1)
	if err != nil {
		return p, err
	}
	if err := netlab.Connect(p.A, "eth0", p.B, "eth0"); err != nil {
		return p, err
	}
	for _, s := range p.sides() {
		if err := s.address(true); err != nil {
			return p, err
		}
	}
	return p, nil
}

// bridge joins the pods by a Linux bridge:
//
//	a eth0 ── pa ┐ br0 ┌ pb ── eth0 b
type bridge struct{ inKernel }

func (bridge) setup() (pair, error) {
	p, err := newPair("bridge", 2)
	if err != nil {
		return p, err
	}
	for _, s := range p.sides() {
		if err := connect(p, s); err != nil {
			return p, err
		}
		if err := s.address(true); err != nil {
			return p, err
		}
	}
	return p, p.between.Bridge("br0", "pa", "pb")
}

func connect(p pair, s side) error { return netlab.Connect(s.ns, "eth0", p.between, s.port) }

// routed joins the pods by a router, and with filter set by one that enforces
// the policy with connection tracking:
//
//	a eth0 ── pa  router  pb ── eth0 b
type routed struct {
	inKernel
	filter bool
}

func (t routed) setup() (pair, error) {
	name, number := "routed", byte(3)
	if t.filter {
		name, number = "nftables", 4
	}
	p, err := newPair(name, number)
	if err != nil {
		return p, err
	}
	for _, s := range p.sides() {
		if err := connect(p, s); err != nil {
			return p, err
		}
		if err := s.route(p); err != nil {
			return p, err
		}
	}
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := p.between.Sysctl(name, "1"); err != nil {
			return p, err
		}
	}
	if !t.filter {
		return p, nil
	}
	return p, loadRuleset(p.between, newPolicy(p.a, p.b).nftables())
}

// route gives pod and router their addresses, and the pod its routes.
func (s side) route(p pair) error {
	if err := s.address(false); err != nil {
		return err
	}
	for _, a := range s.pod.addresses() {
		if err := p.between.Up(s.port, netip.PrefixFrom(router(a), subnet(a, false).Bits())); err != nil {
			return err
		}
		if err := s.ns.Route(netlab.Default(a), router(a), "eth0"); err != nil {
			return err
		}
	}
	return nil
}

func loadRuleset(ns *netlab.Namespace, ruleset string) error {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(ruleset)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := ns.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("load nftables rules: %w: %s", err, out.String())
	}
	return nil
}
