// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"encoding/binary"
	"errors"
	"slices"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/config"
	"netio.dev/netio/pkg/dataplane/hash"
	"netio.dev/netio/pkg/dataplane/packet"
)

// A tunnel is a port without an interface. Packets to it leave, with the tunnel's
// headers in front, by the carrier, the host's port; and what the carrier
// brings from the tunnel's other end is, without them, a packet from the tunnel:
//
//	pod ──> stages ──> tunnel-n2 ──[ IP UDP VXLAN | packet ]──> host ──> n2
//	pod <── stages <── tunnel-n2 <─[ IP UDP VXLAN | packet ]─── host <── n2
//
// So routes, flows, counters, captures and anti-spoofing are those of any port.
// Tunnels have numbers above those of the device's ports.

var errNoTunnels = errors.New("the device cannot cut packets of a tunnel into segments; load the netio.ko of this version (netio-agent kmod load --replace), run the forwarder with --device soft, or the nodes as neighbours without the agent's field tunnel")

var errManyTunnels = errors.New("no number is left for another tunnel")

// makeTunnel finds a number for a tunnel.
func (f *Forwarder) makeTunnel() (uint32, error) {
	first := f.dev.Area().Header().PortMax
	if f.dev.Area().Header().Features&abi.FeatTunnel == 0 {
		return 0, errNoTunnels
	}
	taken := make([]bool, config.MaxTunnels)
	for _, id := range f.ids {
		if id >= first {
			taken[id-first] = true
		}
	}
	free := slices.Index(taken, false)
	if free < 0 || first+uint32(free) >= abi.PortsMax {
		return 0, errManyTunnels
	}
	return first + uint32(free), nil
}

// isTunnel tells a tunnel's number from those of the device's ports.
func (f *Forwarder) isTunnel(id uint32) bool { return id >= f.dev.Area().Header().PortMax }

// decapsulate makes what the carrier has brought a packet from a tunnel, if it is
// one. It is false if the packet is not to go on; then it has been dropped.
func (w *Worker) decapsulate(p *pkt) bool {
	t, v := w.tables.VXLAN, &w.vxlan
	// Without a tunnel the carrier is noPort, which a damaged nbuf may say it came from.
	if t == nil || !packet.ParseVXLAN(p.data, int(p.nb.Total), t.UDPPort, v) || !t.Receives(v.Dst) {
		return true
	}
	if w.tapped {
		w.capture(p.nb.IPort, false, p)
	}
	end, known := t.End(v.Src)
	switch {
	case !known || end == 0:
		w.drop(p, ReasonTunnelEnd)
		return false
	case !v.Valid, v.VNI != t.VNI, p.nb.GSOType != abi.GSONone:
		w.drop(p, ReasonTunnelMalformed)
		return false
	case !v.Decapsulate(p.data[v.Len:]):
		w.drop(p, ReasonTunnelCongestion)
		return false
	}
	if w.dry != nil {
		w.dry.say("tunnel", "pass", "VXLAN %d from %s: what is in it comes from port %s", v.VNI, v.Src, w.dry.port(end))
	}
	c := w.counters(p.nb.IPort)
	c.RxPackets++
	c.RxBytes += uint64(p.nb.Total)
	n := uint16(v.Len)
	nb := p.nb
	nb.IPort = end
	p.data = p.data[n:]
	nb.Off += n
	nb.Len -= n
	nb.Total -= uint32(n)
	nb.HdrLen = 0
	nb.Flags &^= abi.NbCsumValid // of the outer packet
	switch {
	case nb.Flags&abi.NbCsumPartial == 0:
	case nb.CsumStart < n:
		nb.Flags &^= abi.NbCsumPartial
	default:
		nb.CsumStart -= n
	}
	return true
}

// encapsulate makes a packet to a tunnel one to the carrier. It is false if that
// cannot be.
func (w *Worker) encapsulate(p *pkt, tunnel uint32) bool {
	port, v := w.tables.Port(tunnel), w.tables.VXLAN
	if port == nil || port.Tunnel == nil || v == nil || v.Carrier == 0 {
		return false // the tables have changed since the route was found
	}
	nb, h := p.nb, port.Tunnel
	n := h.Len()
	if w.dry != nil {
		w.dry.remote = port
	}
	off := int(nb.Off)
	buf := w.area.NbufBytes(p.idx)
	if off < abi.NbufHdr+n {
		// A device may leave less room than IPv6 needs. Headers are moved then, and
		// only a packet that is whole in its nbuf has more there.
		to := abi.NbufHdr + n
		if to+len(p.data) > len(buf) {
			return false
		}
		copy(buf[to:], p.data)
		off = to
	}
	p.data = buf[off-n : off+len(p.data) : abi.NbufSize]
	w.ipID++
	id := w.ipID
	if nb.GSOType != abi.GSONone && nb.GSOSize != 0 {
		w.ipID += uint16(nb.Total / uint32(nb.GSOSize)) // each segment has its own
	}
	h.Put(p.data, int(nb.Total), entropy(p.data[n:]), id)
	nb.Off, nb.Len, nb.Total = uint16(off-n), nb.Len+uint16(n), nb.Total+uint32(n)
	if nb.Flags&abi.NbCsumPartial != 0 {
		nb.CsumStart += uint16(n)
	}
	if nb.HdrLen != 0 {
		nb.HdrLen += uint16(n)
	}
	nb.Encap = uint16(n)
	nb.EPort = v.Carrier
	c := w.counters(v.Carrier)
	c.TxPackets++
	c.TxBytes += uint64(nb.Total)
	if w.tapped {
		w.capture(v.Carrier, true, p)
	}
	return true
}

// entropy is a hash of what tells flows apart, of a packet of which b has the
// headers.
func entropy(b []byte) uint16 {
	var h uint64
	l4 := 40
	proto := b[6]
	if b[0]>>4 == 4 {
		l4, proto = int(b[0]&15)*4, b[9]
		if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
			proto = 0 // a fragment
		}
		h = binary.BigEndian.Uint64(b[12:])
	} else {
		h = hash.Mix(binary.BigEndian.Uint64(b[8:])^binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[16:])^binary.BigEndian.Uint64(b[32:]))
	}
	if packet.HasPorts(proto) && l4+4 <= len(b) {
		h ^= uint64(binary.BigEndian.Uint32(b[l4:])) << 7
	}
	return uint16(hash.Mix(h, uint64(proto)) >> 48)
}

// unsent gives up a packet for a port that is not there any more.
func (w *Worker) unsent(p *pkt) {
	w.counters(p.nb.IPort).Drops[ReasonNoRoute]++
	if p.n > 1 {
		w.free(p)
		return
	}
	w.queue = append(w.queue, abi.Entry(abi.OutFree, p.idx))
}
