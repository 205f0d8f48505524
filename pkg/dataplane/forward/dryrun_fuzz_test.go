// SPDX-License-Identifier: Apache-2.0

package forward

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"netio.dev/netio/pkg/dataplane/abi"
	dataplanev1 "netio.dev/netio/pkg/dataplane/api/v1"
	"netio.dev/netio/pkg/dataplane/forward/memdev"
	"netio.dev/netio/pkg/dataplane/packet"
)

// dryNet has something of everything, tunnels too, and room for few connections.
func dryNet(bits uint32) *dataplanev1.Snapshot {
	s := modelNet(bits &^ 1)
	tunnels(s)
	if s.Settings.Ipv4 == "" {
		s.Settings.Ipv6 = ""
	}
	s.Settings.MaxConnectionsPerPort = 3 + bits&15
	s.Routes = append(s.Routes, &dataplanev1.Route{Prefix: "10.3.0.0/16", Port: "a"})
	return s
}

// dryPackets are what the packets of a program are made of, and the ports that they
// come from.
func dryPackets() (list []received) {
	add := func(port uint32, s spec) {
		list = append(list, received{memdev.Rx{Port: port, Data: s.bytes(), Tune: s.tune}})
	}
	for _, ip := range [][4]string{{"10.0.0.1", "10.0.0.2", "198.51.100.7", "10.96.0.1"}, {"fd00::1", "fd00::2", "2001:db8::7", "fd00:96::1"}} {
		partial := func(s *spec) { s.partial = true }
		add(1, udp(ip[0], ip[1]))
		add(1, tcp(ip[0], ip[1], packet.TCPSyn).with(partial))
		add(1, tcp(ip[0], ip[3], packet.TCPSyn).with(partial))
		add(2, udp(ip[1], ip[3]).with(func(s *spec) { s.dport = 80 }))
		add(1, udp(ip[0], ip[2]))
		add(4, tcp(ip[2], ip[0], packet.TCPAck))
		add(1, echo(ip[0], ip[1], 7))
		add(1, udp(ip[0], ip[1]).with(func(s *spec) { s.size = 1500 }))
		add(1, udp(ip[0], ip[1]).with(func(s *spec) { s.mf, s.id, s.size = true, 7, 24 }))
		add(1, udp(ip[0], ip[1]).with(func(s *spec) { s.off, s.id, s.size = 32, 7, 24 }))
		add(1, spec{src: ip[0], dst: ip[1], proto: packet.ProtoSCTP, sport: 5, dport: 6, size: 12})
	}
	for _, node := range []string{"n2", "n3"} {
		here, there := ends(node)
		from, to := "10.1.0.5", "10.0.0.1"
		if node == "n3" {
			from, to = "fd00:2::5", "fd00::1"
		}
		add(4, inTunnel(there, here, tcp(from, to, packet.TCPSyn)))
		add(1, udp(to, from))
	}
	add(1, echo("10.0.0.1", "10.0.0.254", 3))
	return list
}

// dryBed is a bed of one lane or several.
type dryBed struct {
	apply   func(*dataplanev1.Snapshot)
	sleep   func(time.Duration)
	receive func(lane int, rx received) []memdev.Packet
}

func newDryBed(t *testing.T, lanes int) dryBed {
	if lanes == 1 {
		b := newBedOn(t, dryNet(0), memdev.Config{}, 24)
		return dryBed{func(s *dataplanev1.Snapshot) { b.apply(s) }, b.sleep, func(_ int, rx received) []memdev.Packet { return b.receive(rx) }}
	}
	b := newLaneBedOn(t, dryNet(0), memdev.Config{Nbufs: 1024, Lanes: uint32(lanes)}, Options{MaxConnections: 24 * lanes}, time.Hour)
	return dryBed{b.apply, b.sleep, func(lane int, rx received) []memdev.Packet {
		sent, _ := b.receive(lane, rx)
		return sent
	}}
}

// dryProgram carries out a program: packets with any of their bytes changed, answers
// to what has left, other configurations, and time. That what becomes of each is
// what a dry run has said is receive's to check.
func dryProgram(t *testing.T, lanes int, program []byte) {
	next := func() int {
		if len(program) == 0 {
			return 0
		}
		b := program[0]
		program = program[1:]
		return int(b)
	}
	b := newDryBed(t, lanes)
	templates := dryPackets()
	var past []received
	for len(program) > 0 {
		switch op := next() % 16; op {
		case 0:
			b.apply(dryNet(uint32(next()) | uint32(next())<<8 | uint32(next())<<16))
			continue
		case 1:
			b.sleep([]time.Duration{time.Second, 31 * time.Second, 2 * time.Hour}[next()%3])
			continue
		default:
			rx := templates[next()%len(templates)]
			if op > 8 && len(past) > 0 {
				rx = past[len(past)-1-next()%min(len(past), 6)]
			}
			data, tune := slices.Clone(rx.Data), rx.Tune
			for range max(next()%8-4, 0) { // mostly none
				data[next()%min(len(data), 96)] = byte(next())
			}
			if n := next(); n > 240 {
				data = data[:1+next()%len(data)]
			}
			kind, size := uint8(0), uint16(0)
			if next() > 230 {
				kind, size = uint8(next()%6), uint16(next())*8
			}
			rx.Rx = memdev.Rx{Port: rx.Port, Data: data, Tune: func(nb *abi.Nbuf) {
				if tune != nil {
					tune(nb)
				}
				if kind != 0 {
					nb.GSOType, nb.GSOSize = kind, size
				}
			}}
			if n := next(); n > 240 {
				rx.Port = uint32(1 + n%5)
			}
			for _, p := range b.receive(next()%lanes, rx) {
				past = append(past, rx, answerTo(p))
			}
		}
	}
}

// answerTo is the packet that answers one that has left, from where it went.
func answerTo(p memdev.Packet) received {
	data := slices.Clone(p.Data)
	var info packet.Info
	if packet.Parse(data, len(data), &info) == packet.OK && info.FragOff == 0 {
		rw := packet.NewRewrite(info.Tuple, info.Tuple.Reply())
		rw.Apply(data, &info, false)
	}
	return received{memdev.Rx{Port: p.Port, Data: data}}
}

// TestDryRun runs random programs.
func TestDryRun(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { dryProgram(t, 1+int(seed%3), randomProgram(seed, 1200)) })
	}
}

// FuzzDryRun lets the fuzzer write the programs.
func FuzzDryRun(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomProgram(seed, 200))
	}
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 3000 {
			return
		}
		dryProgram(t, 1+len(program)%2, program)
	})
}
