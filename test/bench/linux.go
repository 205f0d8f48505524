// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"

	"netio.dev/netio/test/internal/netlab"
)

// kernelPath is what the Linux topologies have in common: no processes.
type kernelPath struct{}

func (kernelPath) Processes() ([]int, error)   { return nil, nil }
func (kernelPath) Counters() (Counters, error) { return Counters{}, nil }
func (kernelPath) Log() string                 { return "" }
func (kernelPath) Stop() error                 { return nil }

// bridge joins the pods by a Linux bridge:
//
//	a eth0 ── pa ┐ br0 ┌ pb ── eth0 b
type bridge struct{ kernelPath }

func (bridge) Name() string { return "bridge" }

func (t bridge) Setup() (Pair, error) {
	a, b, between, err := namespaces(t.Name())
	if err != nil {
		return Pair{}, err
	}
	pair := Pair{A: a, B: b, AAddr: netip.MustParseAddr("10.1.0.2"), BAddr: netip.MustParseAddr("10.1.0.3")}
	if err := connect(pair, between, 24); err != nil {
		return Pair{}, err
	}
	return pair, between.Bridge("br0", "pa", "pb")
}

// routed joins the pods by a router, and with filter set by one that enforces
// the policy with connection tracking:
//
//	a eth0 ── pa  router  pb ── eth0 b
type routed struct {
	kernelPath
	filter bool
}

func (t routed) Name() string {
	if t.filter {
		return "nftables"
	}
	return "routed"
}

func (t routed) Setup() (Pair, error) {
	a, b, between, err := namespaces(t.Name())
	if err != nil {
		return Pair{}, err
	}
	number := 2
	if t.filter {
		number = 3
	}
	var pair Pair
	var aRouter, bRouter netip.Addr
	pair.A, pair.B = a, b
	pair.AAddr, aRouter, pair.BAddr, bRouter = addresses(number)
	if err := connect(pair, between, 24); err != nil {
		return Pair{}, err
	}
	for _, side := range []struct {
		ns      *netlab.Namespace
		ifname  string
		gateway netip.Addr
	}{{a, "pa", aRouter}, {b, "pb", bRouter}} {
		if err := between.Up(side.ifname, netip.PrefixFrom(side.gateway, 24)); err != nil {
			return Pair{}, err
		}
		if err := side.ns.Route(netlab.Default(side.gateway), side.gateway, "eth0"); err != nil {
			return Pair{}, err
		}
	}
	if err := between.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return Pair{}, err
	}
	if t.filter {
		return pair, loadRuleset(between, newPolicy(pair.AAddr, pair.BAddr).nftables(pair.AAddr, pair.BAddr))
	}
	return pair, nil
}

// connect wires eth0 of both pods to pa and pb in between, and gives the pods
// their addresses.
func connect(pair Pair, between *netlab.Namespace, bits int) error {
	for _, side := range []struct {
		ns     *netlab.Namespace
		ifname string
		addr   netip.Addr
	}{{pair.A, "pa", pair.AAddr}, {pair.B, "pb", pair.BAddr}} {
		if err := netlab.Connect(side.ns, "eth0", between, side.ifname); err != nil {
			return err
		}
		if err := side.ns.Up("eth0", netip.PrefixFrom(side.addr, bits)); err != nil {
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
