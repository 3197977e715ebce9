// Package goldenfile reads the golden tensors of bench/golden for tests.
package goldenfile

import (
	"encoding/binary"
	"math"
	"os"
	"testing"

	"pretrain/internal/safetensors"
)

// File is one golden file: its metadata's "config" and its tensors by name, flat.
type File struct {
	Config string
	F32    map[string][]float32
	I32    map[string][]int32
	Shape  map[string][]int
}

// Load reads a golden file or fails the test.
func Load(t testing.TB, path string) File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := safetensors.NewReader(f, info.Size())
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	file := File{Config: r.Metadata()["config"], F32: map[string][]float32{}, I32: map[string][]int32{}, Shape: map[string][]int{}}
	for _, e := range r.Entries() {
		data, err := r.ReadTensor(e.Name)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		file.Shape[e.Name] = e.Shape
		for i := 0; i+4 <= len(data); i += 4 {
			bits := binary.LittleEndian.Uint32(data[i:])
			if e.DType == safetensors.F32 {
				file.F32[e.Name] = append(file.F32[e.Name], math.Float32frombits(bits))
			} else {
				file.I32[e.Name] = append(file.I32[e.Name], int32(bits))
			}
		}
	}
	return file
}

// Distance is the largest difference of two tensors as a share of want's largest element, infinite if their sizes differ.
func Distance(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, size float64
	for i := range want {
		diff = max(diff, math.Abs(float64(got[i])-float64(want[i])))
		size = max(size, math.Abs(float64(want[i])))
	}
	if diff == 0 {
		return 0
	}
	return diff / size
}
