// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"netio.dev/netio/pkg/dataplane/abi"
)

// capture hands a packet of a port to its captures. The device brings the
// packets of captured ports whole, as chains.
func (w *Worker) capture(port uint32, toPort bool, p *pkt) {
	if !w.tap.Want(port) {
		return
	}
	n := 0
	w.parts[n] = p.data
	n++
	for _, e := range w.ents[p.first+1 : p.first+p.n] {
		i := abi.Param(e)
		if i >= w.area.NbufCount() || n == len(w.parts) {
			break
		}
		nb := w.area.Nbuf(i)
		off, size := uint32(nb.Off), uint32(nb.Len)
		if off < abi.NbufHdr || off+size > abi.NbufSize {
			break
		}
		w.parts[n] = w.area.NbufBytes(i)[off : off+size]
		n++
	}
	w.tap.Deliver(port, toPort, w.wall(), p.nb.Total, w.parts[:n]...)
}
