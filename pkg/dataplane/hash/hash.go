// SPDX-License-Identifier: Apache-2.0

// Package hash has small hash functions of words. They have no secret: who can choose
// the words can choose the hash.
package hash

import "math/bits"

// Mix joins two words.
func Mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd6e8feb86659fd93)
	return hi ^ lo
}

// Scramble makes neighbours independent (the finalizer of SplitMix64).
func Scramble(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
