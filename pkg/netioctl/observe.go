// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"context"
	"fmt"
	"net/netip"

	"netio.dev/netio/pkg/netioctl/connectivity/probe"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// observer asks the forwarders of a cluster's nodes, for a connectivity test.
type observer struct{ *app }

// there is netioctl for one node.
func (o observer) there(node string) *app {
	a := *o.app
	a.node, a.color = node, false
	return &a
}

// Drops are how many packets a node's forwarder has dropped, by reason.
func (o observer) Drops(ctx context.Context, node string) (map[string]uint64, error) {
	fw, err := o.there(node).forwarder()
	if err != nil {
		return nil, err
	}
	defer fw.Close()
	list, err := fw.ListDrops(ctx, &dataplanev1.ListDropsRequest{})
	if err != nil {
		return nil, err
	}
	count := map[string]uint64{}
	for _, d := range list.GetDrops() {
		count[d.GetReason()] += d.GetPackets()
	}
	return count, nil
}

// Trace says how the first packet of a connection ends, in words.
func (o observer) Trace(ctx context.Context, node, pod string, from netip.Addr, to netip.AddrPort, by probe.How) (text string, dropped bool, err error) {
	a := o.there(node)
	fw, err := a.forwarder()
	if err != nil {
		return "", false, err
	}
	defer fw.Close()
	port := hostPortName
	if pod != "" {
		p, err := a.lookup(ctx, fw, pod)
		if err != nil {
			return "", false, err
		}
		port = p.port
	}
	d := &dataplanev1.PacketDescription{HopLimit: 64, DontFragment: true, Tuple: &dataplanev1.Tuple{
		Src: from.String(), Dst: to.Addr().String(), DstPort: uint32(to.Port()), Protocol: protoTCP,
	}}
	switch by {
	case probe.UDP:
		d.Tuple.Protocol = protoUDP
	case probe.Echo:
		d.Tuple.Protocol, d.IcmpType = protoICMP, echoRequest(from.Is6())
		if from.Is6() {
			d.Tuple.Protocol = protoICMPv6
		}
		d.Tuple.DstPort = d.IcmpType << 8
	}
	w := &walk{app: a, here: node}
	start := way{node: node, port: port, fw: fw, req: &dataplanev1.TraceRequest{Port: port, What: &dataplanev1.TraceRequest_Description{Description: d}}}
	if err := w.follow(ctx, start); err != nil {
		return "", false, err
	}
	end := a.conclusion(w)
	if w.dropped() {
		return fmt.Sprintf("on %s: %s", w.last().node, end), true, nil
	}
	return end, false, nil
}
