// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	agentv1 "netio.dev/netio/pkg/agent/api/v1"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// traceFlags are what SRC and DST do not say.
type traceFlags struct {
	explainFlags
	from      string // source address instead of SRC's own
	length    int
	hopLimit  int
	tcpFlags  []string
	fragments bool
	ingress   string // port that brings it, instead of SRC's own
	packet    string // the packet itself, in hexadecimal
	reply     bool   // the answer of a connection that is there
}

func (a *app) traceCommand() *cobra.Command {
	var flags traceFlags
	cmd := &cobra.Command{
		Use:   "trace SRC DST[:PORT[/PROTOCOL]]",
		Short: "Follow a packet through every stage, to where it ends",
		Long: `Follow a packet through every stage of NetIO, to where it ends: who brings it,
which connection it belongs to, what services, routes, policies and NAT make of it,
and who gets it. The forwarder does to a copy what it would do to the packet now;
nothing is sent, counted or remembered.

SRC and DST are namespace/name of a pod, a name that only one pod has, a port's
name, an address, "host", or "world", an address outside; IPv6 addresses as
[fd00::1]:80. PROTOCOL is tcp unless given: udp or sctp. DST alone is an echo
request. A TCP packet is a SYN unless --tcp-flags says otherwise.

Without --source-port the packet is the first one of a new connection; with it, it
may belong to one that is there. --packet takes a packet that is known byte for byte,
as tcpdump -x or another node's trace shows it, instead of SRC and DST.

Exits with 3 if the packet is dropped.`,
		Example: `  netioctl trace default/client default/web:80
  netioctl trace client 10.96.0.10:53/udp
  netioctl trace client web
  netioctl trace world web:443
  netioctl trace client web:80 --length 1500
  netioctl trace client web:80 --from 10.0.0.66
  netioctl trace client web:80 --source-port 40112 --tcp-flags ack
  netioctl trace --ingress tunnel-n2 --packet 4500002800004000...`,
		Args: func(cmd *cobra.Command, args []string) error {
			if flags.packet != "" {
				return arguments(0, 0, "")(cmd, args)
			}
			return arguments(2, 2, "SRC and DST[:PORT]")(cmd, args)
		},
		ValidArgsFunction: a.completeTrace,
		RunE: func(cmd *cobra.Command, args []string) error {
			if flags.packet != "" {
				return a.tracePacket(cmd.Context(), flags)
			}
			return a.trace(cmd.Context(), args[0], args[1], flags)
		},
	}
	s := cmd.Flags()
	packetFlags(cmd, &flags.explainFlags)
	s.StringVar(&flags.from, "from", "", "source address, instead of SRC's own")
	s.IntVar(&flags.length, "length", 0, "bytes of the packet, IP header included; 0: headers only")
	s.IntVar(&flags.hopLimit, "hop-limit", 64, "TTL or hop limit, 1 to 255")
	s.StringSliceVar(&flags.tcpFlags, "tcp-flags", nil, "TCP flags: fin, syn, rst, psh, ack, urg")
	s.StringVar(&flags.ingress, "ingress", "", "port that brings the packet, instead of SRC's own")
	s.StringVar(&flags.packet, "packet", "", "the packet in hexadecimal, from the IP header on; all headers suffice, with --length")
	s.BoolVar(&flags.reply, "reply", false, "an answer, of a connection from SRC to DST that is there")
	s.BoolVar(&flags.fragments, "fragments", false, "IPv4: the packet may be cut into fragments")
	for _, name := range []string{"from", "length", "hop-limit", "packet"} {
		flagCompletion(cmd, name, cobra.NoFileCompletions)
	}
	flagCompletion(cmd, "ingress", a.completePorts)
	fixedCompletion(cmd, "tcp-flags", tcpFlagNames...)
	return cmd
}

var tcpFlagNames = []string{"fin", "syn", "rst", "psh", "ack", "urg"} // as the bits are

