// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"netio.dev/netio/test/internal/netlab"
)

func TestMain(m *testing.M) {
	RunWorker()
	// Under the race detector each worker would sleep a second as it ends.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	os.Exit(m.Run())
}

func TestRank(t *testing.T) {
	for _, c := range []struct {
		n    int
		q    float64
		want int
	}{
		{1, 0.5, 0}, {1, 0.999, 0},
		{2, 0.5, 0}, {3, 0.5, 1}, {4, 0.5, 1},
		{100, 0.99, 98}, {101, 0.99, 99},
		{1000, 0.999, 998}, {1001, 0.999, 999}, {10, 0.999, 9},
	} {
		if got := rank(c.n, c.q); got != c.want {
			t.Errorf("rank(%d, %v) = %d, want %d", c.n, c.q, got, c.want)
		}
	}
}

// The definition itself, slowly: the smallest value with at least q of all at
// or below it.
func TestQuantilesAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		values := make([]uint32, 1+rng.IntN(3000))
		for i := range values {
			values[i] = rng.Uint32N(5000)
		}
		golden := func(q float64) time.Duration {
			best := uint32(math.MaxUint32)
			for _, v := range values {
				below := 0
				for _, w := range values {
					if w <= v {
						below++
					}
				}
				if float64(below) >= q*float64(len(values)) {
					best = min(best, v)
				}
			}
			return time.Duration(best)
		}
		if len(values) > 300 {
			values = values[:300]
		}
		want := RTT{Count: len(values), P50: golden(0.5), P99: golden(0.99), P999: golden(0.999)}
		if got := quantiles(slices.Clone(values)); got != want {
			t.Fatalf("quantiles of %d values: %+v, want %+v", len(values), got, want)
		}
	}
	if got := quantiles(nil); got != (RTT{}) {
		t.Errorf("quantiles of nothing: %+v", got)
	}
}

func TestPatternFindsMistakes(t *testing.T) {
	stream := slices.Concat(pattern, pattern, pattern)
	check := func(pieces ...[]byte) bool {
		ok, offset := true, 0
		for _, p := range pieces {
			ok = matches(p, &offset) && ok
		}
		return ok
	}
	if !check(stream[:1], stream[1:100000], stream[100000:]) {
		t.Error("the pattern in pieces does not match")
	}
	flipped := slices.Clone(stream)
	flipped[70000] ^= 1
	for name, pieces := range map[string][][]byte{
		"a flipped bit":     {flipped},
		"a segment lost":    {stream[:1448], stream[2*1448:]},
		"a segment doubled": {stream[:1448], stream[:1448], stream[1448:]},
		"segments swapped":  {stream[:1448], stream[2*1448 : 3*1448], stream[1448 : 2*1448]},
		"a page lost":       {stream[:4096], stream[2*4096:]},
		"64 KiB lost":       {stream[:1000], stream[1000+1<<16:]},
	} {
		if check(pieces...) {
			t.Errorf("%s: not seen", name)
		}
	}
}

func TestRate(t *testing.T) {
	a := Sample{At: time.Second, Packets: 10, Bytes: 1000}
	b := Sample{At: 3 * time.Second, Packets: 30, Bytes: 5000}
	if got, want := b.Since(a), (Rate{PacketsPerSecond: 10, BitsPerSecond: 16000}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := a.Since(a); got != (Rate{}) {
		t.Errorf("over no time: %+v", got)
	}
}

func namespace(t *testing.T) *netlab.Namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := netlab.New(fmt.Sprintf("load-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	return ns
}

func start(t *testing.T, ns *netlab.Namespace, spec Spec) *Worker {
	t.Helper()
	w, err := Start(ns, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// until samples w until it is satisfied; the test's own deadline bounds it.
func until(t *testing.T, w *Worker, satisfied func(Sample) bool) Sample {
	t.Helper()
	for {
		s, err := w.Sample()
		if err != nil {
			t.Fatal(err)
		}
		if satisfied(s) {
			return s
		}
	}
}

func TestWorkersOverLoopback(t *testing.T) {
	ns := namespace(t)
	for _, host := range []string{"127.0.0.1", "::1"} {
		address := netip.AddrPortFrom(netip.MustParseAddr(host), 20000)
		t.Run(host+" tcp", func(t *testing.T) {
			sink := start(t, ns, Spec{Role: TCPSink, Address: address, Check: true})
			source := start(t, ns, Spec{Role: TCPSource, Address: address, Streams: 3, Check: true})
			s := until(t, sink, func(s Sample) bool { return s.Open == 3 && s.Bytes > 10<<20 })
			if s.Errors != 0 || s.Ended != 0 {
				t.Errorf("sink: %+v", s)
			}
			if err := source.Stop(); err != nil {
				t.Error(err)
			}
			until(t, sink, func(s Sample) bool { return s.Ended == 3 && s.Open == 0 })
		})
		t.Run(host+" udp", func(t *testing.T) {
			sink := start(t, ns, Spec{Role: UDPSink, Address: address})
			start(t, ns, Spec{Role: UDPSource, Address: address, Payload: 36})
			s := until(t, sink, func(s Sample) bool { return s.Packets > 10000 })
			if s.Bytes != 36*s.Packets {
				t.Errorf("%d bytes in %d datagrams of 36", s.Bytes, s.Packets)
			}
		})
		t.Run(host+" round trips", func(t *testing.T) {
			start(t, ns, Spec{Role: Echo, Address: address})
			probe := start(t, ns, Spec{Role: Probe, Address: address, Payload: 36})
			count := 0
			s := until(t, probe, func(s Sample) bool { count += s.RTT.Count; return count >= 1000 })
			if s.Lost != 0 || s.Errors != 0 || s.Packets < 1000 {
				t.Errorf("probe: %+v", s)
			}
			if r := s.RTT; r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.P999 {
				t.Errorf("quantiles %+v", r)
			}
		})
	}
}

func TestStallIsSeen(t *testing.T) {
	ns := namespace(t)
	address := netip.MustParseAddrPort("127.0.0.1:20001")
	sink := start(t, ns, Spec{Role: TCPSink, Address: address})
	source := start(t, ns, Spec{Role: TCPSource, Address: address, Streams: 1})
	until(t, sink, func(s Sample) bool { return s.Bytes > 1<<20 })
	if err := source.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const stall = 50 * time.Millisecond
	until(t, sink, func(s Sample) bool { return s.Stall > stall })
	if err := source.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	before := until(t, sink, func(Sample) bool { return true })
	until(t, sink, func(s Sample) bool { return s.Bytes > before.Bytes })
}

func TestWorkerErrorsAreTold(t *testing.T) {
	ns := namespace(t)
	address := netip.MustParseAddrPort("127.0.0.1:20002") // nobody listens
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Role: TCPSource, Address: address, Streams: 1}, "connection refused"},
		{Spec{Role: TCPSink, Address: netip.MustParseAddrPort("192.0.2.1:1")}, "listen"},
		{Spec{Role: "nonsense"}, `unknown load "nonsense"`},
	} {
		w, err := Start(ns, c.spec)
		if err == nil {
			t.Errorf("%s: no error", c.spec.Role)
			_ = w.Stop()
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.spec.Role, err, c.want)
		}
	}
}
