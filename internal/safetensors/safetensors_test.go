package safetensors_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pretrain/internal/safetensors"
)

// counting returns n bytes that count up from start.
func counting(start int, n int64) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(start + i)
	}
	return data
}

func tensor(t testing.TB, name string, dtype safetensors.DType, start int, shape ...int) safetensors.Tensor {
	t.Helper()
	info := safetensors.Info{Name: name, DType: dtype, Shape: shape}
	n, err := info.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return safetensors.Tensor{Info: info, Data: bytes.NewReader(counting(start, n))}
}

// goldenTensors are those of testdata/make_golden.py.
func goldenTensors(t testing.TB) []safetensors.Tensor {
	return []safetensors.Tensor{
		tensor(t, "layers.0.w", safetensors.F32, 0, 2, 3),
		tensor(t, "layers.0.norm", safetensors.BF16, 17, 5),
		tensor(t, "half", safetensors.F16, 17*2, 3),
		tensor(t, "step", safetensors.I64, 17*3),
		tensor(t, "ids", safetensors.I32, 17*4, 2, 1),
		tensor(t, "seen", safetensors.U32, 17*5, 3),
		tensor(t, "bytes", safetensors.U8, 17*6, 7),
		tensor(t, "mask", safetensors.Bool, 17*7, 3),
		tensor(t, "exact", safetensors.F64, 17*8, 2),
		tensor(t, "empty", safetensors.F32, 17*9, 0, 4),
		tensor(t, "i8", safetensors.I8, 17*10, 1),
		tensor(t, "i16", safetensors.I16, 17*11, 1),
		tensor(t, "u16", safetensors.U16, 17*12, 1),
		tensor(t, "u64", safetensors.U64, 17*13, 1),
		tensor(t, `quote" é <&>`, safetensors.F32, 17*14, 1),
	}
}

func Example() {
	var file bytes.Buffer
	err := safetensors.Write(&file, map[string]string{"format": "pt"}, []safetensors.Tensor{{
		Info: safetensors.Info{Name: "step", DType: safetensors.U8, Shape: []int{2}},
		Data: bytes.NewReader([]byte{1, 2}),
	}})
	fmt.Println(err)
	r, err := safetensors.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
	fmt.Println(r.Entries()[0].Name, r.Metadata(), err)
	fmt.Println(r.ReadTensor("step"))
	// Output:
	// <nil>
	// step map[format:pt] <nil>
	// [1 2] <nil>
}

// Our file equals the reference implementation's byte for byte.
func TestWriteGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/golden.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := safetensors.Write(&got, map[string]string{"format": "pt"}, goldenTensors(t)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got:\n%q\nwant:\n%q", got.Bytes(), want)
	}
}

