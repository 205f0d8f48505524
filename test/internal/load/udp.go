// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

const (
	// receiveBuffer in bytes: 10 ms and more of small packets at full rate, so
	// that the scheduler's turns cost no packets.
	receiveBuffer = 8 << 20
	// readBatch is how many datagrams one system call of a sink may take.
	readBatch = 64
)

// udpSink answers the first datagram that it gets, and no other: connection
// tracking takes a flow that goes one way for new at every packet.
type udpSink struct {
	packets, bytes atomic.Uint64
}

// batchReader is what ipv4.PacketConn and ipv6.PacketConn have in common.
type batchReader interface {
	ReadBatch(messages []ipv4.Message, flags int) (int, error)
}

func newUDPSink(spec Spec) (end, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(spec.Address))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if err := forceReceiveBuffer(conn); err != nil {
		return nil, err
	}
	var reader batchReader = ipv4.NewPacketConn(conn)
	if spec.Address.Addr().Is6() {
		reader = ipv6.NewPacketConn(conn)
	}
	s := new(udpSink)
	go func() {
		messages := make([]ipv4.Message, readBatch)
		for i := range messages {
			messages[i].Buffers = [][]byte{make([]byte, 2048)}
		}
		for {
			n, err := reader.ReadBatch(messages, 0)
			if err != nil {
				continue // an ICMP error of an earlier flow
			}
			if s.packets.Load() == 0 && n > 0 {
				_, _ = conn.WriteTo([]byte{0}, messages[0].Addr)
			}
			size := 0
			for i := range n {
				size += messages[i].N
			}
			s.packets.Add(uint64(n))
			s.bytes.Add(uint64(size))
		}
	}()
	return s, nil
}

// forceReceiveBuffer goes beyond net.core.rmem_max, which differs between hosts.
func forceReceiveBuffer(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("set receive buffer: %w", err)
	}
	return nil
}

func (s *udpSink) sample() Sample {
	return Sample{Packets: s.packets.Load(), Bytes: s.bytes.Load()}
}

type udpSource struct {
	packets, errors atomic.Uint64
	payload         int
}

func newUDPSource(spec Spec) (end, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(spec.Address))
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s := &udpSource{payload: spec.Payload}
	data := make([]byte, spec.Payload)
	send := func() {
		if _, err := conn.Write(data); err != nil {
			s.errors.Add(1)
			return
		}
		s.packets.Add(1)
	}
	if spec.Rate == 0 {
		go func() {
			for {
				send()
			}
		}()
		return s, nil
	}
	go func() {
		began := time.Now()
		sent := 0
		for range time.Tick(time.Millisecond) {
			due := int(time.Since(began).Seconds() * float64(spec.Rate))
			// After a long wait for the CPU the rest is forgone: no burst.
			sent = max(sent, due-spec.Rate/20)
			for ; sent < due; sent++ {
				send()
			}
		}
	}()
	return s, nil
}

func (s *udpSource) sample() Sample {
	packets := s.packets.Load()
	return Sample{Packets: packets, Bytes: packets * uint64(s.payload), Errors: s.errors.Load()}
}
