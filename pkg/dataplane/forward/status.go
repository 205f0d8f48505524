// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/conntrack"
	"netio.dev/netio/pkg/dataplane/observe"
	"netio.dev/netio/pkg/dataplane/packet"
)

// Status of the forwarder: what its workers know.
func (f *Forwarder) Status(ctx context.Context) (*dataplanev1.StatusResponse, error) {
	area := f.dev.Area()
	h := area.Header()
	st := &dataplanev1.StatusResponse{
		Pid: uint32(os.Getpid()), Revision: f.Snapshot().GetRevision(),
		Ports: uint32(len(f.Snapshot().GetPorts())), Nbufs: h.NbufCount, Device: deviceName(h.Device),
	}
	used := uint32(0)
	for id := range h.PortMax {
		used += atomic.LoadUint32(&area.Port(id).Nbufs)
	}
	st.NbufsFree = h.NbufCount - min(used, h.NbufCount)
	err := f.each(ctx, func(w *Worker) {
		st.Connections += uint32(w.conns.Len())
		st.ConnectionsMax += uint32(w.conns.Cap())
		s := &w.Stats
		st.Lanes = append(st.Lanes, &dataplanev1.LaneStatus{
			Lane: uint32(w.lane), RxPackets: s.RxPackets, TxPackets: s.TxPackets, RxBytes: s.RxBytes, TxBytes: s.TxBytes,
			Vectors: s.Vectors, Polls: s.Polls, Sleeps: s.Sleeps, Kicks: s.Kicks, SlowPath: s.SlowPath,
			BadEntries:    s.BadEntries + atomic.LoadUint64(&w.dlane.BadEntry),
			PayloadCopied: atomic.LoadUint64(&w.dlane.Copied),
		})
		st.NbufsFree -= min(uint32(len(w.stock)), st.NbufsFree)
	})
	return st, err
}

func deviceName(kind uint32) string {
	switch kind {
	case abi.DevKernel:
		return "kernel"
	case abi.DevSoft:
		return "soft"
	}
	return "unknown"
}

// Ports and their counters, in the order of the configuration.
func (f *Forwarder) Ports(ctx context.Context) ([]*dataplanev1.PortStatus, error) {
	f.mu.Lock()
	snap, failed, t := f.snap, f.failed, f.tables.Load()
	f.mu.Unlock()
	area := f.dev.Area()
	byID := map[uint32]*dataplanev1.PortStatus{}
	var list []*dataplanev1.PortStatus
	for _, p := range snap.GetPorts() {
		ps := &dataplanev1.PortStatus{Config: p}
		list = append(list, ps)
		if err := failed[p.GetName()]; err != nil {
			ps.Error = err.Error()
		}
		port := t.PortByName(p.GetName())
		if port == nil {
			continue // its knet could not be made
		}
		ps.Id = port.ID
		byID[port.ID] = ps
		if port.ID < area.Header().PortMax {
			a := area.Port(port.ID)
			ps.Up = atomic.LoadUint32(&a.State)&abi.PortUp != 0
			ps.QueuePackets, ps.QueueBytes = atomic.LoadUint32(&a.QPackets), atomic.LoadUint32(&a.QBytes)
			ps.Nbufs, ps.ParkedBytes = atomic.LoadUint32(&a.Nbufs), atomic.LoadUint32(&a.ParkedBytes)
		} else {
			ps.Up = true // a tunnel
		}
	}
	err := f.each(ctx, func(w *Worker) {
		for id, ps := range byID {
			if id >= uint32(len(w.ports)) || w.ports[id] == nil {
				continue
			}
			c := w.ports[id]
			ps.RxPackets += c.RxPackets
			ps.RxBytes += c.RxBytes
			ps.TxPackets += c.TxPackets
			ps.TxBytes += c.TxBytes
			ps.Connections += uint32(w.conns.PortLen(id))
			for _, n := range c.Drops {
				ps.Drops += n
			}
		}
	})
	return list, err
}

