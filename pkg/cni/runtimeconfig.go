// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
)

// readArgsField takes the labels and addresses of the conventions (CNI
// CONVENTIONS.md, "args" in network config); other args are for others.
func readArgsField(c *config, v json.RawMessage) error {
	var args struct {
		CNI struct {
			Labels json.RawMessage `json:"labels"`
			IPs    json.RawMessage `json:"ips"`
		} `json:"cni"`
	}
	if err := decode(v, &args, `an object such as {"cni": {"labels": [{"key": "app", "value": "web"}]}}`); err != nil {
		return err
	}
	if args.CNI.Labels != nil {
		var err error
		if c.labels, err = readLabels(args.CNI.Labels); err != nil {
			return fmt.Errorf("cni.labels: %w", err)
		}
	}
	if args.CNI.IPs != nil {
		var err error
		if c.argsIPs, err = readIPs(args.CNI.IPs); err != nil {
			return fmt.Errorf("cni.ips: %w", err)
		}
	}
	return nil
}

// readLabels is strict: policies go by labels.
func readLabels(v json.RawMessage) (map[string]string, error) {
	var list []struct {
		Key   *string `json:"key"`
		Value *string `json:"value"`
	}
	if err := decode(v, &list, `a list such as [{"key": "app", "value": "web"}]`); err != nil {
		return nil, err
	}
	labels := make(map[string]string)
	for i, l := range list {
		if l.Key == nil || *l.Key == "" || l.Value == nil {
			return nil, fmt.Errorf(`entry %d: expected {"key": ..., "value": ...} with a key that is not empty`, i)
		}
		if old, twice := labels[*l.Key]; twice && old != *l.Value {
			return nil, fmt.Errorf("entry %d: label %q is given as %q and as %q", i, *l.Key, old, *l.Value)
		}
		labels[*l.Key] = *l.Value
	}
	return labels, nil
}

func readIPs(v json.RawMessage) ([]netip.Addr, error) {
	var list []string
	if err := decode(v, &list, `a list of addresses such as ["10.0.0.5", "fd00::5/64"]`); err != nil {
		return nil, err
	}
	var ips []netip.Addr
	for i, s := range list {
		a, err := parseIP(s)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i, err)
		}
		ips = append(ips, a)
	}
	return ips, nil
}

// parseIP reads an address with or without prefix length; knets are
// point-to-point, so the length says nothing to us.
func parseIP(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		var p netip.Prefix
		p, err = netip.ParsePrefix(s)
		a = p.Addr()
	}
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("expected an address such as 10.0.0.5, fd00::5 or 10.0.0.5/24, got %q", s)
	}
	return a.Unmap(), nil
}

// readRuntimeConfig takes the capability arguments. The runtime sends only those
// that the configuration asks for under capabilities, and a plugin must
// not ignore what it cannot do (CNI CONVENTIONS.md).
func readRuntimeConfig(c *config, v json.RawMessage) error {
	var args map[string]json.RawMessage
	if err := decode(v, &args, "an object"); err != nil {
		return err
	}
	for name, v := range args {
		if isEmpty(v) {
			continue
		}
		var err error
		switch name {
		case "ips":
			c.runtimeIPs, err = readIPs(v)
		case "dns":
			c.dns, err = readRuntimeDNS(v)
		case "cgroupPath": // tells, asks for nothing
		default:
			hint := "remove it from capabilities"
			if name == "portMappings" || name == "bandwidth" {
				hint = "move it to the capabilities of a plugin that does it, after this one"
			}
			return unsupported{fmt.Errorf("%s: %s is not supported; %s", name, excerpt(v), hint)}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func isEmpty(v json.RawMessage) bool {
	switch string(v) {
	case "null", "[]", "{}", `""`:
		return true
	}
	return false
}

// readRuntimeDNS reads the well-known capability, whose names are not those of
// the dns field.
func readRuntimeDNS(v json.RawMessage) (types.DNS, error) {
	var d struct {
		Servers  []string `json:"servers"`
		Searches []string `json:"searches"`
		Options  []string `json:"options"`
	}
	if err := decode(v, &d, `an object such as {"servers": ["10.0.0.10"], "searches": ["example.net"]}`); err != nil {
		return types.DNS{}, err
	}
	return types.DNS{Nameservers: d.Servers, Search: d.Searches, Options: d.Options}, nil
}
