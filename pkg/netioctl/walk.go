// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
)

// walk follows a packet from node to node:
//
//	node a: stages ──> tunnel, or the host's port ──> node b: stages ──> a pod
//
// What the hosts' kernels do between them is told, and not looked at.
type walk struct {
	*app
	here string // this node's name, "" if not known
	ways []*way
	end  string // how it ends, in words
	hint string // how to go on
}

// way is a packet's way through one node.
type way struct {
	node   string // "" if its name is not known
	port   string // that brings it; "": the source's
	fw     *forwarder
	req    *dataplanev1.TraceRequest
	res    *dataplanev1.TraceResponse
	owners map[string]portInfo // by port
}

type portInfo struct {
	owner string
	kind  dataplanev1.Port_Kind
}

// maxWays bounds a walk: a packet is at two nodes, or three if a service's backend is
// elsewhere. More is a loop.
const maxWays = 4

// follow traces the packet at one node after the other.
func (w *walk) follow(ctx context.Context, next way) error {
	for len(w.ways) < maxWays {
		at := next
		if err := at.trace(ctx); err != nil {
			if len(w.ways) == 0 {
				return err
			}
			w.end = fmt.Sprintf("goes on to node %s, which cannot be asked: %v", at.node, err)
			return nil
		}
		w.ways = append(w.ways, &at)
		var on bool
		if next, on = w.goesOn(ctx, &at); !on {
			return nil
		}
		defer next.fw.Close()
	}
	w.end = "goes round in circles"
	return nil
}

// trace asks the node's forwarder.
func (at *way) trace(ctx context.Context) error {
	list, err := at.fw.ListPorts(ctx, &dataplanev1.ListPortsRequest{})
	if err != nil {
		return err
	}
	at.owners = map[string]portInfo{}
	for _, p := range list.GetPorts() {
		c := p.GetConfig()
		at.owners[c.GetName()] = portInfo{portOwner(c), c.GetKind()}
	}
	at.res, err = at.fw.Trace(ctx, at.req)
	if status.Code(err) == codes.NotFound && at.req.GetPort() != "" {
		return fmt.Errorf("the forwarder has no port %s", at.req.GetPort())
	}
	return err
}

// label is what people call the place of a port.
func (at *way) label(port string) string { return cmp.Or(at.owners[port].owner, port) }

// goesOn says how the packet's way at a node ends, and where it goes on.
func (w *walk) goesOn(ctx context.Context, at *way) (way, bool) {
	switch at.res.GetVerdict() {
	case "dropped":
		w.end = "dropped"
		return way{}, false
	case "answered":
		w.end = "answered by the router of this node"
		return way{}, false
	}
	out := at.res.GetSent()[0]
	switch {
	case at.owners[out.GetPort()].kind == dataplanev1.Port_POD:
		w.end = fmt.Sprintf("delivered to %s, port %s", at.label(out.GetPort()), out.GetPort())
		return way{}, false
	case out.GetRemote() != "":
		return w.byTunnel(ctx, at, out)
	}
	return w.byHost(ctx, at, out)
}

// tunnelPrefix is what the names of ports to other nodes begin with.
const tunnelPrefix = "tunnel-"

func (w *walk) byTunnel(ctx context.Context, at *way, out *dataplanev1.TracedPacket) (way, bool) {
	node := strings.TrimPrefix(out.GetPort(), tunnelPrefix)
	w.end = fmt.Sprintf("leaves by the tunnel to node %s (%s)", node, out.GetRemote())
	if at.node == "" {
		return way{}, false
	}
	ingress := tunnelPrefix + at.node
	if w.far == nil {
		w.hint = fmt.Sprintf("On node %s the way goes on with:\n  %s", node, onwards(ingress, out))
		return way{}, false
	}
	return w.goTo(ctx, node, ingress, out)
}

// byHost is the way out by the host's port, or by a NIC.
func (w *walk) byHost(ctx context.Context, at *way, out *dataplanev1.TracedPacket) (way, bool) {
	dst, err := netip.ParseAddr(out.GetTuple().GetDst())
	if err != nil {
		w.end = "leaves by port " + out.GetPort()
		return way{}, false
	}
	w.end = fmt.Sprintf("leaves NetIO by port %s; the host's routes and firewall decide now", out.GetPort())
	if at.node == w.here {
		if route, err := w.hostRoute(dst); err == nil {
			w.end = fmt.Sprintf("leaves NetIO by port %s; the host's route: %s (its firewall is not looked at)", out.GetPort(), route.text)
			if w.far == nil && w.toNeighbour(route) {
				w.hint = fmt.Sprintf("If %s is a node, the way goes on there with:\n  %s", route.via, onwards(hostPortName, out))
			}
		}
	}
	if w.far == nil {
		return way{}, false
	}
	node, err := w.far.nodeOf(ctx, dst)
	if err != nil || node == "" || node == at.node {
		return way{}, false
	}
	return w.goTo(ctx, node, hostPortName, out)
}

// hostPortName is the agent's name for the host's port.
const hostPortName = "host"

// onwards is what to ask where a packet comes to.
func onwards(ingress string, p *dataplanev1.TracedPacket) string {
	s := fmt.Sprintf("netioctl trace --ingress %s --packet %x", ingress, p.GetPacket())
	if int(p.GetLength()) > len(p.GetPacket()) {
		s += fmt.Sprintf(" --length %d", p.GetLength())
	}
	return s
}

func (w *walk) goTo(ctx context.Context, node, port string, out *dataplanev1.TracedPacket) (way, bool) {
	fw, err := w.connect(ctx, node)
	if err != nil {
		w.end += fmt.Sprintf("; node %s cannot be asked: %v", node, err)
		return way{}, false
	}
	return way{node: node, port: port, fw: fw, req: &dataplanev1.TraceRequest{
		Port: port, What: &dataplanev1.TraceRequest_Packet{Packet: out.GetPacket()}, Length: out.GetLength(),
	}}, true
}

// connect connects to a node's forwarder.
func (w *walk) connect(ctx context.Context, node string) (*forwarder, error) {
	if node == w.here {
		return w.app.forwarder()
	}
	return w.far.forwarder(ctx, node)
}

func (w *walk) last() *way { return w.ways[len(w.ways)-1] }

func (w *walk) dropped() bool { return w.last().res.GetVerdict() == "dropped" }
