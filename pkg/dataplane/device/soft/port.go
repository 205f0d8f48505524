// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"netio.dev/netio/pkg/dataplane/abi"
)

// port is a knet at run time. What the lane polls is its home lane's alone;
// counts are touched by every lane that frees packets of the port.
type port struct {
	id   uint32
	fd   int
	home *lane
	sh   *abi.Port  // what the process sees
	st   *portState // what outlives the process
	uso  bool       // takes UDP_L4

	// the home lane's
	polled  bool // in lane.hot
	drained bool // the last read found nothing, and epoll has said nothing since
	blocked bool // waits for nbufs or slots; its packets stay in the TUN's queue
	dead    bool // the interface is gone
	idle    int  // turns in a row in which it had nothing

	// of all lanes
	whole  atomic.Bool // PortFlagWhole
	up     atomic.Bool
	quota  atomic.Int32 // nbufs
	held   int32        // nbufs
	parked int32        // slots
	bytes  int32        // in the slots
	qPkts  int32
	qBytes int32
	mark   atomic.Int32
}

// add is for counts that have several writers only if there are several lanes.
func (l *lane) add(c *int32, n int32) int32 {
	if l.d.multi {
		return atomic.AddInt32(c, n)
	}
	*c += n
	return *c
}

func (l *lane) load(c *int32) int32 {
	if l.d.multi {
		return atomic.LoadInt32(c)
	}
	return *c
}

// hold charges one nbuf, with parked bytes in a slot, to the port.
func (p *port) hold(l *lane, parked uint32) {
	p.sh.Nbufs = uint32(l.add(&p.held, 1))
	if parked != 0 {
		l.add(&p.parked, 1)
		p.sh.ParkedBytes = uint32(l.add(&p.bytes, int32(parked)))
	}
}

// release takes the charge of an nbuf back.
func (p *port) release(l *lane, rec *nbufState) {
	p.sh.Nbufs = uint32(l.add(&p.held, -1))
	if rec.slot != 0 {
		p.unpark(l, rec.parked)
	}
}

func (p *port) unpark(l *lane, parked uint32) {
	l.add(&p.parked, -1)
	p.sh.ParkedBytes = uint32(l.add(&p.bytes, -int32(parked)))
}

// enqueue and dequeue keep the transmit queue length: what has been taken from
// an OutQ and is not yet written.
func (p *port) enqueue(l *lane, bytes uint32) {
	p.sh.QPackets = uint32(l.add(&p.qPkts, 1))
	q := l.add(&p.qBytes, int32(bytes))
	p.sh.QBytes = uint32(q)
	if m := p.mark.Load(); m != 0 && q > m && q-int32(bytes) <= m {
		p.setState(abi.PortCongested, true)
		p.home.post(abi.InQoS, p.id)
	}
}

func (p *port) dequeue(l *lane, bytes uint32) {
	p.sh.QPackets = uint32(l.add(&p.qPkts, -1))
	q := l.add(&p.qBytes, -int32(bytes))
	p.sh.QBytes = uint32(q)
	if m := p.mark.Load(); m != 0 && q <= m && q+int32(bytes) > m {
		p.setState(abi.PortCongested, false)
		p.home.post(abi.InQoS, p.id)
	}
}

// setState sets or clears bits of netio_port.state; false if nothing changed.
func (p *port) setState(bits uint32, on bool) bool {
	for {
		old := atomic.LoadUint32(&p.sh.State)
		v := old &^ bits
		if on {
			v = old | bits
		}
		if v == old {
			return false
		}
		if atomic.CompareAndSwapUint32(&p.sh.State, old, v) {
			return true
		}
	}
}

// setUp records whether the interface is up and tells the process.
func (p *port) setUp(up bool) {
	if p.up.Swap(up) != up {
		p.setState(abi.PortUp, up)
		p.home.watch(p, unix.EPOLL_CTL_MOD)
		p.home.post(abi.InPort, p.id)
	}
}

// sendFailed counts a packet that the TUN refused and learns from the reason.
func (l *lane) sendFailed(p *port, errno syscall.Errno) {
	l.dl.TxDrop++
	atomic.AddUint64(&p.sh.TxDrop, 1)
	l.dropped(1)
	switch errno {
	case syscall.EIO, syscall.EBADFD: // down, or gone
		p.setUp(false)
	}
}
