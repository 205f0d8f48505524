// SPDX-License-Identifier: Apache-2.0

package netioctl

import (
	"fmt"
	"strconv"
	"time"
)

// scaled gives two or three digits and a decimal prefix: 1.2 and G for 1,230,000,000.
func scaled(v float64) (string, string) {
	prefixes := [...]string{"", "k", "M", "G", "T", "P", "E"}
	i := 0
	for v >= 999.5 && i < len(prefixes)-1 {
		v /= 1000
		i++
	}
	if i == 0 || v >= 9.95 {
		return strconv.FormatFloat(v, 'f', 0, 64), prefixes[i]
	}
	return strconv.FormatFloat(v, 'f', 1, 64), prefixes[i]
}

// count shows a number: exact below 10,000, then 12k, 1.2M.
func count(n uint64) string {
	if n < 10_000 {
		return strconv.FormatUint(n, 10)
	}
	v, prefix := scaled(float64(n))
	return v + prefix
}

// size shows a number of bytes: 640 B, 1.2 GB.
func size(n uint64) string {
	v, prefix := scaled(float64(n))
	return v + " " + prefix + "B"
}

// bitRate shows bytes in a time as 1.2 Gbit/s.
func bitRate(bytes uint64, in time.Duration) string {
	v, prefix := scaled(float64(bytes) * 8 / in.Seconds())
	return v + " " + prefix + "bit/s"
}

// rate shows events in a time as 12k/s.
func rate(n uint64, in time.Duration) string {
	v, prefix := scaled(float64(n) / in.Seconds())
	return v + prefix + "/s"
}

// age shows a time span in the one or two units that matter: 12ms, 3s, 3m20s, 3h, 5d.
func age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Millisecond:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 10*time.Minute:
		return twoUnits(int(d.Minutes()), "m", int(d.Seconds())%60, "s")
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 10*time.Hour:
		return twoUnits(int(d.Hours()), "h", int(d.Minutes())%60, "m")
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours())/24)
}

func twoUnits(a int, unitA string, b int, unitB string) string {
	if b == 0 {
		return fmt.Sprintf("%d%s", a, unitA)
	}
	return fmt.Sprintf("%d%s%d%s", a, unitA, b, unitB)
}

// plural gives "1 packet", "2 packets", "12k packets".
func plural(n uint64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}

// percent gives part of whole, "0 %" of nothing.
func percent(part, whole uint64) string {
	if whole == 0 {
		return "0 %"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}
