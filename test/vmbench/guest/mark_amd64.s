// SPDX-License-Identifier: Apache-2.0

#include "textflag.h"

// NOPs that the plugin count.c knows.

// func markWindowBegin()
TEXT ·markWindowBegin(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x84; BYTE $0x00; LONG $0x4e450001
	RET

// func markWindowEnd()
TEXT ·markWindowEnd(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x84; BYTE $0x00; LONG $0x4e450002
	RET

// func markBatchBegin()
TEXT ·markBatchBegin(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x84; BYTE $0x00; LONG $0x4e450003
	RET

// func markBatchEnd()
TEXT ·markBatchEnd(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x84; BYTE $0x00; LONG $0x4e450004
	RET
