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
	return flags&(packet.TCPSyn|packet.TCPAck|packet.TCPRst) == packet.TCPSyn && (c.state == StateClosing || c.state == StateReset)
}

// TCPStart sets the state of a new connection by its first segment.
func (c *Conn) TCPStart(flags uint8, to *Timeouts) {
	switch {
	case flags&(packet.TCPSyn|packet.TCPAck) == packet.TCPSyn:
		c.follow(StateSynSent, to.TCPOpening)
	case flags&packet.TCPFin != 0:
		c.fins = 1 << Original
		c.follow(StateFinWait, to.TCPClosing)
	default:
		c.follow(StateEstablished, to.TCPEstablished)
	}
}

// follow enters a state in which idleness is borne for a time.
func (c *Conn) follow(s State, timeout uint32) {
	c.SetState(s)
	c.Timeout = timeout
}

// TCPUpdate moves the state on by a segment of direction dir. The states only
// set timeouts and tell what may be evicted: sequence numbers are the ends' business.
func (c *Conn) TCPUpdate(dir int, flags uint8, to *Timeouts) {
	switch {
	case flags&packet.TCPRst != 0:
		c.follow(StateReset, to.TCPClosing)
		return
	case flags&packet.TCPFin != 0:
		c.fins |= 1 << dir
	}
	switch {
	case c.fins == 1<<Original|1<<Reply:
		c.follow(StateClosing, to.TCPClosing)
	case c.fins != 0:
		c.follow(StateFinWait, to.TCPEstablished)
	case c.state == StateSynSent && dir == Reply && flags&packet.TCPSyn != 0:
		c.follow(StateSynReceived, to.TCPOpening)
	case c.state == StateSynReceived && dir == Original && flags&packet.TCPAck != 0,
		// A RST that the ends did not accept (RFC 5961): they talk on.
		c.state == StateReset && flags&(packet.TCPAck|packet.TCPSyn) == packet.TCPAck,
		c.state == StateSynSent && dir == Reply && flags&packet.TCPAck != 0:
		c.follow(StateEstablished, to.TCPEstablished)
	}
}

// DatagramUpdate is the same for UDP and everything else: an answer makes a
// connection established.
func (c *Conn) DatagramUpdate(dir int, to *Timeouts) {
	if c.state == StateNew && dir == Reply {
		c.SetState(StateEstablished)
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
	c.SetState(StateNew)
	switch c.Dirs[0].Proto() {
	case packet.ProtoUDP:
		c.Timeout = to.UDP
	case packet.ProtoICMP, packet.ProtoICMPv6:
		c.Timeout = to.ICMP
	default:
		c.Timeout = to.Other
	}
}
