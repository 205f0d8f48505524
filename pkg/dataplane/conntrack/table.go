// SPDX-License-Identifier: Apache-2.0

// Package conntrack is the connection table of one forwarder worker: an index
// of both directions of every connection, over a slab that may live in a file
// so that connections survive the process.
//
//	key ──hash──> index (tag, ref) ──> slab [conn: original | reply | shared]
//	                 rebuilt at Open          kept in the file
//
// A Table belongs to one goroutine. Nothing on the packet path allocates.
package conntrack

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// Errors of Insert.
var (
	// ErrFull: the table is full and holds nothing that may make room.
	ErrFull = errors.New("connection table full")
	// ErrPortFull: the owner has as many connections as one port may have.
	ErrPortFull = errors.New("connection limit of the port reached")
	// ErrClash: a direction's key belongs to another connection.
	ErrClash = errors.New("connection exists")
)

const nilConn = ^uint32(0)

// Table is a connection table. Times are milliseconds of CLOCK_MONOTONIC
// modulo 2^32, and compared by difference; timeouts must be below 2^31.
type Table struct {
	slab    []Conn
	index   []uint64 // tag << 32 | ref+1, 0: empty; linear probing
	mask    uint64
	shift   uint
	secret  hashSecret
	store   *store
	free    []uint32 // indices to use next, last first
	high    uint32   // slab entries from here on were never used
	live    int
	limit   int // connections per port
	ports   []portConns
	hand    uint32 // of the sweep
	sampler uint32 // of the eviction
	onDrop  func(*Conn)
	over    *overlay // of a table that lies over another one
}

// portConns is a port's connections: a list, oldest first.
type portConns struct {
	first, last uint32
	count       int
}

// Options of a table.
type Options struct {
	// Capacity in connections.
	Capacity int
	// PerPort is the limit for one port, 0: Capacity.
	PerPort int
	// Path of the file that keeps the slab, "": memory only. Its directory should
	// be a tmpfs.
	Path string
	// OnDrop, if set, is called with each connection before it is forgotten.
	OnDrop func(*Conn)
}

// Open makes a table, with the connections that the file holds. A file that is
// of another version or size, or damaged, is begun anew.
func Open(o Options) (*Table, error) {
	if o.Capacity < 1 || o.Capacity > 1<<26 {
		return nil, fmt.Errorf("connection table of %d entries: want 1 to %d", o.Capacity, 1<<26)
	}
	if o.PerPort <= 0 || o.PerPort > o.Capacity {
		o.PerPort = o.Capacity
	}
	st, err := openStore(o.Path, o.Capacity)
	if err != nil {
		return nil, fmt.Errorf("open connection table: %w", err)
	}
	// Two directions per connection at a load of at most a half.
	order := uint(bits.Len64(uint64(o.Capacity)*4 - 1))
	index, err := anonymous(8 << order)
	if err != nil {
		st.close()
		return nil, fmt.Errorf("allocate connection index: %w", err)
	}
	t := &Table{
		slab: st.conns(), index: unsafe.Slice((*uint64)(unsafe.Pointer(&index[0])), 1<<order),
		mask: 1<<order - 1, shift: 64 - order, secret: st.secret(), store: st, limit: o.PerPort, onDrop: o.OnDrop,
	}
	t.recover()
	return t, nil
}

// Close unmaps the table; what the file holds stays.
func (t *Table) Close() error {
	if t.over != nil {
		t.slab, t.index = nil, nil
		return t.store.close()
	}
	index := unsafe.Slice((*byte)(unsafe.Pointer(&t.index[0])), len(t.index)*8)
	t.slab, t.index = nil, nil
	return errors.Join(t.store.close(), release(index))
}

// Len is the number of connections, Cap the most there can be.
func (t *Table) Len() int { return t.live }

// Cap is the most connections that there can be.
func (t *Table) Cap() int { return len(t.slab) }

// PortLen is the number of connections charged to a port.
func (t *Table) PortLen(port uint32) int {
	if int(port) >= len(t.ports) {
		return 0
	}
	return t.ports[port].count
}

// SetLimit changes the limit per port.
func (t *Table) SetLimit(n int) {
	if n <= 0 || n > len(t.slab) {
		n = len(t.slab)
	}
	t.limit = n
}

// Hash of a key, for Slot and Find.
func (t *Table) Hash(k *Key) uint64 { return t.secret.sum(k) }

