// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// block is the size of one write and one read, as iperf3 has it.
const block = 128 << 10

// pattern is what checked streams consist of, over and over. Its length is a
// prime, so that no slip by a page, a segment or an nbuf goes unseen.
var pattern = func() []byte {
	p := make([]byte, 65521)
	x := uint32(2463534242)
	for i := range p {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		p[i] = byte(x)
	}
	return p
}()

// tcpStream is one accepted connection of a sink.
type tcpStream struct {
	bytes  atomic.Uint64
	last   atomic.Int64 // when it was heard last, nanoseconds since the sink began
	stall  atomic.Int64 // longest silence since the last sample
	errors atomic.Uint64
	ended  atomic.Bool
}

type tcpSink struct {
	began   time.Time
	check   bool
	mu      sync.Mutex
	streams []*tcpStream
}

func newTCPSink(spec Spec) (end, error) {
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(spec.Address))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	s := &tcpSink{began: time.Now(), check: spec.Check}
	go func() {
		for {
			conn, err := listener.AcceptTCP()
			if err != nil {
				return // out of descriptors: the source sees it
			}
			stream := new(tcpStream)
			stream.last.Store(int64(time.Since(s.began)))
			s.mu.Lock()
			s.streams = append(s.streams, stream)
			s.mu.Unlock()
			go s.read(conn, stream)
		}
	}()
	return s, nil
}

func (s *tcpSink) read(conn net.Conn, stream *tcpStream) {
	defer stream.ended.Store(true)
	defer conn.Close()
	buf := make([]byte, block)
	offset := 0
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			now := int64(time.Since(s.began))
			if silence := now - stream.last.Swap(now); silence > stream.stall.Load() {
				stream.stall.Store(silence)
			}
			stream.bytes.Add(uint64(n))
			if s.check && !matches(buf[:n], &offset) {
				stream.errors.Add(1)
			}
		}
		if err != nil {
			return
		}
	}
}

// matches tells whether b continues the pattern at *offset, and moves that on.
func matches(b []byte, offset *int) bool {
	ok := true
	for len(b) > 0 {
		want := pattern[*offset:]
		n := min(len(b), len(want))
		ok = ok && bytes.Equal(b[:n], want[:n])
		b = b[n:]
		*offset = (*offset + n) % len(pattern)
	}
	return ok
}

func (s *tcpSink) sample() Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := int64(time.Since(s.began))
	var out Sample
	for _, stream := range s.streams {
		out.Bytes += stream.bytes.Load()
		out.Errors += stream.errors.Load()
		if stream.ended.Load() {
			out.Ended++
			continue
		}
		out.Open++
		stall := max(stream.stall.Swap(0), now-stream.last.Load())
		out.Stall = max(out.Stall, time.Duration(stall))
	}
	return out
}

// congestion sets a socket's congestion control, before it connects.
func (s Spec) congestion(_, _ string, c syscall.RawConn) (err error) {
	if s.Congestion == "" {
		return nil
	}
	if e := c.Control(func(fd uintptr) {
		err = os.NewSyscallError("set congestion control "+s.Congestion, unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, s.Congestion))
	}); e != nil {
		return e
	}
	return err
}

type tcpSource struct {
	open, ended atomic.Int64
	bytes       atomic.Uint64
}

func newTCPSource(spec Spec) (end, error) {
	s := new(tcpSource)
	data := pattern
	if !spec.Check {
		data = make([]byte, block)
	}
	dialer := net.Dialer{Timeout: 10 * time.Second, Control: spec.congestion}
	for i := range spec.Streams {
		conn, err := dialer.Dial("tcp", spec.Address.String())
		if err != nil {
			return nil, fmt.Errorf("stream %d: %w", i+1, err)
		}
		s.open.Add(1)
		go func() {
			defer conn.Close()
			for {
				n, err := conn.Write(data)
				s.bytes.Add(uint64(n))
				if err != nil {
					s.open.Add(-1)
					s.ended.Add(1)
					return
				}
			}
		}()
	}
	return s, nil
}

func (s *tcpSource) sample() Sample {
	return Sample{Bytes: s.bytes.Load(), Open: int(s.open.Load()), Ended: int(s.ended.Load())}
}