func TestReadGolden(t *testing.T) {
	f, err := os.Open("testdata/golden.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := safetensors.NewReader(f, stat.Size())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"format": "pt"}, r.Metadata()); diff != "" {
		t.Error(diff)
	}
	tensors := goldenTensors(t)
	if len(r.Entries()) != len(tensors) {
		t.Errorf("%d entries, want %d", len(r.Entries()), len(tensors))
	}
	for i, want := range tensors {
		e, ok := r.Lookup(want.Name)
		if !ok {
			t.Errorf("%s is missing", want.Name)
			continue
		}
		if e.DType != want.DType || fmt.Sprint(e.Shape) != fmt.Sprint(want.Shape) || e.Offset%int64(e.DType.Size()) != 0 {
			t.Errorf("%s: %+v", want.Name, e)
		}
		data, err := r.ReadTensor(want.Name)
		if err != nil || !bytes.Equal(data, counting(17*i, e.Size)) {
			t.Errorf("%s: data %v, error %v", want.Name, data, err)
		}
	}
	if _, err := r.ReadTensor("nothing"); err == nil {
		t.Error("a missing tensor was read")
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.String(), 0, 8, rapid.ID).Draw(t, "names")
		metadata := rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(t, "metadata")
		data := map[string][]byte{}
		infos := map[string]safetensors.Info{}
		var tensors []safetensors.Tensor
		for _, name := range names {
			info := safetensors.Info{
				Name:  name,
				DType: rapid.SampledFrom([]safetensors.DType{safetensors.Bool, safetensors.U8, safetensors.BF16, safetensors.F32, safetensors.I64}).Draw(t, "dtype"),
				Shape: rapid.SliceOfN(rapid.IntRange(0, 3), 0, 3).Draw(t, "shape"),
			}
			n, err := info.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			infos[name] = info
			data[name] = rapid.SliceOfN(rapid.Byte(), int(n), int(n)).Draw(t, "data")
			tensors = append(tensors, safetensors.Tensor{Info: info, Data: bytes.NewReader(data[name])})
		}
		var file bytes.Buffer
		if err := safetensors.Write(&file, metadata, tensors); err != nil {
			t.Fatal(err)
		}
		r, err := safetensors.NewReader(bytes.NewReader(file.Bytes()), int64(file.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Entries()) != len(names) || len(metadata) != len(r.Metadata()) {
			t.Fatalf("%d entries and %d metadata", len(r.Entries()), len(r.Metadata()))
		}
		for key, value := range metadata {
			if r.Metadata()[key] != value {
				t.Fatalf("metadata %q = %q, want %q", key, r.Metadata()[key], value)
			}
		}
		for _, e := range r.Entries() {
			got, err := r.ReadTensor(e.Name)
			if err != nil || !bytes.Equal(got, data[e.Name]) || !cmp.Equal(e.Info, infos[e.Name]) {
				t.Fatalf("%q: %v, %+v, data equal: %v", e.Name, err, e, bytes.Equal(got, data[e.Name]))
			}
		}
	})
}

func TestWriteRefuses(t *testing.T) {
	info := func(name string, dtype safetensors.DType, shape ...int) safetensors.Tensor {
		return safetensors.Tensor{Info: safetensors.Info{Name: name, DType: dtype, Shape: shape}, Data: bytes.NewReader(nil)}
	}
	for _, c := range []struct {
		tensors  []safetensors.Tensor
		metadata map[string]string
		want     string
	}{
		{[]safetensors.Tensor{info("a", "F8")}, nil, `tensor "a": dtype "F8" is not supported`},
		{[]safetensors.Tensor{info("a", safetensors.F32, -1)}, nil, "negative dimension"},
		{[]safetensors.Tensor{info("a", safetensors.F32, 1<<40, 1<<40)}, nil, "overflows"},
		{[]safetensors.Tensor{info("a", safetensors.F32, 0), info("a", safetensors.U8, 0)}, nil, "two tensors have this name"},
		{[]safetensors.Tensor{info("__metadata__", safetensors.F32, 0)}, nil, "reserved"},
		{[]safetensors.Tensor{info("\xff", safetensors.F32, 0)}, nil, "UTF-8"},
		{nil, map[string]string{"a": "\xff"}, "UTF-8"},
		{[]safetensors.Tensor{info("a", safetensors.F32, 2)}, nil, "F32 [2] is 8 bytes, but its data has 0"},
	} {
		if err := safetensors.Write(io.Discard, c.metadata, c.tensors); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error = %v, want %q", err, c.want)
		}
	}
}

// file makes a file of a header and n bytes of data.
func file(header string, n int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, n)...)
}