// parseTrace reads the arguments into a question and a packet without addresses; its
// errors are about usage.
func parseTrace(src, dst string, flags traceFlags) (question, *dataplanev1.PacketDescription, error) {
	given := flags.icmpType >= 0
	if t, err := parseTarget(dst); err == nil && t.protocol == 0 && !given && flags.icmpCode < 0 {
		flags.icmpType = 0 // DST alone; the type is that of an echo request
	}
	q, err := parseQuestion(src, dst, flags.explainFlags)
	if err != nil {
		return q, nil, err
	}
	q.echo = isICMP(uint32(q.target.protocol)) && !given
	d, err := flags.description(&q)
	return q, d, err
}

// description is what the flags say of the packet.
func (f *traceFlags) description(q *question) (*dataplanev1.PacketDescription, error) {
	d := &dataplanev1.PacketDescription{HopLimit: uint32(f.hopLimit), DontFragment: !f.fragments}
	switch {
	case f.length < 0 || f.length > 65535:
		return nil, usagef("--length %d: expected 0 to 65535", f.length)
	case f.hopLimit < 1 || f.hopLimit > 255:
		return nil, usagef("--hop-limit %d: expected 1 to 255", f.hopLimit)
	case len(f.tcpFlags) > 0 && q.target.protocol != protoTCP:
		return nil, usagef("--tcp-flags: %s has none", protocolName(uint32(q.target.protocol)))
	}
	for _, name := range f.tcpFlags {
		bit := -1
		for i, n := range tcpFlagNames {
			if strings.EqualFold(n, name) {
				bit = i
			}
		}
		if bit < 0 {
			return nil, usagef("--tcp-flags %q: expected %s", name, strings.Join(tcpFlagNames, ", "))
		}
		d.TcpFlags |= 1 << bit
	}
	if f.from != "" {
		addr, err := netip.ParseAddr(f.from)
		if err != nil || addr.Zone() != "" {
			return nil, usagef("--from %q: expected an IP address", f.from)
		}
	}
	return d, nil
}

