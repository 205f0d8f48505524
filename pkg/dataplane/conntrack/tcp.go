// SPDX-License-Identifier: Apache-2.0

package conntrack

// TCP flags as on the wire (RFC 9293, section 3.1).
const (
	TCPFin = 0x01
	TCPSyn = 0x02
	TCPRst = 0x04
	TCPAck = 0x10
)

// Timeouts in milliseconds of idleness, by state.
type Timeouts struct {
	TCPOpening, TCPEstablished, TCPClosing uint32
	UDP, UDPStream, ICMP, Other            uint32
}

// TCPOpens tells whether a segment may open a connection that is not in the
// table: a SYN does; so does anything else but a RST, as a connection that was
// here before the table was is picked up in its middle.
func TCPOpens(flags uint8) bool { return flags&TCPRst == 0 }

// TCPReopens tells whether a segment of this direction begins a new connection
// with the tuple of an old one that is over (RFC 9293, section 3.6.1: TIME-WAIT
// may be left for a new SYN).
func (c *Conn) TCPReopens(flags uint8) bool {
	return flags&(TCPSyn|TCPAck|TCPRst) == TCPSyn && (c.State == StateClosing || c.State == StateReset)
}

// TCPStart sets the state of a new connection by its first segment.
func (c *Conn) TCPStart(flags uint8, to *Timeouts) {
	switch {
	case flags&(TCPSyn|TCPAck) == TCPSyn:
		c.State, c.Timeout = StateSynSent, to.TCPOpening
	case flags&TCPFin != 0:
		c.State, c.Timeout, c.fins = StateFinWait, to.TCPClosing, 1<<Original
	default:
		c.State, c.Timeout = StateEstablished, to.TCPEstablished
	}
}

// TCPUpdate moves the state on by a segment of direction dir. The states only
// set timeouts and tell what may be evicted: sequence numbers are the ends' business.
func (c *Conn) TCPUpdate(dir int, flags uint8, to *Timeouts) {
	switch {
	case flags&TCPRst != 0:
		c.State, c.Timeout = StateReset, to.TCPClosing
		return
	case flags&TCPFin != 0:
		c.fins |= 1 << dir
	}
	switch {
	case c.fins == 1<<Original|1<<Reply:
		c.State, c.Timeout = StateClosing, to.TCPClosing
	case c.fins != 0:
		c.State, c.Timeout = StateFinWait, to.TCPEstablished
	case c.State == StateSynSent && dir == Reply && flags&TCPSyn != 0:
		c.State, c.Timeout = StateSynReceived, to.TCPOpening
	case c.State == StateSynReceived && dir == Original && flags&TCPAck != 0,
		// A RST that the ends did not accept (RFC 5961): they talk on.
		c.State == StateReset && flags&(TCPAck|TCPSyn) == TCPAck,
		c.State == StateSynSent && dir == Reply && flags&TCPAck != 0:
		c.State, c.Timeout = StateEstablished, to.TCPEstablished
	}
}

// DatagramUpdate is the same for UDP and everything else: an answer makes a
// connection established.
func (c *Conn) DatagramUpdate(dir int, to *Timeouts) {
	if c.State == StateNew && dir == Reply {
		c.State = StateEstablished
		switch c.Dirs[0].Proto() {
		case protoUDP:
			c.Timeout = to.UDPStream
		case protoICMP, protoICMPv6:
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
	case protoUDP:
		c.Timeout = to.UDP
	case protoICMP, protoICMPv6:
		c.Timeout = to.ICMP
	default:
		c.Timeout = to.Other
	}
}

const (
	protoICMP   = 1
	protoUDP    = 17
	protoICMPv6 = 58
)
