// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// func lines(base unsafe.Pointer, offsets *uint64, n int)
TEXT ·lines(SB), NOSPLIT, $0-24
	MOVD base+0(FP), R0
	MOVD offsets+8(FP), R1
	MOVD n+16(FP), R2

next:
	MOVD.P 8(R1), R3
	ADD    R0, R3
	PRFM   (R3), PLDL1KEEP
	SUBS   $1, R2
	BNE    next
	RET
