// SPDX-License-Identifier: Apache-2.0

package observe

import (
	"encoding/binary"
	"sync/atomic"

	"golang.org/x/sys/cpu"
)

// packetHeader is the size of what precedes a packet's bytes in a byteRing.
// Packets begin at multiples of it, so that it never wraps:
//
//	0 time, Unix ns | 8 packets lost so far | 16 length on the wire | 20 bytes that follow | 24 to port
const packetHeader = 32

// byteRing is a bounded queue of packets from one writer to one reader. Neither
// ever waits. The indices are free-running counts of bytes.
type byteRing struct {
	buf  []byte // a power of two
	_    cpu.CacheLinePad
	tail atomic.Uint64
	seen uint64        // writer's last look at head
	lost atomic.Uint64 // packets that found no room
	_    cpu.CacheLinePad
	head atomic.Uint64
	_    cpu.CacheLinePad
}

// captured is a packet as the reader sees it.
type captured struct {
	time   int64
	lost   uint64 // packets that found no room before this one, ever
	length uint32
	size   uint32 // bytes of it in the ring
	toPort bool
}

func newByteRing(size int) *byteRing {
	return &byteRing{buf: make([]byte, size)}
}

// push copies a packet into the ring, at most snap bytes of it, or counts it
// as lost.
func (g *byteRing) push(toPort bool, time int64, total, snap uint32, parts [][]byte) {
	size := uint64(0)
	for _, p := range parts {
		size += uint64(len(p))
	}
	size = min(size, uint64(snap))
	need := packetHeader + roundHeader(size)
	tail, room := g.tail.Load(), uint64(len(g.buf))
	if need > room-(tail-g.seen) {
		if g.seen = g.head.Load(); need > room-(tail-g.seen) {
			g.lost.Add(1)
			return
		}
	}
	h := g.buf[tail&(room-1):][:packetHeader]
	binary.LittleEndian.PutUint64(h[0:], uint64(time))
	binary.LittleEndian.PutUint64(h[8:], g.lost.Load())
	binary.LittleEndian.PutUint32(h[16:], total)
	binary.LittleEndian.PutUint32(h[20:], uint32(size))
	h[24] = 0
	if toPort {
		h[24] = 1
	}
	at := tail + packetHeader
	for _, p := range parts {
		p = p[:min(uint64(len(p)), size)]
		size -= uint64(len(p))
		n := copy(g.buf[at&(room-1):], p)
		copy(g.buf, p[n:])
		at += uint64(len(p))
	}
	g.tail.Store(tail + need)
}

// peek returns the oldest packet's header; false if the ring is empty.
func (g *byteRing) peek() (captured, bool) {
	head := g.head.Load()
	if head == g.tail.Load() {
		return captured{}, false
	}
	h := g.buf[head&uint64(len(g.buf)-1):][:packetHeader]
	return captured{
		time:   int64(binary.LittleEndian.Uint64(h[0:])),
		lost:   binary.LittleEndian.Uint64(h[8:]),
		length: binary.LittleEndian.Uint32(h[16:]),
		size:   binary.LittleEndian.Uint32(h[20:]),
		toPort: h[24] != 0,
	}, true
}

// pop removes the packet that peek has returned and returns a copy of its bytes.
func (g *byteRing) pop(c captured) []byte {
	head, mask := g.head.Load(), uint64(len(g.buf)-1)
	data := make([]byte, c.size)
	n := copy(data, g.buf[(head+packetHeader)&mask:])
	copy(data[n:], g.buf)
	g.head.Store(head + packetHeader + roundHeader(uint64(c.size)))
	return data
}

func roundHeader(n uint64) uint64 {
	return (n + packetHeader - 1) &^ (packetHeader - 1)
}
