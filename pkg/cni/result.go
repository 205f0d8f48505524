// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
)

// readPrevResult reads the result of the plugins before this one.
func readPrevResult(c *config, v json.RawMessage) error {
	// The library follows pointers that a null in a list leaves nil.
	var lists struct {
		Interfaces []json.RawMessage `json:"interfaces"`
		IPs        []json.RawMessage `json:"ips"`
		Routes     []json.RawMessage `json:"routes"`
	}
	if err := decode(v, &lists, "a result object"); err != nil {
		return err
	}
	for name, list := range map[string][]json.RawMessage{"interfaces": lists.Interfaces, "ips": lists.IPs, "routes": lists.Routes} {
		for i, e := range list {
			if !bytes.HasPrefix(e, []byte("{")) {
				return fmt.Errorf("%s: entry %d: expected an object, got %s", name, i, excerpt(e))
			}
		}
	}

	conf := &types.PluginConf{CNIVersion: c.cniVersion}
	if err := decode(v, &conf.RawPrevResult, "a result object"); err != nil {
		return err
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return err
	}
	r, err := types100.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return err
	}
	for i, ip := range r.IPs {
		if n := ip.Interface; n != nil && (*n < 0 || *n >= len(r.Interfaces)) {
			return fmt.Errorf("ips: entry %d: interface %d is none of the %d interfaces", i, *n, len(r.Interfaces))
		}
	}
	c.prevResult = r
	return nil
}

// noMAC stands for the hardware address that a knet has not. The field is
// optional, but podman fails without; the reference loopback plugin says the same.
const noMAC = "00:00:00:00:00:00"

// interfaceOf finds the container's interface in a result, -1 if it has none.
func interfaceOf(r *types100.Result, ifname string) int {
	for i, f := range r.Interfaces {
		if f.Name == ifname && f.Sandbox != "" {
			return i
		}
	}
	return -1
}

// result makes the plugin's result of the agent's answer, behind what earlier
// plugins made.
func (c *config) result(args *skel.CmdArgs, resp *agentv1.AddResponse) (*types100.Result, error) {
	r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	if c.prevResult != nil {
		*r = *c.prevResult
	}
	if resp.GetIfname() != args.IfName {
		return nil, fmt.Errorf("it made interface %q instead of %q", resp.GetIfname(), args.IfName)
	}
	if len(resp.GetAddresses()) == 0 {
		return nil, fmt.Errorf("it gave no address")
	}
	index := len(r.Interfaces)
	r.Interfaces = append(r.Interfaces, &types100.Interface{
		Name:    args.IfName,
		Mac:     noMAC,
		Mtu:     int(resp.GetMtu()),
		Sandbox: args.Netns,
	})
	for _, a := range resp.GetAddresses() {
		ip, err := ipConfig(a)
		if err != nil {
			return nil, err
		}
		ip.Interface = &index
		r.IPs = append(r.IPs, ip)
	}
	for _, rt := range resp.GetRoutes() {
		route, err := resultRoute(rt)
		if err != nil {
			return nil, err
		}
		r.Routes = append(r.Routes, route)
	}
	if !c.dns.IsEmpty() {
		r.DNS = c.dns
	}
	return r, nil
}

func ipConfig(a *agentv1.AddressConfig) (*types100.IPConfig, error) {
	p, err := netip.ParsePrefix(a.GetAddress())
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", a.GetAddress(), err)
	}
	gw, err := optionalIP(a.GetGateway())
	if err != nil {
		return nil, fmt.Errorf("gateway of %s: %w", p, err)
	}
	return &types100.IPConfig{Address: ipNet(p), Gateway: gw}, nil
}

func resultRoute(r *agentv1.RouteConfig) (*types.Route, error) {
	p, err := netip.ParsePrefix(r.GetDestination())
	if err != nil {
		return nil, fmt.Errorf("route to %q: %w", r.GetDestination(), err)
	}
	gw, err := optionalIP(r.GetGateway())
	if err != nil {
		return nil, fmt.Errorf("gateway to %s: %w", p, err)
	}
	return &types.Route{Dst: ipNet(p.Masked()), GW: gw}, nil
}

func optionalIP(s string) (net.IP, error) {
	if s == "" {
		return nil, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return nil, err
	}
	return a.AsSlice(), nil
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// addresses are those that prevResult has for the container's interface.
func addresses(r *types100.Result, index int) []*agentv1.AddressConfig {
	var out []*agentv1.AddressConfig
	for _, ip := range r.IPs {
		if ip.Interface == nil || *ip.Interface != index {
			continue
		}
		a := &agentv1.AddressConfig{Address: ip.Address.String()}
		if ip.Gateway != nil {
			a.Gateway = ip.Gateway.String()
		}
		out = append(out, a)
	}
	return out
}
