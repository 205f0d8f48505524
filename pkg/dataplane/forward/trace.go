// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Trace tells what the forwarder would do with a packet now, stage by stage, by a dry
// run. Errors: INVALID_ARGUMENT names the field, NOT_FOUND the port.
func (f *Forwarder) Trace(ctx context.Context, req *dataplanev1.TraceRequest) (*dataplanev1.TraceResponse, error) {
	t, err := f.newTracer(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if t.area, err = newRehearsalArea(); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	// A packet comes to a lane by its hash, which is the device's business. Here it
	// comes to the first one, which knows of connections of others; of fragments
	// only the lane that had the first one knows.
	for lane := 0; lane < len(f.workers); lane++ {
		if err = t.at(ctx, f.workers[lane], false); err != nil {
			break
		}
		if to := t.out.lane; to >= 0 {
			err = t.at(ctx, f.workers[to], true)
			break
		}
		if t.out.reason != ReasonFragmentOrder {
			break
		}
	}
	switch {
	case errors.Is(err, errNoPort):
		return nil, status.Error(codes.NotFound, err.Error())
	case err != nil:
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return t.res, nil
}

var errNoPort = errors.New("no such port")

// tracer answers one request.
type tracer struct {
	req  *dataplanev1.TraceRequest
	area *abi.Area
	room int // bytes of a packet that the device puts into an nbuf
	want description

	data  []byte // the packet, as far as it is given
	total int
	out   outcome
	res   *dataplanev1.TraceResponse
}

// newTracer checks what can be checked of a request without a worker.
func (f *Forwarder) newTracer(req *dataplanev1.TraceRequest) (*tracer, error) {
	t := &tracer{req: req, room: abi.NbufRoom, total: int(req.GetLength())}
	if f.dev.Area().Header().Device == abi.DevKernel {
		t.room = abi.ParkCopyMin
	}
	if req.GetLength() > 65535 {
		return nil, fmt.Errorf("length is %d; expected at most 65535 bytes", req.GetLength())
	}
	switch {
	case req.GetDescription() != nil:
		var err error
		t.want, err = parseDescription(req.GetDescription(), t.total)
		return t, err
	case len(req.GetPacket()) == 0:
		return nil, errors.New("what: expected a description or the bytes of a packet")
	case len(req.GetPacket()) > 65535:
		return nil, fmt.Errorf("packet has %d bytes; expected at most 65535", len(req.GetPacket()))
	case t.total == 0:
		t.total = len(req.GetPacket())
	case t.total < len(req.GetPacket()):
		return nil, fmt.Errorf("length is %d, and packet has %d bytes; expected the length of the whole packet", t.total, len(req.GetPacket()))
	}
	t.data = req.GetPacket()
	return t, nil
}

// at tries the packet at a lane's worker.
func (t *tracer) at(ctx context.Context, w *Worker, handed bool) error {
	var err error
	if e := w.Do(ctx, func() { err = t.rehearse(w, handed) }); e != nil {
		return e
	}
	return err
}

// rehearse is at on the worker's goroutine.
func (t *tracer) rehearse(w *Worker, handed bool) error {
	t.out = outcome{dryRun: &dryRun{lane: -1}}
	if t.data == nil {
		w.chooseSource(&t.want)
		t.data, t.total = t.want.build()
	}
	var info packet.Info
	_ = packet.Parse(t.data, t.total, &info) // what there is of it
	t.res = &dataplanev1.TraceResponse{Verdict: "dropped", Packet: head(t.data, &info), Length: uint32(t.total), Tuple: protoTuple(info.Tuple)}
	in, err := t.ingress(w.tables, info.Src)
	if err != nil || in == nil {
		return err
	}
	t.res.Port = in.Name
	t.stage(step{stage: "ingress port", verdict: "pass", detail: describePort(in)})
	r := rehearsal{port: in.ID, data: t.data[:min(len(t.data), t.room)], total: t.total, handed: handed}
	if len(r.data) < t.total {
		r.nb.Flags |= abi.NbParked
	}
	if t.out, err = w.rehearse(t.area, r); err != nil {
		return err
	}
	t.tell(w.tables)
	return nil
}

// ingress is the port that the packet comes from, nil if no port has its source.
func (t *tracer) ingress(tables *config.Tables, src packet.Addr) (*config.Port, error) {
	if name := t.req.GetPort(); name != "" {
		if p := tables.PortByName(name); p != nil {
			return p, nil
		}
		return nil, fmt.Errorf("port: %w: %q; netioctl ports lists them", errNoPort, name)
	}
	id, ok := senderOf(tables, src)
	if !ok {
		t.stage(step{stage: "ingress port", verdict: "drop", detail: fmt.Sprintf("no port has the source %s, and no route leads to it", src)})
		return nil, nil
	}
	return tables.Port(id), nil
}

func (t *tracer) stage(s step) {
	t.res.Stages = append(t.res.Stages, &dataplanev1.TraceStage{Stage: s.stage, Verdict: s.verdict, Rule: s.rule, Detail: s.detail})
}

// tell puts the outcome into words.
func (t *tracer) tell(tables *config.Tables) {
	o := &t.out
	for _, s := range o.steps {
		t.stage(s)
	}
	switch {
	case o.reason != ReasonNone:
		t.res.Reason = o.reason.String()
	case o.local:
		t.res.Verdict = "answered"
	default:
		t.res.Verdict = "forwarded"
	}
	for _, s := range o.sent {
		p := &dataplanev1.TracedPacket{Port: o.port(s.nb.EPort), Answer: s.own && o.reason != ReasonNone || o.local}
		data, total := s.data, int(s.nb.Total)
		if n := int(s.nb.Encap); n > 0 {
			p.Carrier = p.Port
			p.Port, p.Remote = o.remote.Name, o.remote.Remote()
			data, total = data[n:], total-n
		}
		var info packet.Info
		_ = packet.Parse(data, total, &info)
		p.Tuple, p.HopLimit, p.Length, p.Packet = protoTuple(info.Tuple), uint32(info.TTL), uint32(total), head(data, &info)
		t.res.Sent = append(t.res.Sent, p)
		t.stage(transmit(p, tables))
	}
}

// transmit is the last stage, of what leaves.
func transmit(p *dataplanev1.TracedPacket, tables *config.Tables) step {
	s := step{stage: "transmit", verdict: "sent", detail: fmt.Sprintf("to port %s", p.Port)}
	if p.Remote != "" {
		s.detail += fmt.Sprintf(": VXLAN %d to %s, by port %s", tables.VXLAN.VNI, p.Remote, p.Carrier)
	}
	if p.Answer {
		s.detail += ", an answer to the sender"
	}
	return s
}

// headMax is how much of a packet a response has: all headers that are read, and
// what an ICMP error quotes of them.
const headMax = 256

func head(data []byte, info *packet.Info) []byte {
	return slices.Clone(data[:min(len(data), max(int(info.HdrLen), headMax))])
}

func describePort(p *config.Port) string {
	kind := "the host's"
	switch {
	case p.Pod:
		kind = "a pod's"
	case p.Tunnel != nil:
		kind = "the tunnel from " + p.Remote()
	case p.Uplink():
		kind = "an uplink"
	}
	return fmt.Sprintf("port %s, number %d, %s", p.Name, p.ID, kind)
}

// parseDescription checks a described packet of total bytes, 0: as short as can be.
// Errors name the field.
func parseDescription(d *dataplanev1.PacketDescription, total int) (description, error) {
	tuple, err := parseTuple(&dataplanev1.ExplainRequest{Tuple: d.GetTuple(), IcmpType: d.GetIcmpType(), IcmpCode: d.GetIcmpCode()})
	if err != nil {
		return description{}, fmt.Errorf("description: %w", err)
	}
	switch {
	case d.GetTcpFlags() > 255:
		return description{}, fmt.Errorf("description: tcp_flags is %d; expected 0 to 255", d.GetTcpFlags())
	case d.GetHopLimit() > 255:
		return description{}, fmt.Errorf("description: hop_limit is %d; expected 0 to 255", d.GetHopLimit())
	}
	want := description{
		tuple: tuple, flags: uint8(cmp.Or(d.GetTcpFlags(), packet.TCPSyn)), ttl: uint8(cmp.Or(d.GetHopLimit(), 64)), dontFragment: d.GetDontFragment(),
	}
	least := want.headers()
	if want.total = cmp.Or(total, least); want.total < least {
		return want, fmt.Errorf("length is %d; the headers of this packet alone have %d bytes", total, least)
	}
	return want, nil
}
