// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// Tags by which the agent tells the forwarder whose port it is.
const (
	tagNamespace = "namespace"
	tagPod       = "pod"
)

// place is somewhere that packets come from or go to.
type place struct {
	label     string // as people call it: namespace/name, a port's name, or the address
	port      string // the forwarder's name for its port; "" for an address
	addresses []netip.Addr
}

// find tells which of the places a name means. namespace/name and a port's
// name are exact; a name alone must be the only one of its kind.
func find(places []place, name string) (place, error) {
	if i := slices.IndexFunc(places, func(p place) bool { return p.label == name || p.port == name }); i >= 0 {
		return places[i], nil
	}
	var found []place
	for _, p := range places {
		if _, pod, ok := strings.Cut(p.label, "/"); ok && pod == name {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return place{}, errNotFound
	case 1:
		return found[0], nil
	}
	labels := make([]string, len(found))
	for i, p := range found {
		labels[i] = p.label
	}
	slices.Sort(labels)
	return place{}, fmt.Errorf("%q may be %s; say which", name, strings.Join(labels, " or "))
}

var errNotFound = errors.New("not found")

// lookup finds a place by name: an endpoint of the agent, or a port of the
// forwarder, by its name or by whose it is. So it works without the agent too.
func (a *app) lookup(ctx context.Context, fw *forwarder, name string) (place, error) {
	endpoints, agentErr := a.endpointPlaces(ctx)
	p, err := find(endpoints, name)
	if err == nil || !errors.Is(err, errNotFound) {
		return p, err
	}
	ports, err := portPlaces(ctx, fw)
	if err != nil {
		return place{}, err
	}
	p, err = find(ports, name)
	switch {
	case !errors.Is(err, errNotFound):
		return p, err
	case agentErr != nil:
		return place{}, fmt.Errorf("no port is called %q, and endpoints could not be asked for: %w", name, agentErr)
	}
	return place{}, fmt.Errorf("no endpoint or port is called %q; netioctl endpoints and netioctl ports list them", name)
}

// locate is lookup for a name or an address.
func (a *app) locate(ctx context.Context, fw *forwarder, host string) (place, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return place{}, fmt.Errorf("%s: link-local addresses with a zone are not forwarded", host)
		}
		return place{label: addr.Unmap().String(), addresses: []netip.Addr{addr.Unmap()}}, nil
	}
	return a.lookup(ctx, fw, host)
}

func (a *app) endpointPlaces(ctx context.Context) ([]place, error) {
	g, err := a.agent()
	if err != nil {
		return nil, err
	}
	defer g.Close()
	list, err := g.ListEndpoints(ctx, &agentv1.ListEndpointsRequest{})
	if err != nil {
		return nil, err
	}
	places := make([]place, len(list.GetEndpoints()))
	for i, e := range list.GetEndpoints() {
		places[i] = place{endpointName(e), e.GetPort(), parseAddresses(e.GetAddresses())}
	}
	return places, nil
}

func portPlaces(ctx context.Context, fw *forwarder) ([]place, error) {
	list, err := fw.ListPorts(ctx, &dataplanev1.ListPortsRequest{})
	if err != nil {
		return nil, err
	}
	places := make([]place, len(list.GetPorts()))
	for i, p := range list.GetPorts() {
		c := p.GetConfig()
		places[i] = place{portOwner(c), c.GetName(), parseAddresses(c.GetAddresses())}
	}
	return places, nil
}

// portOwner is namespace/name of the pod behind a port, or else the port's name.
func portOwner(c *dataplanev1.Port) string {
	if t := c.GetTags(); t[tagPod] != "" {
		return t[tagNamespace] + "/" + t[tagPod]
	}
	return c.GetName()
}

func endpointName(e *agentv1.Endpoint) string {
	return e.GetNamespace() + "/" + e.GetName()
}

// parseAddresses takes addresses with and without prefix lengths.
func parseAddresses(list []string) []netip.Addr {
	var addrs []netip.Addr
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			addrs = append(addrs, p.Addr().Unmap())
		} else if addr, err := netip.ParseAddr(s); err == nil {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

// meet picks an address of each place, of the same family. IPv4 comes first
// unless family, 4 or 6, asks for one.
func meet(src, dst place, family int) (netip.Addr, netip.Addr, error) {
	for _, is4 := range []bool{true, false} {
		if family != 0 && is4 != (family == 4) {
			continue
		}
		ofFamily := func(a netip.Addr) bool { return a.Is4() == is4 }
		i, j := slices.IndexFunc(src.addresses, ofFamily), slices.IndexFunc(dst.addresses, ofFamily)
		if i >= 0 && j >= 0 {
			return src.addresses[i], dst.addresses[j], nil
		}
	}
	which := "the same IP version"
	if family != 0 {
		which = fmt.Sprintf("IPv%d", family)
	}
	return netip.Addr{}, netip.Addr{}, fmt.Errorf("no addresses of %s: %s has %s, %s has %s",
		which, src.label, listAddresses(src.addresses), dst.label, listAddresses(dst.addresses))
}

func listAddresses(addrs []netip.Addr) string {
	if len(addrs) == 0 {
		return "none"
	}
	list := make([]string, len(addrs))
	for i, a := range addrs {
		list[i] = a.String()
	}
	return strings.Join(list, " and ")
}
