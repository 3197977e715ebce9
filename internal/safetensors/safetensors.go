// Package safetensors reads and writes the safetensors format of Hugging Face: eight bytes of
// little-endian header length, a JSON header, then the tensors' bytes (little-endian, row-major) without holes.
//
// [Write] orders tensors as the reference implementation does, so equal tensors and metadata give equal bytes,
// and each tensor starts at a multiple of its element size. [NewReader] trusts nothing: a file it
// accepts has all its tensors inside the file, not overlapping, with sizes that match their shapes.
package safetensors

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// DType names an element type as the header spells it.
type DType string

// The element types supported: those that model weights, optimizer state and counters use.
const (
	Bool DType = "BOOL"
	U8   DType = "U8"
	I8   DType = "I8"
	I16  DType = "I16"
	U16  DType = "U16"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I32  DType = "I32"
	U32  DType = "U32"
	F32  DType = "F32"
	F64  DType = "F64"
	I64  DType = "I64"
	U64  DType = "U64"
)

// dtypes lists the supported types in the order of the reference implementation's enumeration. Files hold
// tensors in the reverse of it, that is, largest elements first: so every tensor is aligned.
var dtypes = []DType{Bool, U8, I8, I16, U16, F16, BF16, I32, U32, F32, F64, I64, U64}

// Size returns the bytes of one element, or 0 for a type this package does not support.
func (d DType) Size() int {
	switch d {
	case Bool, U8, I8:
		return 1
	case I16, U16, F16, BF16:
		return 2
	case I32, U32, F32:
		return 4
	case F64, I64, U64:
		return 8
	}
	return 0
}

// Info describes a tensor without its data. A scalar has an empty Shape.
type Info struct {
	Name  string
	DType DType
	Shape []int
}

// Bytes returns the size of the tensor's data. It fails on an unsupported dtype, a negative
// dimension and a size that overflows.
func (i Info) Bytes() (int64, error) {
	size := int64(i.DType.Size())
	if size == 0 {
		return 0, fmt.Errorf("tensor %q: dtype %q is not supported; supported are %s", i.Name, i.DType, joined(dtypes))
	}
	for _, dim := range i.Shape {
		if dim < 0 {
			return 0, fmt.Errorf("tensor %q: shape %v has a negative dimension", i.Name, i.Shape)
		}
		if dim > 0 && size > math.MaxInt64/int64(dim) {
			return 0, fmt.Errorf("tensor %q: shape %v overflows", i.Name, i.Shape)
		}
		size *= int64(dim)
	}
	return size, nil
}

func joined(types []DType) string {
	names := make([]string, len(types))
	for i, d := range types {
		names[i] = string(d)
	}
	return strings.Join(names, ", ")
}

// before says whether a's data precedes b's in a file.
func before(a, b Info) int {
	if c := slices.Index(dtypes, b.DType) - slices.Index(dtypes, a.DType); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}
