// SPDX-License-Identifier: Apache-2.0

package load

import (
	"slices"
	"time"
)

// quantiles sorts its argument.
func quantiles(trips []uint32) RTT {
	slices.Sort(trips)
	at := func(q float64) time.Duration {
		if len(trips) == 0 {
			return 0
		}
		return time.Duration(trips[rank(len(trips), q)])
	}
	return RTT{Count: len(trips), P50: at(0.5), P99: at(0.99), P999: at(0.999)}
}

// rank is the index of quantile q among n > 0 sorted values: the smallest
// value that at least q of all are not above (nearest rank).
func rank(n int, q float64) int {
	i := int(q * float64(n))
	if float64(i) == q*float64(n) && i > 0 {
		i--
	}
	return min(i, n-1)
}
