#include "textflag.h"

// func lowerAVX512(grams *uint64, n int, add, factor, lowest *uint64, passes int)
//
// Sixteen functions a pass, in two registers: lowest = min(lowest, factor·gram + add) for each of the n n-grams.
TEXT ·lowerAVX512(SB), NOSPLIT, $0-48
	MOVQ grams+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ add+16(FP), R8
	MOVQ factor+24(FP), R9
	MOVQ lowest+32(FP), R10
	MOVQ passes+40(FP), DX

pass:
	VMOVDQU64 (R8), Z1
	VMOVDQU64 64(R8), Z2
	VMOVDQU64 (R9), Z3
	VMOVDQU64 64(R9), Z4
	VMOVDQU64 (R10), Z5
	VMOVDQU64 64(R10), Z6
	MOVQ      SI, DI
	MOVQ      CX, BX

gram:
	VPBROADCASTQ (DI), Z0
	VPMULLQ      Z3, Z0, Z7
	VPMULLQ      Z4, Z0, Z8
	VPADDQ       Z1, Z7, Z7
	VPADDQ       Z2, Z8, Z8
	VPMINUQ      Z7, Z5, Z5
	VPMINUQ      Z8, Z6, Z6
	ADDQ         $8, DI
	DECQ         BX
	JNZ          gram

	VMOVDQU64 Z5, (R10)
	VMOVDQU64 Z6, 64(R10)
	ADDQ      $128, R8
	ADDQ      $128, R9
	ADDQ      $128, R10
	DECQ      DX
	JNZ       pass
	VZEROUPPER
	RET
