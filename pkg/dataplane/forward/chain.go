// SPDX-License-Identifier: Apache-2.0

package forward

import "netio.dev/netio/pkg/dataplane/abi"

// chainMax bounds a packet's entries: 64 KiB in nbufs, and one to spare.
const chainMax = (65536+abi.NbufRoom-1)/abi.NbufRoom + 1

// chain finds the end of a packet of several entries that begins with entry i
// of n. It returns where the next one begins, 0 if the chain's end has not come
// yet. It is not ok if the chain is broken off, too long, or has an entry that
// names no nbuf: then what it has is free again.
func (w *Worker) chain(i, n int) (end int, ok bool) {
	e := w.ents[i]
	ok = !w.overlong // the rest of one that was too long goes the same way
	for end = i + 1; w.ents[end-1]&abi.EntMore != 0; end++ {
		if end-i == chainMax || w.overlong && end == n {
			w.refuse(i, end)
			w.overlong = true
			return end, false
		}
		if end == n {
			return 0, true
		}
		if abi.Action(w.ents[end]) != abi.Action(e) {
			ok = false
			break
		}
	}
	w.overlong = false
	for _, e := range w.ents[i:end] {
		ok = ok && abi.Param(e) < w.area.NbufCount()
	}
	if !ok {
		w.refuse(i, end)
	}
	return end, ok
}

// refuse counts entries that are no packet and frees their nbufs.
func (w *Worker) refuse(i, end int) {
	w.Stats.BadEntries++
	for _, e := range w.ents[i:end] {
		if idx := abi.Param(e); idx < w.area.NbufCount() {
			w.queue = append(w.queue, abi.Entry(abi.OutFree, idx))
		}
	}
}