// Drops by port and reason, most first; port "" stands for all of them.
func (f *Forwarder) Drops(ctx context.Context, port string) ([]*dataplanev1.DropCount, error) {
	t := f.tables.Load()
	if port != "" && t.PortByName(port) == nil {
		return nil, status.Errorf(codes.NotFound, "no port %q; netioctl ports lists them", port)
	}
	type key struct {
		port   string
		reason Reason
	}
	sums := map[key]uint64{}
	err := f.each(ctx, func(w *Worker) {
		for id, c := range w.ports {
			if c == nil {
				continue
			}
			name := ""
			if p := t.Port(uint32(id)); p != nil {
				name = p.Name
			}
			for r, n := range c.Drops {
				if n > 0 && (port == "" || port == name) {
					sums[key{name, Reason(r)}] += n
				}
			}
		}
	})
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	var list []*dataplanev1.DropCount
	for k, n := range sums {
		list = append(list, &dataplanev1.DropCount{Port: k.port, Reason: k.reason.String(), Packets: n, Description: k.reason.Description()})
	}
	slices.SortFunc(list, func(a, b *dataplanev1.DropCount) int {
		if a.Packets != b.Packets {
			if a.Packets > b.Packets {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Port+"\x00"+a.Reason, b.Port+"\x00"+b.Reason)
	})
	return list, nil
}

// flowsAtATime bounds how long a listing holds up a worker.
const flowsAtATime = 4096

// Flows calls send for each connection that the filter lets through, at most
// limit of them if it is positive. Connections that come or go meanwhile may be
// missed.
func (f *Forwarder) Flows(ctx context.Context, filter *dataplanev1.Filter, limit int, send func(*dataplanev1.Flow) error) error {
	match, err := observe.CompileFilter(filter, names{f}, ReasonNames())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	sent := 0
	for _, w := range f.workers {
		for at, more := uint32(0), true; more; {
			var batch []*dataplanev1.Flow
			err := w.Do(ctx, func() {
				t := w.tables
				at = w.conns.Each(at, flowsAtATime, func(_ conntrack.Ref, c *conntrack.Conn) {
					if fl := describe(t, c, w.ms, match); fl != nil {
						batch = append(batch, fl)
					}
				})
				more = at != 0
			})
			if err != nil {
				return status.Error(codes.Unavailable, err.Error())
			}
			for _, fl := range batch {
				if limit > 0 && sent == limit {
					return nil
				}
				if err := send(fl); err != nil {
					return err
				}
				sent++
			}
		}
	}
	return nil
}

func describe(t *config.Tables, c *conntrack.Conn, now uint32, match *observe.Matcher) *dataplanev1.Flow {
	o, r := &c.Dirs[conntrack.Original], &c.Dirs[conntrack.Reply]
	ot, rt := o.Tuple(), r.Tuple()
	mo, mr := observeTuple(ot), observeTuple(rt)
	if !match.MatchFlow(&mo, &mr, o.In, o.Out) {
		return nil
	}
	packets, bytes := c.Counts(conntrack.Original)
	replies, replyBytes := c.Counts(conntrack.Reply)
	idle := time.Duration(int32(now-c.Seen())) * time.Millisecond
	fl := &dataplanev1.Flow{
		Original: protoTuple(ot), Reply: protoTuple(rt), State: c.State().String(),
		Packets: packets, Bytes: bytes, ReplyPackets: replies, ReplyBytes: replyBytes,
		IdleNano: int64(idle), ExpiresNano: int64(max(0, time.Duration(c.Timeout)*time.Millisecond-idle)),
	}
	if p := t.Port(o.In); p != nil {
		fl.InPort = p.Name
	}
	if p := t.Port(o.Out); p != nil {
		fl.OutPort = p.Name
	}
	if o.Gen == t.Generation {
		fl.Rule = RuleName(t, c.Rule, o.In, o.Out)
	}
	return fl
}

func protoTuple(t packet.Tuple) *dataplanev1.Tuple {
	return &dataplanev1.Tuple{Src: t.Src.String(), Dst: t.Dst.String(), Protocol: uint32(t.Proto), SrcPort: uint32(t.SrcPort), DstPort: uint32(t.DstPort)}
}

func observeTuple(t packet.Tuple) observe.Tuple {
	return observe.Tuple{Src: t.Src.As16(), Dst: t.Dst.As16(), SrcPort: t.SrcPort, DstPort: t.DstPort, Protocol: t.Proto}
}
