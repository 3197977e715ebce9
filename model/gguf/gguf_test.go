package gguf

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"
	"pretrain/model/llama"
)

func network(t testing.TB, scaling float64) *llama.Network {
	t.Helper()
	c := model.Config{VocabSize: 9, DModel: 32, DFF: 40, NumLayers: 2, NumHeads: 2, NumKVHeads: 1, HeadDim: 8, MaxSeqLen: 64, DimModelBase: 8, RopeScaling: scaling}.Resolve()
	n, err := llama.FromModel(c, func(name string) ([]float32, error) {
		i := slices.IndexFunc(c.Params(), func(p model.Param) bool { return p.Name == name })
		return backendtest.Normal(uint64(i), int(c.Params()[i].Size())), nil
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func export(dtype llama.DType) Export {
	return Export{DType: dtype, Name: "tiny", Metadata: map[string]string{"step": "3"}, Tokenizer: Tokenizer{
		Tokens: []string{"</s>", "a", "b", "ab"}, Special: []bool{true, false, false, false}, Merges: [][2]string{{"a", "b"}}, EndOfTurn: -1, ChatTemplate: "x",
	}}
}

// TestRoundTrip: what is written is read back, every number rounded once, queries and keys interleaved.
func TestRoundTrip(t *testing.T) {
	for _, dtype := range []llama.DType{llama.F32, llama.F16, llama.BF16, llama.Q8_0} {
		for _, scaling := range []float64{1, 2} {
			n, path := network(t, scaling), filepath.Join(t.TempDir(), "m.gguf")
			if err := Write(path, n, export(dtype)); err != nil {
				t.Fatal(err)
			}
			m, err := Open(path)
			if err != nil {
				t.Fatalf("%s: %v", dtype, err)
			}
			want := n.Config
			want.InitStd, want.NormEps = 0, float64(float32(want.NormEps)) // not in the file; float32 there
			if m.Config != want || !m.Interleaved {
				t.Errorf("read back as\n%+v, want\n%+v", m.Config, want)
			}
			for _, tensor := range n.Tensors {
				got, err := m.Lookup(tensor.Name)
				if err != nil {
					t.Fatal(err)
				}
				values, _ := tensor.Values()
				if llama.Turned(tensor.Name) {
					values = llama.Interleave(values, tensor.Shape, n.HeadDim)
				}
				stored := dtype
				if len(tensor.Shape) == 1 {
					stored = llama.F32
				} else if dtype == llama.Q8_0 && tensor.Shape[1]%32 != 0 {
					stored = llama.F16
				}
				rounded, _ := stored.Read(stored.Append(nil, values))
				if read, err := got.Values(); err != nil || !slices.Equal(read, rounded) {
					t.Errorf("%s %s: read back other numbers (%v)", dtype, tensor.Name, err)
				}
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestWriteErrors(t *testing.T) {
	n := network(t, 1)
	n.VocabSize = 3
	if Write(filepath.Join(t.TempDir(), "m"), n, export(llama.F32)) == nil {
		t.Error("more tokens than the model has rows")
	}
	n = network(t, 1)
	n.MiniCPM = true
	if Write(filepath.Join(t.TempDir(), "m"), n, export(llama.F32)) == nil {
		t.Error("scalings that are not folded")
	}
}

// FuzzRead: no file crashes the reader; what it accepts has all tensors within the file.
func FuzzRead(f *testing.F) {
	path := filepath.Join(f.TempDir(), "m.gguf")
	if err := Write(path, network(f, 1), export(llama.Q8_0)); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	for _, n := range []int{0, 4, 8, 24, 100, 700, len(whole) / 2, len(whole) - 1} {
		f.Add(whole[:n])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for _, tensor := range n.Tensors {
			if _, err := tensor.Values(); err != nil {
				t.Errorf("%s was accepted and cannot be read: %v", tensor.Name, err)
			}
		}
	})
}
