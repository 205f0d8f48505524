// SPDX-License-Identifier: Apache-2.0

//go:build amd64 || arm64

package prefetch

import "unsafe"

// lines is Lines of at least one offset.
//
//go:noescape
func lines(base unsafe.Pointer, offsets *uint64, n int)