// Slot is the first index slot of a hash. Loading it early for a whole vector
// overlaps the cache misses.
func (t *Table) Slot(hash uint64) uint64 { return t.index[hash>>t.shift] }

// Guess is Find by the hash alone, nearly always right: which connection to load
// early. Is tells whether it was right.
func (t *Table) Guess(hash uint64) Ref {
	for i := hash >> t.shift; ; i++ {
		s := t.index[i&t.mask]
		if uint32(s>>32) == uint32(hash) || s == 0 {
			return Ref(uint32(s) - 1) // NoRef for 0
		}
	}
}

// Is tells whether a ref, of whatever age but NoRef, is the live direction that
// has the key.
func (t *Table) Is(r Ref, k *Key) bool {
	c := &t.slab[r.Index()]
	return c.Dirs[r&1].equal(k) && c.valid == 1
}

// Conn of a ref that Find or Insert returned and nothing has deleted since.
func (t *Table) Conn(r Ref) *Conn { return &t.slab[r.Index()] }

// Dir of a ref likewise.
func (t *Table) Dir(r Ref) *Dir { return &t.slab[r.Index()].Dirs[r&1] }

// Find returns the direction that has the key, or NoRef.
func (t *Table) Find(k *Key, hash uint64) Ref {
	for i := hash >> t.shift; ; i++ {
		s := t.index[i&t.mask]
		if s == 0 {
			return NoRef
		}
		if uint32(s>>32) == uint32(hash) {
			r := Ref(uint32(s) - 1)
			if t.slab[r.Index()].Dirs[r&1].equal(k) {
				return r
			}
		}
	}
}

// Lookup is Find with the hash computed. In an overlay it finds, unlike Find, what
// the table below has, too.
func (t *Table) Lookup(k *Key) Ref {
	hash := t.Hash(k)
	r := t.Find(k, hash)
	if r == NoRef && t.over != nil {
		return t.adopt(k, hash)
	}
	return r
}

// Has tells whether a connection has the key.
func (t *Table) Has(k *Key) bool {
	hash := t.Hash(k)
	return t.Find(k, hash) != NoRef || t.over != nil && t.below(k, hash) != NoRef
}

// Insert makes a connection of two directions, charged to owner. It may evict
// another one to make room (see evict.go). The caller fills in the rest of
// the Conn before it lets the goroutine's other work see it.
func (t *Table) Insert(orig, reply *Key, owner, now, timeout uint32) (Ref, error) {
	if t.Has(orig) || t.Has(reply) {
		return NoRef, ErrClash
	}
	var err error
	if t.over == nil {
		err = t.makeRoom(owner, now)
	} else {
		err = t.makeRoomBelow(owner, now)
	}
	if err != nil {
		return NoRef, err
	}
	var i uint32
	if n := len(t.free); n > 0 {
		i = t.free[n-1]
		t.free = t.free[:n-1]
	} else {
		i = t.high
		t.high++
		t.store.setHigh(t.high)
	}
	c := &t.slab[i]
	*c = Conn{Seen: now, Timeout: timeout, Owner: owner}
	c.Dirs[Original].Key, c.Dirs[Reply].Key = *orig, *reply
	if t.over == nil {
		t.link(i, c)
	}
	t.live++
	t.indexAdd(t.Hash(orig), Ref(i<<1))
	// A connection whose answer looks like its question has one index entry.
	if *orig != *reply {
		t.indexAdd(t.Hash(reply), Ref(i<<1|1))
	}
	atomic.StoreUint32(&c.valid, 1)
	return Ref(i << 1), nil
}

// Delete forgets a connection.
func (t *Table) Delete(r Ref) {
	i := r.Index()
	c := &t.slab[i]
	if t.over != nil {
		t.cover(i)
	}
	if c.valid == 0 {
		return
	}
	if t.onDrop != nil {
		t.onDrop(c)
	}
	atomic.StoreUint32(&c.valid, 0)
	t.indexRemove(t.Hash(&c.Dirs[Original].Key), Ref(i<<1))
	if c.Dirs[Original].Key != c.Dirs[Reply].Key {
		t.indexRemove(t.Hash(&c.Dirs[Reply].Key), Ref(i<<1|1))
	}
	if t.over == nil {
		t.unlink(i, c)
	}
	t.free = append(t.free, i)
	t.live--
}

// DeletePort forgets the oldest n connections that are charged to a port, and
// returns how many there were.
func (t *Table) DeletePort(port uint32, n int) int {
	gone := 0
	for ; gone < n && t.PortLen(port) > 0; gone++ {
		t.Delete(Ref(t.ports[port].first << 1))
	}
	return gone
}

