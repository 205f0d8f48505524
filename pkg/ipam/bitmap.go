// SPDX-License-Identifier: Apache-2.0

package ipam

import "math/bits"

const (
	pageShift = 12
	pageBits  = 1 << pageShift
	pageWords = pageBits / 64
)

// bitmap is a set of 64-bit numbers in pages that exist only where the set has
// members: a /64 with ten addresses in use costs one page. Full pages are
// skipped whole when searching.
type bitmap struct {
	pages map[uint64]*page
}

type page struct {
	count int
	words [pageWords]uint64
}

func newBitmap() bitmap {
	return bitmap{pages: make(map[uint64]*page)}
}

func (b *bitmap) has(n uint64) bool {
	p := b.pages[n>>pageShift]
	return p != nil && p.words[n%pageBits/64]&(1<<(n%64)) != 0
}

func (b *bitmap) add(n uint64) {
	if b.has(n) {
		return
	}
	p := b.pages[n>>pageShift]
	if p == nil {
		p = new(page)
		b.pages[n>>pageShift] = p
	}
	p.words[n%pageBits/64] |= 1 << (n % 64)
	p.count++
}

func (b *bitmap) remove(n uint64) {
	if !b.has(n) {
		return
	}
	p := b.pages[n>>pageShift]
	p.words[n%pageBits/64] &^= 1 << (n % 64)
	if p.count--; p.count == 0 {
		delete(b.pages, n>>pageShift)
	}
}

// nextClear returns the first number in [from, to] that is not in the set.
func (b *bitmap) nextClear(from, to uint64) (uint64, bool) {
	for n := from; n <= to; {
		p := b.pages[n>>pageShift]
		if p == nil {
			return n, true
		}
		last := n | (pageBits - 1) // of this page
		if p.count < pageBits {
			if c, ok := p.nextClear(n % pageBits); ok {
				n = n&^(pageBits-1) + c
				return n, n <= to
			}
		}
		if last >= to { // also where last+1 would wrap
			return 0, false
		}
		n = last + 1
	}
	return 0, false
}

func (p *page) nextClear(from uint64) (uint64, bool) {
	w := from / 64
	free := ^p.words[w] &^ (1<<(from%64) - 1)
	for {
		if free != 0 {
			return w*64 + uint64(bits.TrailingZeros64(free)), true
		}
		if w++; w == pageWords {
			return 0, false
		}
		free = ^p.words[w]
	}
}
