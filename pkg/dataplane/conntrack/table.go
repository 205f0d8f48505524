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
	"sync/atomic"
	"unsafe"

	"netio.dev/netio/pkg/dataplane/prefetch"
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
	index   index
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
	x, err := newIndex(o.Capacity)
	if err != nil {
		st.close()
		return nil, err
	}
	t := &Table{slab: st.conns(), index: x, secret: st.secret(), store: st, limit: o.PerPort, onDrop: o.OnDrop}
	t.recover()
	return t, nil
}

// Close unmaps the table; what the file holds stays.
func (t *Table) Close() error {
	x := t.index
	t.slab, t.index = nil, index{}
	if t.over != nil {
		return t.store.close()
	}
	return errors.Join(t.store.close(), release(x.bytes()))
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

// SlotLine is what PrefetchSlots takes for a key's hash.
func (t *Table) SlotLine(hash uint64) uint64 { return hash >> (t.index.shift & 63) * 4 }

// PrefetchSlots is to be called some time before Guess or Find of several keys.
func (t *Table) PrefetchSlots(lines []uint64) {
	prefetch.Lines(unsafe.Pointer(&t.index.slots[0]), lines)
}

// DirLine is what PrefetchDirs takes for a ref, which may be NoRef.
func (t *Table) DirLine(r Ref) uint64 {
	return uint64(r>>1)*uint64(unsafe.Sizeof(Conn{})) + uint64(r&1)*uint64(unsafe.Sizeof(Dir{}))
}

// PrefetchDirs is to be called some time before Is or Dir of several refs.
func (t *Table) PrefetchDirs(lines []uint64) { prefetch.Lines(unsafe.Pointer(&t.slab[0]), lines) }

// Guess is Find by the hash alone, nearly always right: which connection to load
// early. Is tells whether it was right.
func (t *Table) Guess(hash uint64) Ref {
	r, _ := t.index.from(hash>>(t.index.shift&63), hash)
	return r
}

// Is tells whether a ref, of whatever age but NoRef, is the live direction that
// has the key.
func (t *Table) Is(r Ref, k *Key) bool {
	d := &t.slab[r.Index()].Dirs[r&1]
	return d.Has(k) && d.Flags&FlagLive != 0
}

// At is the direction of a ref of whatever age, nil for NoRef: it may be another
// connection's, or none's.
func (t *Table) At(r Ref) *Dir {
	if i := int(r.Index()); i < len(t.slab) {
		return &t.slab[i].Dirs[r&1]
	}
	return nil
}

// Conn of a ref that Find or Insert returned and nothing has deleted since.
func (t *Table) Conn(r Ref) *Conn { return &t.slab[r.Index()] }

// Dir of a ref likewise.
func (t *Table) Dir(r Ref) *Dir { return &t.slab[r.Index()].Dirs[r&1] }

// Find returns the direction that has the key, or NoRef.
func (t *Table) Find(k *Key, hash uint64) Ref {
	for i := hash >> t.index.shift; ; {
		var r Ref
		if r, i = t.index.from(i, hash); r == NoRef || t.slab[r.Index()].Dirs[r&1].Has(k) {
			return r
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
	*c = Conn{Timeout: timeout, Owner: owner}
	c.Dirs[Original].setKey(orig)
	c.Dirs[Reply].setKey(reply)
	c.Touch(now)
	if t.over == nil {
		t.link(i, c)
	}
	t.live++
	t.index.add(t.Hash(orig), Ref(i<<1))
	// A connection whose answer looks like its question has one index entry.
	if *orig != *reply {
		t.index.add(t.Hash(reply), Ref(i<<1|1))
	}
	c.enliven()
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
	orig, reply := c.Dirs[Original].Key(), c.Dirs[Reply].Key()
	t.indexRemove(t.Hash(&orig), Ref(i<<1))
	if orig != reply {
		t.indexRemove(t.Hash(&reply), Ref(i<<1|1))
	}
	for d := range c.Dirs {
		c.Dirs[d].Flags &^= FlagLive
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
func (c *Conn) Expired(now uint32) bool { return int32(now-c.Seen()-c.Timeout) >= 0 }

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

func (t *Table) indexRemove(hash uint64, r Ref) {
	t.index.remove(hash, r, func(r Ref) uint64 {
		k := t.Dir(r).Key()
		return t.Hash(&k)
	})
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
		orig, reply := c.Dirs[Original].Key(), c.Dirs[Reply].Key()
		if c.valid != 1 || !c.sane() || t.Lookup(&orig) != NoRef || t.Lookup(&reply) != NoRef {
			c.valid = 0
			t.free = append(t.free, i)
			continue
		}
		t.link(i, c)
		t.live++
		t.index.add(t.Hash(&orig), Ref(i<<1))
		if orig != reply {
			t.index.add(t.Hash(&reply), Ref(i<<1|1))
		}
		c.enliven()
		c.SetState(c.state)
	}
}

// enliven marks both directions as those of a connection.
func (c *Conn) enliven() {
	for d := range c.Dirs {
		c.Dirs[d].Flags |= FlagLive
	}
}

func (c *Conn) sane() bool {
	for d := range c.Dirs {
		if c.Dirs[d].Src.Is4() != c.Dirs[d].Dst.Is4() {
			return false
		}
		c.Dirs[d].Gen = 0 // the new process's tables begin their count anew
	}
	return c.state > StateNone && c.state < stateCount && c.Owner < 1<<24 && c.Timeout < 1<<31 &&
		c.Dirs[0].Src.Is4() == c.Dirs[1].Src.Is4() && c.Dirs[0].proto == c.Dirs[1].proto
}
