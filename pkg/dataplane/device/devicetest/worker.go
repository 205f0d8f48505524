// SPDX-License-Identifier: Apache-2.0

package devicetest

import (
	"runtime"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	"netio.dev/netio/pkg/dataplane/device"
	"netio.dev/netio/pkg/dataplane/ring"
)

// patience bounds every wait of the suite. It is for failures: nothing is timed.
const patience = 20 * time.Second

// worker is the process's side of one lane, worked step by step by a test.
type worker struct {
	t    testing.TB
	dev  device.Device
	area *abi.Area
	lane int
	in   ring.Reader
	out  ring.Writer
	ents [512]uint32
	part []uint32 // the beginning of a chain
	got  []packet // taken and not yet asked for
	evs  []uint32
	// spoil changes the next packet that sendGSO sends.
	spoil func(nb *abi.Nbuf, data []byte)
}

// packet is an RX, GRANT or FETCHED that was taken from the InQ.
type packet struct {
	action uint32
	nbufs  []uint32
	head   abi.Nbuf // a copy of the first nbuf's header
}

func newWorker(t testing.TB, dev device.Device, lane int) *worker {
	a, h := dev.Area(), dev.Area().Header()
	// A step may take long on a busy host: that is no dead owner, whose packets the
	// device frees.
	a.PLane(lane).DeadMS = uint32(time.Hour.Milliseconds())
	return &worker{
		t: t, dev: dev, area: a, lane: lane,
		in:  ring.NewReader(a.InQ(lane), h.InqOrder, &a.PLane(lane).InqHead, a.DLane(lane).InqStart),
		out: ring.NewWriter(a.OutQ(lane), h.OutqOrder, &a.DLane(lane).OutqHead, &a.PLane(lane).OutqTail, a.DLane(lane).OutqStart),
	}
}

// put publishes entries, all of them.
func (w *worker) put(ents ...uint32) {
	w.t.Helper()
	if n := w.out.Publish(ents); n != len(ents) {
		w.t.Fatalf("OutQ took %d of %d entries", n, len(ents))
	}
}

func (w *worker) kick() {
	w.t.Helper()
	if err := w.dev.Kick(w.lane); err != nil {
		w.t.Fatal(err)
	}
}

// turn kicks and takes what is on the InQ; packets go to got, events to evs.
func (w *worker) turn() {
	w.t.Helper()
	w.kick()
	w.take()
}

func (w *worker) take() {
	w.t.Helper()
	n := w.in.Take(w.ents[:])
	for _, e := range w.ents[:n] {
		switch a := abi.Action(e); a {
		case abi.InRX, abi.InGrant, abi.InFetched:
			idx := abi.Param(e)
			if idx >= w.area.NbufCount() {
				w.t.Fatalf("entry %#x names an nbuf beyond %d", e, w.area.NbufCount())
			}
			w.part = append(w.part, idx)
			if e&abi.EntMore == 0 {
				w.got = append(w.got, packet{a, w.part, *w.area.Nbuf(w.part[0])})
				w.part = nil
			}
		default:
			if e&abi.EntMore != 0 || w.part != nil {
				w.t.Fatalf("event %#x in the middle of a chain", e)
			}
			w.evs = append(w.evs, e)
		}
	}
	w.in.Release()
}

// await turns until cond holds.
func (w *worker) await(what string, cond func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); ; {
		w.turn()
		if cond() {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("no %s after %v; port events %#x, device %+v", what, patience, w.evs, *w.area.DLane(w.lane))
		}
		runtime.Gosched()
	}
}

// next is the next packet with the given action.
func (w *worker) next(action uint32) packet {
	w.t.Helper()
	var p packet
	w.await("packet", func() bool {
		for i, q := range w.got {
			if q.action == action {
				p = q
				w.got = append(w.got[:i], w.got[i+1:]...)
				return true
			}
		}
		return false
	})
	return p
}

// event waits for an event and takes it.
func (w *worker) event(action, param uint32) {
	w.t.Helper()
	w.await("event", func() bool {
		for i, e := range w.evs {
			if abi.Action(e) == action && abi.Param(e) == param {
				w.evs = append(w.evs[:i], w.evs[i+1:]...)
				return true
			}
		}
		return false
	})
}

// sum adds up the parameters of all events of a kind so far and takes them.
func (w *worker) sum(action uint32) uint32 {
	var n uint32
	rest := w.evs[:0]
	for _, e := range w.evs {
		if abi.Action(e) == action {
			n += abi.Param(e)
		} else {
			rest = append(rest, e)
		}
	}
	w.evs = rest
	return n
}

// grant asks for n empty nbufs.
func (w *worker) grant(n int) []uint32 {
	w.t.Helper()
	w.put(abi.Entry(abi.OutWant, uint32(n)))
	var list []uint32
	for range n {
		list = append(list, w.next(abi.InGrant).nbufs...)
	}
	return list
}

