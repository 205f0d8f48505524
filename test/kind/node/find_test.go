// SPDX-License-Identifier: Apache-2.0

package node

import (
	"slices"
	"testing"
)

func TestPidsOf(t *testing.T) {
	for text, want := range map[string][]int{
		"Name:\tx\nNSpid:\t4711\t12\t1\nNSpgid:\t1\n": {4711, 12, 1},
		"NSpid:\t4711\n": {4711},
		"NSpid:\tx\n":    nil,
		"Name:\tx\n":     nil,
	} {
		if got := pidsOf([]byte(text)); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