func (a *app) trace(ctx context.Context, srcArg, dstArg string, flags traceFlags) error {
	q, d, err := parseTrace(srcArg, dstArg, flags)
	if err != nil {
		return err
	}
	if err := a.choose(ctx, q.source); err != nil {
		return err
	}
	fw, err := a.forwarder()
	if err != nil {
		return err
	}
	defer fw.Close()
	w, start := a.newWalk(ctx, fw)
	src, node, err := a.locateAnywhere(ctx, fw, q.source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if node != "" && node != w.here {
		if start.fw, err = w.connect(ctx, node); err != nil {
			return fmt.Errorf("source: %s is on node %s: %w", src.label, node, err)
		}
		defer start.fw.Close()
		start.node = node
	}
	dst, _, err := a.locateAnywhere(ctx, fw, q.target.host)
	if err != nil {
		return fmt.Errorf("destination: %w", err)
	}
	start.port = cmp.Or(flags.ingress, src.port)
	if src.port == hostPortName && start.node == w.here {
		src = a.sendsAs(src, dst)
	}
	if flags.from != "" {
		src.addresses = parseAddresses([]string{flags.from})
		src.label += " as " + src.addresses[0].String()
	}
	from, to, err := meet(src, dst, q.family)
	if err != nil {
		return err
	}
	d.Tuple = &dataplanev1.Tuple{
		Src: from.String(), Dst: to.String(), Protocol: uint32(q.target.protocol), SrcPort: uint32(flags.sourcePort), DstPort: uint32(q.target.port),
	}
	if isICMP(d.Tuple.Protocol) {
		if to.Is6() {
			d.Tuple.Protocol = protoICMPv6
		}
		d.IcmpType, d.IcmpCode = q.icmpType, q.icmpCode
		if q.echo {
			d.IcmpType, d.IcmpCode = echoRequest(to.Is6()), 0
		}
		d.Tuple.DstPort = d.IcmpType<<8 | d.IcmpCode
	}
	if flags.reply {
		if start.port, err = replyOf(ctx, start.fw, d); err != nil {
			return err
		}
		src, dst = place{}, place{} // NAT may have given them other addresses
	}
	start.req = &dataplanev1.TraceRequest{Port: start.port, What: &dataplanev1.TraceRequest_Description{Description: d}, Length: uint32(flags.length)}
	return w.run(ctx, start, src, dst)
}

// tracePacket is trace for a packet that is given as it is.
func (a *app) tracePacket(ctx context.Context, flags traceFlags) error {
	data, err := hex.DecodeString(strings.Join(strings.Fields(flags.packet), ""))
	switch {
	case err != nil:
		return usagef("--packet: %w; expected hexadecimal digits, as 4500...", err)
	case flags.length != 0 && flags.length < len(data) || flags.length > 65535:
		return usagef("--length %d: expected %d, as --packet has bytes, to 65535", flags.length, len(data))
	case flags.from != "" || len(flags.tcpFlags) > 0 || flags.sourcePort != 0 || flags.icmpType >= 0 || flags.reply:
		return usagef("--packet says all of the packet: only --ingress and --length go with it")
	}
	fw, err := a.forwarder()
	if err != nil {
		return err
	}
	defer fw.Close()
	w, start := a.newWalk(ctx, fw)
	if start.port = flags.ingress; start.port != "" {
		p, err := a.lookup(ctx, fw, start.port)
		if err != nil {
			return err
		}
		start.port = p.port
	}
	start.req = &dataplanev1.TraceRequest{Port: start.port, What: &dataplanev1.TraceRequest_Packet{Packet: data}, Length: uint32(flags.length)}
	return w.run(ctx, start, place{}, place{})
}

// newWalk begins a walk at this node.
func (a *app) newWalk(ctx context.Context, fw *forwarder) (*walk, way) {
	w := &walk{app: a, here: a.nodeName(ctx)}
	return w, way{node: w.here, fw: fw}
}

// run carries a walk out and shows it.
func (w *walk) run(ctx context.Context, start way, src, dst place) error {
	if err := w.follow(ctx, start); err != nil {
		return err
	}
	if err := w.showWalk(w, src, dst); err != nil {
		return err
	}
	if w.dropped() {
		return errDenied
	}
	return nil
}

// nodeName is this node's name, "" if there is no agent to ask.
func (a *app) nodeName(ctx context.Context) string {
	g, err := a.agent()
	if err != nil {
		return ""
	}
	defer g.Close()
	info, err := g.Info(ctx, &agentv1.InfoRequest{})
	if err != nil {
		return ""
	}
	return info.GetNode()
}

// outside is where "world" is: addresses that are for documentation (RFC 5737, RFC
// 3849), and so nobody's.
var outside = place{label: "world", addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}}

// locateAnywhere is locate for the pods of other nodes, too, and for the world. node
// is "" for what is no other node's.
func (a *app) locateAnywhere(ctx context.Context, fw *forwarder, name string) (p place, node string, err error) {
	if name == outside.label {
		return outside, "", nil
	}
	p, err = a.locate(ctx, fw, name)
	if a.far == nil {
		return p, "", err
	}
	if addr, bad := netip.ParseAddr(name); bad == nil && err == nil {
		// A pod of another node sends from there.
		node, err := a.far.nodeOf(ctx, addr.Unmap())
		return p, node, err
	}
	if err != nil {
		if q, node, farErr := a.far.locate(ctx, name); farErr == nil {
			return q, node, nil
		}
	}
	return p, "", err
}

// otherNodes reaches what runs on other nodes.
type otherNodes interface {
	// forwarder connects to the forwarder of a node.
	forwarder(ctx context.Context, node string) (*forwarder, error)
	// nodeOf is the node that has an address, or a pod with it; "" if none has.
	nodeOf(ctx context.Context, addr netip.Addr) (string, error)
	// locate finds a pod by namespace/name, or by a name that only one has.
	locate(ctx context.Context, name string) (p place, node string, err error)
}
