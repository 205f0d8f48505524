// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func lines(base unsafe.Pointer, offsets *uint64, n int)
TEXT ·lines(SB), NOSPLIT, $0-24
	MOVQ base+0(FP), AX
	MOVQ offsets+8(FP), SI
	MOVQ n+16(FP), CX

next:
	MOVQ       (SI), DX
	PREFETCHT0 (AX)(DX*1)
	ADDQ       $8, SI
	DECQ       CX
	JNZ        next
	RET
