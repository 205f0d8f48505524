// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"os/exec"
	"regexp"
	"testing"
)

// onPath is everything that forwarding does to a packet.
func onPath() map[string]func() {
	tcp4 := spec{src: a4, dst: b4, proto: ProtoTCP, sport: 1, dport: 2, flags: TCPAck, payload: make([]byte, 1400)}.bytes()
	tcp6 := spec{src: a6, dst: b6, proto: ProtoTCP, sport: 1, dport: 2, flags: TCPAck, payload: make([]byte, 1400)}.bytes()
	udp4 := spec{src: a4, dst: b4, proto: ProtoUDP, sport: 1, dport: 2, payload: make([]byte, 22)}.bytes()
	sctp := spec{src: a4, dst: b4, proto: ProtoSCTP, sport: 1, dport: 2, payload: make([]byte, 1400)}.bytes()
	echo := spec{src: a4, dst: b4, proto: ProtoICMP, sport: 1, dport: 8 << 8, payload: make([]byte, 56)}.bytes()
	gone := errorAbout("198.51.100.1", tcp4, 28).bytes()
	parse := func(b []byte) *Info {
		info := new(Info)
		if r := Parse(b, len(b), info); r != OK {
			panic(r)
		}
		return info
	}
	rewrite := func(b []byte) func() {
		info := parse(b)
		there, back := info.Tuple, info.Tuple
		there.Src, there.SrcPort = there.Dst, 12345
		rw, wr := NewRewrite(back, there), NewRewrite(there, back)
		flip := false
		return func() {
			if flip = !flip; flip {
				rw.Apply(b, info, false)
			} else {
				wr.Apply(b, info, false)
			}
		}
	}
	i4, i6, iu, ie, ig := parse(tcp4), parse(tcp6), parse(udp4), parse(echo), parse(gone)
	out := make([]byte, ErrorMaxLen6)
	info := new(Info)
	inner := new(Inner)
	scratch := new([60]byte)
	emit := func(h, d []byte) {}
	clone := append([]byte(nil), tcp4...)
	gone2 := append([]byte(nil), gone...)
	return map[string]func(){
		"Nothing":      func() {},
		"Parse/tcp4":   func() { Parse(tcp4, len(tcp4), info) },
		"Parse/tcp6":   func() { Parse(tcp6, len(tcp6), info) },
		"Parse/udp4":   func() { Parse(udp4, len(udp4), info) },
		"Parse/echo4":  func() { Parse(echo, len(echo), info) },
		"ParseInner":   func() { ParseInner(gone, ig, inner) },
		"Rewrite/tcp4": rewrite(append([]byte(nil), tcp4...)),
		"Rewrite/tcp6": rewrite(append([]byte(nil), tcp6...)),
		"Rewrite/udp4": rewrite(append([]byte(nil), udp4...)),
		"Rewrite/sctp": rewrite(append([]byte(nil), sctp...)),
		"NewRewrite":   func() { rw := NewRewrite(i6.Tuple, i6.Tuple); _ = rw },
		"RewriteError": func() {
			ParseInner(gone2, ig, inner)
			RewriteError(gone2, ig, inner, ig.Src, ig.Dst, inner.Tuple, false)
		},
		"DecTTL":            func() { DecTTL(clone, i4) },
		"Checksum/1460":     func() { Checksum(tcp6, 0) },
		"L4Checksum/1460":   func() { L4Checksum(tcp6, i6) },
		"BuildError/parked": func() { BuildError(out, TimeExceeded, tcp6[:128], i6, i6.Dst, 0) },
		"BuildReset":        func() { BuildReset(out, tcp4, i4) },
		"EchoReply":         func() { i := *ie; EchoReply(echo, &i, false); echo[20] = 8 },
		"FragmentIPv4":      func() { FragmentIPv4(tcp4, i4, 576, scratch, emit) },
		"SetDSCP":           func() { SetDSCP(udp4, iu, 46) },
		"Tuple.Reply":       func() { i4.Tuple = i4.Tuple.Reply() },
	}
}

func BenchmarkPath(b *testing.B) {
	for name, f := range onPath() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
}

func TestNothingAllocates(t *testing.T) {
	for name, f := range onPath() {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestInlining fails when a function that has to be inlined into the
// forwarding loop no longer can be.
func TestInlining(t *testing.T) {
	out, err := exec.Command("go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Skipf("no compiler to ask: %v", err)
	}
	for _, name := range []string{
		"DecTTL", `\(\*Info\)\.IsPartial`, `\(\*Info\)\.PayloadLen`, "AddrFrom", "Addr4", `Addr\.Is4`, `Addr\.V4`,
		`Addr\.IsMulticast`, `Addr\.IsLinkLocal`, "HasPorts", "adjust", "addSum", "Fold", "addr16", `Addr\.put16`, "TCPSeq", "TCPAckNo",
	} {
		if !regexp.MustCompile(`can inline ` + name + `\b`).Match(out) {
			t.Errorf("%s is not inlined", name)
		}
	}
}
