// SPDX-License-Identifier: Apache-2.0

package conntrack

import "netio.dev/netio/pkg/dataplane/packet"

// Timeouts in milliseconds of idleness, by state.
type Timeouts struct {
	TCPOpening, TCPEstablished, TCPClosing uint32
	UDP, UDPStream, ICMP, Other            uint32
}

// TCPOpens tells whether a segment may open a connection that is not in the
// table: a SYN does; so does anything else but a RST, as a connection that was
// here before the table was is picked up in its middle.
func TCPOpens(flags uint8) bool { return flags&packet.TCPRst == 0 }

// TCPReopens tells whether a segment of this direction begins a new connection
// with the tuple of an old one that is over (RFC 9293, section 3.6.1: TIME-WAIT
// may be left for a new SYN).
func (c *Conn) TCPReopens(flags uint8) bool {
	return flags&(packet.TCPSyn|packet.TCPAck|packet.TCPRst) == packet.TCPSyn && (c.State == StateClosing || c.State == StateReset)
}

// TCPStart sets the state of a new connection by its first segment.
func (c *Conn) TCPStart(flags uint8, to *Timeouts) {
	switch {
	case flags&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn:
		c.State, c.Timeout = StateSynSent, to.TCPOpening
	case flags&packet.TCPFin != 0:
		c.State, c.Timeout, c.fins = StateFinWait, to.TCPClosing, 1<<Original
	default:
		c.State, c.Timeout = StateEstablished, to.TCPEstablished
	}
}

// TCPUpdate moves the state on by a segment of direction dir. The states only
// set timeouts and tell what may be evicted: sequence numbers are the ends' business.
func (c *Conn) TCPUpdate(dir int, flags uint8, to *Timeouts) {
	switch {
	case flags&packet.TCPRst != 0:
		c.State, c.Timeout = StateReset, to.TCPClosing
		return
	case flags&packet.TCPFin != 0:
		c.fins |= 1 << dir
	}
	switch {
	case c.fins == 1<<Original|1<<Reply:
		c.State, c.Timeout = StateClosing, to.TCPClosing
	case c.fins != 0:
		c.State, c.Timeout = StateFinWait, to.TCPEstablished
	case c.State == StateSynSent && dir == Reply && flags&packet.TCPSyn != 0:
		c.State, c.Timeout = StateSynReceived, to.TCPOpening
	case c.State == StateSynReceived && dir == Original && flags&packet.TCPAck != 0,
		// A RST that the ends did not accept (RFC 5961): they talk on.
		c.State == StateReset && flags&(packet.TCPAck|packet.TCPSyn) == packet.TCPAck,
		c.State == StateSynSent && dir == Reply && flags&packet.TCPAck != 0:
		c.State, c.Timeout = StateEstablished, to.TCPEstablished
	}
}

// DatagramUpdate is the same for UDP and everything else: an answer makes a
// connection established.
func (c *Conn) DatagramUpdate(dir int, to *Timeouts) {
	if c.State == StateNew && dir == Reply {
		c.State = StateEstablished
		switch c.Dirs[0].Proto() {
		case packet.ProtoUDP:
			c.Timeout = to.UDPStream
		case packet.ProtoICMP, packet.ProtoICMPv6:
			c.Timeout = to.ICMP
		default:
			c.Timeout = to.Other
		}
	}
}

// DatagramStart sets the state of a new connection that is not TCP.
func (c *Conn) DatagramStart(to *Timeouts) {
	c.State = StateNew
	switch c.Dirs[0].Proto() {
	case packet.ProtoUDP:
		c.Timeout = to.UDP
	case packet.ProtoICMP, packet.ProtoICMPv6:
		c.Timeout = to.ICMP
	default:
		c.Timeout = to.Other
	}
}
