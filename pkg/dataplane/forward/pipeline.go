// SPDX-License-Identifier: Apache-2.0

package forward

import "netio.dev/netio/pkg/dataplane/conntrack"

// Packets of a vector go in batches through the stages below, each batch a stage
// ahead of the next one. What a stage prefetches is used in the batch's next stage,
// so that meanwhile the other stages' work for other batches is done:
//
//	 stage     parse ──────> look up ──────> look across ───────> handle
//	 prefetch  index slots   connections'    with NAT, the other
//	                         directions      directions
//
// Packets of a flow often come one behind the other, as a train (Jain and Routhier, "Packet
// Trains", IEEE JSAC 1986): what has been found for one is not looked for again.
//
// A look-up is a guess: what an earlier batch does to the table comes after it. The
// last stage sees whether it was right.

const (
	// batchSize is how many packets of a batch there are: enough to overlap their cache
	// misses, few enough for all batches' lines to stay in the first-level cache.
	batchSize = 16
	// pipeStages is how many stages there are, of which the first one fills a batch.
	pipeStages = 4
)

// batch is some packets of a vector.
type batch struct {
	n     uint
	slots uint // to prefetch for them, in pipeline.lines while the batch is being filled
	pkts  [batchSize]pkt
}

// pipeline has a batch in each stage.
type pipeline struct {
	batches [pipeStages]batch
	step    uint
	lines   [batchSize]uint64 // that a stage prefetches
	// across: the vector before had packets of connections with NAT. Without them
	// there is nothing to look for across.
	across, translated bool
}

// at is the batch in a stage, of which the first one is 0.
func (p *pipeline) at(stage uint) *batch { return &p.batches[(p.step-stage)%pipeStages] }

// first is the batch that is being filled.
func (p *pipeline) first() *batch { return p.at(0) }

// advance takes each batch through its stage.
func (w *Worker) advance() {
	if b := w.pipe.at(0); b.n > 0 {
		w.conns.PrefetchSlots(w.pipe.lines[:b.slots])
		b.slots = 0
	}
	if b := w.pipe.at(1); b.n > 0 {
		w.lookUp(b)
	}
	if b := w.pipe.at(2); b.n > 0 && w.pipe.across {
		w.lookAcross(b)
	}
	if b := w.pipe.at(3); b.n > 0 {
		w.forward(b)
		b.n = 0
	}
	w.pipe.step++
}

func (w *Worker) lookUp(b *batch) {
	n, lines := 0, &w.pipe.lines
	ref := conntrack.NoRef
	for i := range b.pkts[:b.n] {
		p := &b.pkts[i]
		if !p.train {
			ref = w.conns.Guess(p.hash)
			lines[n] = w.conns.DirLine(ref)
			n++
		}
		p.ref = ref
	}
	w.conns.PrefetchDirs(lines[:n])
}

// lookAcross prefetches what translate reads.
func (w *Worker) lookAcross(b *batch) {
	n, lines := 0, &w.pipe.lines
	for i := range b.pkts[:b.n] {
		if r := b.pkts[i].ref; r != conntrack.NoRef && w.conns.Dir(r).Flags&conntrack.FlagNAT != 0 {
			lines[n] = w.conns.DirLine(r.Other())
			n++
		}
	}
	w.conns.PrefetchDirs(lines[:n])
}
