package llama

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/gomlx/compute/dtypes/bfloat16"
	"github.com/gomlx/compute/dtypes/float16"
)

// DType is how the numbers of a file are stored.
type DType string

// The types. Matrices have them; vectors (norm gains) too, but for Q8_0 and GGUF's, which keep vectors in F32.
const (
	F32  DType = "fp32"
	F16  DType = "fp16"
	BF16 DType = "bf16"
	// Q8_0 is GGUF's: blocks of 32 numbers, each an int8 times the block's float16 scale.
	Q8_0 DType = "q8_0"
)

// Bounds are what receipts keep at each type. That of float32 is rounding; the others are about four times what the quickstart
// model shows (docs/export.md), whose logits have a standard deviation of 2.5.
var Bounds = map[DType]Bound{
	F32:  {MaxError: 1e-4, MeanError: 1e-5, Top1: 0.999},
	F16:  {MaxError: 0.05, MeanError: 0.003, Top1: 0.995},
	BF16: {MaxError: 0.5, MeanError: 0.02, Top1: 0.98},
	Q8_0: {MaxError: 0.7, MeanError: 0.06, Top1: 0.97},
}

// Append appends values in their stored form, little-endian, rounded to nearest. Q8_0 wants a multiple of 32.
func (d DType) Append(dst []byte, values []float32) []byte {
	switch d {
	case F32:
		for _, v := range values {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		}
	case F16:
		for _, v := range values {
			dst = binary.LittleEndian.AppendUint16(dst, float16.FromFloat32(v).Bits())
		}
	case BF16:
		for _, v := range values {
			dst = binary.LittleEndian.AppendUint16(dst, bfloat16.FromFloat32(v).Bits())
		}
	case Q8_0:
		for ; len(values) > 0; values = values[q8Block:] {
			dst = appendQ8(dst, values[:q8Block])
		}
	}
	return dst
}

// Bytes is the size of n values.
func (d DType) Bytes(n int) int {
	switch d {
	case F32:
		return 4 * n
	case Q8_0:
		return n / q8Block * q8Bytes
	default:
		return 2 * n
	}
}

// Read returns the values of their stored form.
func (d DType) Read(data []byte) ([]float32, error) {
	var out []float32
	switch d {
	case F32:
		out = make([]float32, len(data)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
	case F16:
		out = make([]float32, len(data)/2)
		for i := range out {
			out[i] = float16.FromBits(binary.LittleEndian.Uint16(data[2*i:])).Float32()
		}
	case BF16:
		out = make([]float32, len(data)/2)
		for i := range out {
			out[i] = bfloat16.FromBits(binary.LittleEndian.Uint16(data[2*i:])).Float32()
		}
	case Q8_0:
		out = make([]float32, 0, len(data)/q8Bytes*q8Block)
		for ; len(data) >= q8Bytes; data = data[q8Bytes:] {
			scale := float16.FromBits(binary.LittleEndian.Uint16(data)).Float32()
			for _, b := range data[2:q8Bytes] {
				out = append(out, scale*float32(int8(b)))
			}
		}
	default:
		return nil, fmt.Errorf("numbers of type %s cannot be read", d)
	}
	return out, nil
}

const q8Block, q8Bytes = 32, 2 + 32

// appendQ8 appends one block as ggml's quantize_row_q8_0_ref does: scale is the largest magnitude over 127, numbers are
// divided by it in float32 and rounded half away from zero.
func appendQ8(dst []byte, block []float32) []byte {
	most := float32(0)
	for _, v := range block {
		most = max(most, float32(math.Abs(float64(v))))
	}
	scale, inverse := most/127, float32(0)
	if scale != 0 {
		inverse = 1 / scale
	}
	dst = binary.LittleEndian.AppendUint16(dst, float16.FromFloat32(scale).Bits())
	for _, v := range block {
		dst = append(dst, byte(int8(math.Round(float64(v*inverse)))))
	}
	return dst
}
