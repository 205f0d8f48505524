// SPDX-License-Identifier: Apache-2.0

package conntrack

import "netio.dev/netio/pkg/dataplane/packet"

// Ref names one direction of a connection in a table: index<<1 | direction.
type Ref uint32

// NoRef is no connection.
const NoRef Ref = ^Ref(0)

// Directions.
const (
	Original = 0 // as the packet that opened the connection
	Reply    = 1
)

// Index of the connection in its table.
func (r Ref) Index() uint32 { return uint32(r) >> 1 }

// Dir is the direction, Original or Reply.
func (r Ref) Dir() int { return int(r & 1) }

// Other is the other direction of the same connection.
func (r Ref) Other() Ref { return r ^ 1 }

// Dir.Flags.
const (
	// FlagNAT: packets of this direction leave with the other tuple.
	FlagNAT = 1 << iota
	// FlagSteady: packets of this direction, but for TCP's SYN, FIN and RST, leave the
	// state as it is. It follows from the state, and spares a look at it.
	FlagSteady
	// FlagLive: the connection is one. It goes with it.
	FlagLive
)

// Dir is all that the fast path reads and writes of a connection for a packet of one
// direction: a cache line.
type Dir struct {
	// As packets of this direction arrive: a Key, in less.
	Src, Dst packet.Addr
	ports    uint32
	proto    uint8

	Flags uint8
	MTU   uint16 // of Out, capped at 65535
	In    uint32 // port that they come from; 0: not known
	Out   uint32 // port that they go to
	Gen   uint32 // generation of the tables that this was decided by
	seen  uint32 // clock in milliseconds (see Table), last packet
	tally uint64 // bytes | packets << tallyPackets, since spill
}

// Key that packets of this direction have.
func (d *Dir) Key() Key {
	return Key{Src: d.Src, Dst: d.Dst, L4: uint64(d.ports) | uint64(d.proto)<<32}
}

// Tuple that packets of this direction have.
func (d *Dir) Tuple() packet.Tuple {
	k := d.Key()
	return k.Tuple()
}

// Proto is the IP protocol number.
func (d *Dir) Proto() uint8 { return d.proto }

// Ports are the source port, and the destination port << 16.
func (d *Dir) Ports() uint32 { return d.ports }

// Has tells whether packets of this direction have a key.
func (d *Dir) Has(k *Key) bool {
	return d.Src.Lo == k.Src.Lo && d.Dst.Lo == k.Dst.Lo && d.ports == uint32(k.L4) && d.proto == uint8(k.L4>>32) &&
		d.Src.Hi == k.Src.Hi && d.Dst.Hi == k.Dst.Hi
}

func (d *Dir) setKey(k *Key) {
	d.Src, d.Dst, d.ports, d.proto = k.Src, k.Dst, uint32(k.L4), uint8(k.L4>>32)
}

// A tally that has reached one of tallyFull's bits is to be spilled: long before one
// of its parts runs over, as a packet has less than 2^32 bytes.
const (
	tallyPackets = 40
	tallyFull    = 1<<63 | 1<<39
)

// Count counts a packet of n bytes of this direction, at time now. If it returns true,
// Spill has to be called.
func (d *Dir) Count(n uint32, now uint32) (full bool) {
	d.seen = now
	d.tally += uint64(n) | 1<<tallyPackets
	return d.tally&tallyFull != 0
}

// State of a connection. The TCP states are those of the connection as seen
// from between its ends (RFC 9293, section 3.3.2, folded).
type State uint8

// States.
const (
	StateNone        State = iota
	StateNew               // UDP, ICMP, other: one-way so far
	StateEstablished       // answered; TCP: handshake done or picked up
	StateSynSent           // TCP: SYN seen
	StateSynReceived       // TCP: SYN and SYN-ACK seen
	StateFinWait           // TCP: one side has sent FIN
	StateClosing           // TCP: both sides have sent FIN
	StateReset             // TCP: RST seen
	stateCount
)

var stateNames = [stateCount]string{"none", "new", "established", "syn-sent", "syn-received", "fin-wait", "closing", "reset"}

func (s State) String() string {
	if s < stateCount {
		return stateNames[s]
	}
	return "invalid"
}

// Conn is a connection, three cache lines: a direction each, and what is needed less
// often. It lives in shared memory and holds no pointers.
type Conn struct {
	Dirs [2]Dir

	valid   uint32 // 1: live; stored last when made, first when forgotten
	state   State
	fins    uint8 // bit per direction: FIN seen
	_       uint16
	Timeout uint32 // milliseconds of idleness after which it is forgotten
	Owner   uint32 // port that is charged for it: the opener's
	next    uint32 // charged to the same port, younger
	prev    uint32
	Rule    uint32 // the forwarder's: rule that let it in
	_       uint32
	spilled [2]struct{ packets, bytes uint64 } // of each direction, beside its tally
}

// State of the connection.
func (c *Conn) State() State { return c.state }

// SetState changes it.
func (c *Conn) SetState(s State) {
	c.state = s
	steady := [2]uint8{}
	switch s {
	case StateEstablished:
		steady = [2]uint8{FlagSteady, FlagSteady}
	case StateNew:
		steady[Original] = FlagSteady // an answer makes it established
	}
	for d := range c.Dirs {
		c.Dirs[d].Flags = c.Dirs[d].Flags&^FlagSteady | steady[d]
	}
}

// Seen is the time of the last packet.
func (c *Conn) Seen() uint32 {
	o, r := c.Dirs[Original].seen, c.Dirs[Reply].seen
	if int32(r-o) > 0 {
		return r
	}
	return o
}

// Touch makes now the time of the last packet.
func (c *Conn) Touch(now uint32) { c.Dirs[Original].seen, c.Dirs[Reply].seen = now, now }

// Spill makes room in a direction's tally.
func (c *Conn) Spill(dir int) {
	d, s := &c.Dirs[dir], &c.spilled[dir]
	s.packets += d.tally >> tallyPackets
	s.bytes += d.tally & (1<<tallyPackets - 1)
	d.tally = 0
}

// Counts are the packets of a direction and their bytes.
func (c *Conn) Counts(dir int) (packets, bytes uint64) {
	d, s := &c.Dirs[dir], &c.spilled[dir]
	return s.packets + d.tally>>tallyPackets, s.bytes + d.tally&(1<<tallyPackets-1)
}