// fill puts a packet into a granted nbuf, for the given port.
func (w *worker) fill(idx uint32, eport uint32, b []byte) *abi.Nbuf {
	nb := w.area.Nbuf(idx)
	copy(w.area.NbufBytes(idx)[abi.NbufData:], b)
	nb.Off, nb.Len, nb.Total, nb.EPort = abi.NbufData, uint16(len(b)), uint32(len(b)), eport
	return nb
}

// data is what is in the nbufs of a packet.
func (w *worker) data(p packet) []byte {
	var b []byte
	for _, i := range p.nbufs {
		nb := w.area.Nbuf(i)
		b = append(b, w.area.NbufBytes(i)[nb.Off:][:nb.Len]...)
	}
	return b
}

// free gives packets back.
func (w *worker) free(ps ...packet) {
	for _, p := range ps {
		for _, i := range p.nbufs {
			w.put(abi.Entry(abi.OutFree, i))
		}
	}
}

// chain makes the entries of one packet.
func chain(action uint32, nbufs ...uint32) []uint32 {
	var ents []uint32
	for i, n := range nbufs {
		e := abi.Entry(action, n)
		if i < len(nbufs)-1 {
			e |= abi.EntMore
		}
		ents = append(ents, e)
	}
	return ents
}

// bad is the number of entries refused so far.
func (w *worker) bad() uint64 { return w.area.DLane(w.lane).BadEntry }

// settle gives back all that the test has taken and checks that the device then
// has every nbuf, once: granting them all yields each index exactly once.
func (w *worker) settle() {
	w.t.Helper()
	w.turn()
	w.free(w.got...)
	w.got = nil
	count := int(w.area.NbufCount())
	seen := make([]bool, count)
	have := 0
	// Packets may still come in; they count as well.
	w.sum(abi.InDenied)
	w.put(abi.Entry(abi.OutWant, uint32(count)))
	w.await("full count of nbufs", func() bool {
		for _, p := range w.got {
			for _, i := range p.nbufs {
				if seen[i] {
					w.t.Fatalf("nbuf %d is in two places", i)
				}
				seen[i] = true
				have++
			}
		}
		w.got = nil
		return have == count
	})
	for i := range count {
		w.put(abi.Entry(abi.OutFree, uint32(i)))
		if i%512 == 511 {
			w.kick()
		}
	}
	w.await("empty queues", func() bool {
		w.free(w.got...)
		w.got = nil
		for i := range w.area.Header().PortMax {
			p := w.area.Port(i)
			if p.Nbufs != 0 || p.ParkedBytes != 0 || p.QPackets != 0 || p.QBytes != 0 {
				return false
			}
		}
		return true
	})
}

// open makes an instance, owned by this process until the test ends.
func open(t testing.TB, h Harness, c Config) device.Device {
	t.Helper()
	inst := h.Create(t, c)
	dev := attach(t, inst)
	t.Cleanup(func() {
		if err := inst.Destroy(); err != nil {
			t.Errorf("destroy: %v", err)
		}
	})
	t.Cleanup(func() { shut(t, dev) })
	return dev
}

func attach(t testing.TB, inst Instance) device.Device {
	t.Helper()
	dev, err := inst.Attach()
	if err != nil {
		t.Fatal(err)
	}
	return dev
}

// shut removes the ports and closes the device.
func shut(t testing.TB, dev device.Device) {
	t.Helper()
	ports, err := dev.Ports()
	if err != nil {
		return // another owner has them
	}
	for _, p := range ports {
		if err := dev.RemovePort(p.ID); err != nil {
			t.Errorf("remove port %s: %v", p.Name, err)
		}
	}
	if err := dev.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// newWorkers works all lanes of an instance that nobody has worked since Attach.
func newWorkers(t testing.TB, dev device.Device) []*worker {
	var list []*worker
	for lane := range int(dev.Area().Header().Lanes) {
		list = append(list, newWorker(t, dev, lane))
	}
	return list
}

// settleAll is settle for several lanes: each of them may have nbufs in stock.
func settleAll(t testing.TB, lanes []*worker) {
	t.Helper()
	count := int(lanes[0].area.NbufCount())
	seen := make(map[uint32]bool)
	w := lanes[0]
	w.await("full count of nbufs", func() bool {
		for _, l := range lanes {
			if l != w {
				l.turn()
			}
			for _, p := range l.got {
				for _, i := range p.nbufs {
					if seen[i] {
						t.Fatalf("nbuf %d is in two places", i)
					}
					seen[i] = true
				}
			}
			l.got = nil
			// Each lane gives what it has in stock.
			l.put(abi.Entry(abi.OutWant, uint32(count-len(seen))))
		}
		return len(seen) == count
	})
	for i := range seen {
		w.put(abi.Entry(abi.OutFree, i))
	}
	w.turn()
}
