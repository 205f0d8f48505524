// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"math"
	"testing"
	"time"
)

func TestUnits(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0", 7: "7", 9_999: "9999", 10_000: "10k", 12_345: "12k", 999_499: "999k", 999_500: "1.0M", 1_234_567: "1.2M",
		9_949_999: "9.9M", 9_950_000: "10M", math.MaxUint64: "18E",
	} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1_000: "1.0 kB", 1_536: "1.5 kB", 61_234_567_890: "61 GB", math.MaxUint64: "18 EB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
	if got := bitRate(150_000_000, time.Second); got != "1.2 Gbit/s" {
		t.Errorf("bitRate = %q", got)
	}
	if got := rate(3_000, 2*time.Second); got != "1.5k/s" {
		t.Errorf("rate = %q", got)
	}
	for d, want := range map[time.Duration]string{
		-time.Hour: "0s", 0: "0s", 999 * time.Microsecond: "0s", time.Millisecond: "1ms", 999 * time.Millisecond: "999ms", time.Second: "1s",
		59 * time.Second: "59s", 3 * time.Minute: "3m", 200 * time.Second: "3m20s", 10*time.Minute + 59*time.Second: "10m",
		time.Hour: "1h", 3*time.Hour + 12*time.Minute: "3h12m", 11*time.Hour + 30*time.Minute: "11h", 47 * time.Hour: "47h", 50 * time.Hour: "2d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%v) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 packets", 1: "1 packet", 2: "2 packets"} {
		if got := plural(n, "packet"); got != want {
			t.Errorf("plural(%d) = %q, want %q", n, got, want)
		}
	}
	for _, c := range []struct {
		part, whole uint64
		want        string
	}{{0, 0, "0 %"}, {1, 2, "50 %"}, {1, 1000, "0 %"}} {
		if got := percent(c.part, c.whole); got != c.want {
			t.Errorf("percent(%d, %d) = %q, want %q", c.part, c.whole, got, c.want)
		}
	}
}

func TestParseProtocol(t *testing.T) {
	for in, want := range map[string]uint8{"tcp": 6, "UDP": 17, "47": 47, "icmpv6": 58, "255": 255} {
		if got, err := parseProtocol(in); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"", "0", "256", "-1", "tcp ", "quic"} {
		if got, err := parseProtocol(in); err == nil {
			t.Errorf("%q is %d", in, got)
		}
	}
}
