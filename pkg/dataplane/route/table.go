// SPDX-License-Identifier: Apache-2.0

// Package route finds the longest prefix that matches an address, and the small
// number that goes with it.
//
//	           Build                 Update (delta)
//	entries ───────────> Table ─────────────────────> Table'
//	                       │   shares all that is unchanged │
//	                       └────── workers look up ─────────┘
//
// A Table is immutable, so that workers use it without locks while the next one
// is made. The trie is gaissmai/bart's, whose nodes an update copies only along the
// path to what has changed.
package route

import (
	"net/netip"

	"github.com/gaissmai/bart"

	"netio.dev/netio/pkg/dataplane/packet"
)

// Table maps prefixes of both families to numbers. The zero value is an empty
// table. All methods are safe for concurrent use and none changes the table.
type Table struct {
	trie *bart.Fast[uint32]
}

// Entry is a prefix and its number. Host bits do not count.
type Entry struct {
	Prefix netip.Prefix
	Value  uint32
}

// Build makes a table; of equal prefixes the last one counts. Invalid prefixes
// are left out.
func Build(entries []Entry) *Table {
	trie := new(bart.Fast[uint32])
	for _, e := range entries {
		trie.Insert(e.Prefix, e.Value)
	}
	return &Table{trie}
}

// Update returns a table without the prefixes in remove and then with the
// entries in insert, which replace equal prefixes. It costs tens of microseconds
// per change, however large the table; t is unchanged.
func (t *Table) Update(remove []netip.Prefix, insert []Entry) *Table {
	if len(remove)+len(insert) == 0 {
		return t
	}
	trie := t.trie
	if trie == nil {
		trie = new(bart.Fast[uint32])
	}
	// Copying the whole trie once is cheaper than copying a path for each of many
	// changes.
	if len(remove)+len(insert) > trie.Size()/8 {
		trie = trie.Clone()
		for _, p := range remove {
			trie.Delete(p)
		}
		for _, e := range insert {
			trie.Insert(e.Prefix, e.Value)
		}
		return &Table{trie}
	}
	for _, p := range remove {
		trie = trie.DeletePersist(p)
	}
	for _, e := range insert {
		trie = trie.InsertPersist(e.Prefix, e.Value)
	}
	return &Table{trie}
}

// Lookup is the number of the longest prefix that contains the address. It
// does not allocate.
func (t *Table) Lookup(a packet.Addr) (uint32, bool) {
	if t.trie == nil {
		return 0, false
	}
	return t.trie.Lookup(a.Netip())
}

// Get is the number of exactly this prefix.
func (t *Table) Get(p netip.Prefix) (uint32, bool) {
	if t.trie == nil {
		return 0, false
	}
	return t.trie.Get(p)
}

// Match is Lookup with the prefix that matched, for showing to people.
func (t *Table) Match(a packet.Addr) (Entry, bool) {
	if t.trie == nil {
		return Entry{}, false
	}
	ip := a.Netip()
	p, v, ok := t.trie.LookupPrefixLPM(netip.PrefixFrom(ip, ip.BitLen()))
	return Entry{p, v}, ok
}

// Len is the number of prefixes.
func (t *Table) Len() int {
	if t.trie == nil {
		return 0
	}
	return t.trie.Size()
}