// Expired tells whether a connection has been idle for its timeout.
func (c *Conn) Expired(now uint32) bool { return int32(now-c.Seen-c.Timeout) >= 0 }

// Sweep looks at n slab entries, from where the last sweep ended, and forgets
// those that are expired. It returns how many.
func (t *Table) Sweep(now uint32, n int) int {
	gone := 0
	for n = min(n, int(t.high)); n > 0; n-- {
		if t.hand >= t.high {
			t.hand = 0
		}
		if c := &t.slab[t.hand]; c.valid != 0 && c.Expired(now) {
			t.Delete(Ref(t.hand << 1))
			gone++
		}
		t.hand++
	}
	return gone
}

// Each calls f for live connections from slab entry from on, at most n entries,
// and returns where to go on, 0 at the end.
func (t *Table) Each(from uint32, n int, f func(Ref, *Conn)) uint32 {
	for ; n > 0 && from < t.high; n-- {
		if c := &t.slab[from]; c.valid != 0 {
			f(Ref(from<<1), c)
		}
		from++
	}
	if from >= t.high {
		return 0
	}
	return from
}

func (t *Table) indexAdd(hash uint64, r Ref) {
	i := hash >> t.shift
	for t.index[i&t.mask] != 0 {
		i++
	}
	t.index[i&t.mask] = uint64(uint32(hash))<<32 | uint64(r+1)
}

// indexRemove closes the gap by moving back what follows (Knuth, 6.4 algorithm
// R), so that no tombstones gather.
func (t *Table) indexRemove(hash uint64, r Ref) {
	i := hash >> t.shift & t.mask
	for uint32(t.index[i]) != uint32(r+1) {
		if t.index[i] == 0 {
			return
		}
		i = (i + 1) & t.mask
	}
	for j := (i + 1) & t.mask; t.index[j] != 0; j = (j + 1) & t.mask {
		ref := Ref(uint32(t.index[j]) - 1)
		home := t.Hash(&t.Dir(ref).Key) >> t.shift & t.mask
		if (j-home)&t.mask >= (j-i)&t.mask {
			t.index[i] = t.index[j]
			i = j
		}
	}
	t.index[i] = 0
}

func (t *Table) link(i uint32, c *Conn) {
	for int(c.Owner) >= len(t.ports) {
		t.ports = append(t.ports, portConns{first: nilConn, last: nilConn})
	}
	p := &t.ports[c.Owner]
	c.next, c.prev = nilConn, p.last
	if p.last != nilConn {
		t.slab[p.last].next = i
	} else {
		p.first = i
	}
	p.last = i
	p.count++
}

func (t *Table) unlink(i uint32, c *Conn) {
	p := &t.ports[c.Owner]
	if c.prev != nilConn {
		t.slab[c.prev].next = c.next
	} else {
		p.first = c.next
	}
	if c.next != nilConn {
		t.slab[c.next].prev = c.prev
	} else {
		p.last = c.prev
	}
	p.count--
}

// recover rebuilds index, lists and free list from the slab. An entry that is
// not whole, or whose keys another one has, is dropped.
func (t *Table) recover() {
	t.high = min(t.store.high(), uint32(len(t.slab)))
	for i := range t.high {
		c := &t.slab[i]
		orig, reply := &c.Dirs[Original].Key, &c.Dirs[Reply].Key
		if c.valid != 1 || !c.sane() || t.Lookup(orig) != NoRef || t.Lookup(reply) != NoRef {
			c.valid = 0
			t.free = append(t.free, i)
			continue
		}
		t.link(i, c)
		t.live++
		t.indexAdd(t.Hash(orig), Ref(i<<1))
		if *orig != *reply {
			t.indexAdd(t.Hash(reply), Ref(i<<1|1))
		}
	}
}

func (c *Conn) sane() bool {
	for d := range c.Dirs {
		k := &c.Dirs[d].Key
		if k.L4>>40 != 0 || k.Src.Is4() != k.Dst.Is4() {
			return false
		}
		c.Dirs[d].Gen = 0 // the new process's tables begin their count anew
	}
	return c.State > StateNone && c.State < stateCount && c.Owner < 1<<24 && c.Timeout < 1<<31 &&
		c.Dirs[0].Src.Is4() == c.Dirs[1].Src.Is4() && c.Dirs[0].Proto() == c.Dirs[1].Proto()
}
