// SPDX-License-Identifier: Apache-2.0

package conntrack

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
)

// Dir is what the fast path needs of one direction, a cache line.
type Dir struct {
	Key          // as packets of this direction arrive
	In    uint32 // port that they come from; 0: not known
	Out   uint32 // port that they go to
	Gen   uint32 // generation of the tables that this was decided by
	MTU   uint16 // of Out, capped at 65535
	Flags uint16
	// What NAT adds to checksums, ~old + new (RFC 1624): its addresses, and
	// addresses and ports.
	SumIP, SumL4 uint16
	_            [4]byte
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

// Conn is a connection, three cache lines: a direction each, and what they
// share. It lives in shared memory and holds no pointers.
type Conn struct {
	Dirs [2]Dir

	valid   uint32 // 1: live; stored last when made, first when forgotten
	State   State
	fins    uint8 // bit per direction: FIN seen
	_       uint16
	Seen    uint32 // clock in milliseconds (see Table), last packet
	Timeout uint32 // milliseconds of idleness after which it is forgotten
	Packets [2]uint64
	Bytes   [2]uint64
	Owner   uint32 // port that is charged for it: the opener's
	next    uint32 // charged to the same port, younger
	prev    uint32
	Rule    uint32 // the forwarder's: rule that let it in
}