func TestReadRefuses(t *testing.T) {
	const a = `"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}`
	for _, c := range []struct {
		name, want string
		file       []byte
	}{
		{"empty", "too short", nil},
		{"huge header", "does not fit", append(bytes.Repeat([]byte{0xff}, 8), "{}"...)},
		{"header beyond the file", "does not fit", file("{}", 0)[:9]},
		{"not an object", "start with {", file("[]", 0)},
		{"no header", "start with {", file("", 0)},
		{"cut JSON", "EOF", file(`{"a":`, 0)},
		{"unclosed", "EOF", file(`{`+a, 2)},
		{"bytes after the JSON", "after the header's JSON", file(`{`+a+`} x`, 2)},
		{"bad UTF-8", "UTF-8", file("{\"\xff\":1}", 0)},
		{"number for a tensor", "cannot unmarshal", file(`{"a":1}`, 0)},
		{"metadata not strings", "__metadata__", file(`{"__metadata__":{"a":1}}`, 0)},
		{"metadata twice", "two __metadata__", file(`{"__metadata__":{},"__metadata__":{}}`, 0)},
		{"name twice", "two tensors", file(`{`+a+`,"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`, 4)},
		{"unknown dtype", `"F4"`, file(`{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}`, 1)},
		{"no shape", "no shape", file(`{"a":{"dtype":"U8","data_offsets":[0,1]}}`, 1)},
		{"one offset", "data_offsets", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1]}}`, 1)},
		{"offsets swapped", "data_offsets", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}}`, 1)},
		{"negative offset", "data_offsets", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}`, 1)},
		{"negative dimension", "negative", file(`{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}`, 1)},
		{"overflowing shape", "overflows", file(`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`, 0)},
		{"shape and span differ", "span", file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,2]}}`, 2)},
		{"hole", "hole or an overlap", file(`{`+a+`,"b":{"dtype":"U8","shape":[1],"data_offsets":[3,4]}}`, 4)},
		{"overlap", "hole or an overlap", file(`{`+a+`,"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2)},
		{"truncated data", "truncated", file(`{`+a+`}`, 1)},
		{"bytes after the data", "after the last tensor", file(`{`+a+`}`, 3)},
		{"end overflows", "hole", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[9223372036854775806,9223372036854775807]}}`, 1)},
		{"huge tensor", "truncated", file(`{"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}`, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := safetensors.NewReader(bytes.NewReader(c.file), int64(len(c.file)))
			if !errors.Is(err, safetensors.ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want %q", err, c.want)
			}
		})
	}
}

// A file cut after its header was read is an error of the read, not short data.
func TestReadCutLater(t *testing.T) {
	whole := file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2)
	r, err := safetensors.NewReader(bytes.NewReader(whole[:len(whole)-1]), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadTensor("a"); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error = %v", err)
	}
}

// A forged header length must not allocate.
func TestNoHugeAllocation(t *testing.T) {
	forged := binary.LittleEndian.AppendUint64(nil, 99_000_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := safetensors.NewReader(bytes.NewReader(forged), int64(len(forged)))
	runtime.ReadMemStats(&after)
	if err == nil || after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Errorf("%d bytes allocated, error %v", after.TotalAlloc-before.TotalAlloc, err)
	}
}

func FuzzReader(f *testing.F) {
	golden, err := os.ReadFile("testdata/golden.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2))
	f.Add(file(`{"__metadata__":{"k":"v"}} `, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := safetensors.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		// What is accepted can be read, and survives a rewrite.
		var tensors []safetensors.Tensor
		for _, e := range r.Entries() {
			content, err := r.ReadTensor(e.Name)
			if err != nil {
				t.Fatalf("%q: %v", e.Name, err)
			}
			tensors = append(tensors, safetensors.Tensor{Info: e.Info, Data: bytes.NewReader(content)})
		}
		var again bytes.Buffer
		if err := safetensors.Write(&again, r.Metadata(), tensors); err != nil {
			t.Fatal(err)
		}
		r2, err := safetensors.NewReader(bytes.NewReader(again.Bytes()), int64(again.Len()))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range r.Entries() {
			first, _ := r.ReadTensor(e.Name)
			second, err := r2.ReadTensor(e.Name)
			if err != nil || !bytes.Equal(first, second) {
				t.Fatalf("%q differs after a rewrite: %v", e.Name, err)
			}
		}
	})
}
