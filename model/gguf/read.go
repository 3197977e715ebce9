package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"

	"pretrain/model/llama"
)

// Model is a GGUF file, open for reading. Close it.
type Model struct {
	*llama.Network
	file *os.File
}

// Close closes the file.
func (m *Model) Close() error { return m.file.Close() }

// Open reads metadata and the list of tensors; values are read when asked for. Read are files of plain llama with tensors of
// the types this package writes.
func Open(path string) (_ *Model, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
		}
	}()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n, err := read(f, stat.Size())
	if err != nil {
		return nil, err
	}
	return &Model{n, f}, nil
}

// maxCount bounds what a header may announce: lengths of strings and arrays, numbers of tensors.
const maxCount = 1 << 26

// read reads the header of a file of a given size.
func read(f io.ReaderAt, size int64) (*llama.Network, error) {
	d := &decoder{r: bufio.NewReader(io.NewSectionReader(f, 0, size)), left: size}
	if got := string(d.take(4)); d.err == nil && got != magic {
		return nil, fmt.Errorf("begins with %q: no GGUF file", got)
	}
	if v := d.uint32(); d.err == nil && v != version {
		return nil, fmt.Errorf("GGUF version %d; this program reads %d", v, version)
	}
	tensors, keys := d.count(), d.count()
	values := map[string]any{}
	for range keys {
		key := d.string()
		values[key] = d.value(d.uint32())
		if d.err != nil {
			return nil, d.err
		}
	}
	n := &llama.Network{Interleaved: true}
	if err := shape(n, values); err != nil {
		return nil, err
	}
	var list []entry
	for range tensors {
		list = append(list, d.entry())
		if d.err != nil {
			return nil, d.err
		}
	}
	start := (size - d.left + alignment - 1) / alignment * alignment
	for _, e := range list {
		bytes := int64(e.dtype.Bytes(e.Size()))
		if e.offset < 0 || e.offset%alignment != 0 || e.offset > size-bytes-start {
			return nil, fmt.Errorf("tensor %q: %d bytes at %d+%d are not within the file of %d", e.Name, bytes, start, e.offset, size)
		}
		t := llama.Tensor{Name: fromGGUF(e.Name), Shape: e.Shape, Values: func() ([]float32, error) {
			data := make([]byte, bytes)
			if _, err := f.ReadAt(data, start+e.offset); err != nil {
				return nil, fmt.Errorf("tensor %q: %w", e.Name, err)
			}
			return e.dtype.Read(data)
		}}
		if t.Name == "" {
			return nil, fmt.Errorf("tensor %q is none of plain llama's", e.Name)
		}
		n.Tensors = append(n.Tensors, t)
	}
	n.Tied = !slices.ContainsFunc(n.Tensors, func(t llama.Tensor) bool { return t.Name == llama.Output })
	return n, n.Check()
}

// shape takes the configuration from metadata.
func shape(n *llama.Network, values map[string]any) error {
	if arch := values["general.architecture"]; arch != "llama" {
		return fmt.Errorf("general.architecture is %v, want llama", arch)
	}
	var err error
	integer := func(key string, or int) int {
		switch v := values["llama."+key].(type) {
		case uint32:
			return int(v)
		case nil:
			if or > 0 {
				return or
			}
		}
		err = errors.Join(err, fmt.Errorf("llama.%s is %v, want a number", key, values["llama."+key]))
		return 1
	}
	number := func(key string, or float64) float64 {
		if v, ok := values["llama."+key].(float32); ok {
			return float64(v)
		}
		return or
	}
	tokens, _ := values["tokenizer.ggml.tokens"].(int)
	n.HiddenSize, n.IntermediateSize, n.NumLayers = integer("embedding_length", 0), integer("feed_forward_length", 0), integer("block_count", 0)
	n.NumHeads = integer("attention.head_count", 0)
	n.NumKVHeads = integer("attention.head_count_kv", n.NumHeads)
	n.HeadDim = integer("attention.key_length", n.HiddenSize/max(1, n.NumHeads))
	n.MaxPositions, n.VocabSize = integer("context_length", 0), integer("vocab_size", tokens)
	n.NormEps, n.RopeTheta, n.RopeFactor = number("attention.layer_norm_rms_epsilon", 1e-5), number("rope.freq_base", 10000), 1
	switch kind := values["llama.rope.scaling.type"]; kind {
	case nil, "none":
	case "linear":
		n.RopeFactor = number("rope.scaling.factor", 1)
	default:
		return fmt.Errorf("llama.rope.scaling.type is %v, want linear or none", kind)
	}
	if err == nil && (n.HiddenSize > maxCount || n.NumLayers > 1<<16 || n.NumHeads > 1<<16 || n.NumHeads%n.NumKVHeads != 0 || n.HeadDim%2 != 0) {
		err = fmt.Errorf("impossible shape: %+v", n.Config)
	}
	return err
}

// entry is a tensor in the list of a file.
type entry struct {
	llama.Tensor
	dtype  llama.DType
	offset int64
}

// decoder reads a header; after an error it reads nothing.
type decoder struct {
	r    *bufio.Reader
	left int64
	err  error
}

// take reads n bytes.
func (d *decoder) take(n int) []byte {
	if d.err == nil && int64(n) > d.left {
		d.err = fmt.Errorf("the header ends in the middle: %w", io.ErrUnexpectedEOF)
	}
	if d.err != nil {
		return make([]byte, min(n, 8))
	}
	b := make([]byte, n)
	_, d.err = io.ReadFull(d.r, b)
	d.left -= int64(n)
	return b
}

func (d *decoder) uint32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }

func (d *decoder) uint64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

// count reads a length, which must be one that a header can have.
func (d *decoder) count() int {
	n := d.uint64()
	if d.err == nil && n > maxCount {
		d.err = fmt.Errorf("the header announces %d of something: damaged", n)
	}
	if d.err != nil {
		return 0
	}
	return int(n)
}

func (d *decoder) string() string { return string(d.take(d.count())) }

// sizes of the scalar types, by number.
var sizes = map[uint32]int{0: 1, 1: 1, 2: 2, 3: 2, typeUint32: 4, typeInt32: 4, typeFloat32: 4, typeBool: 1, 10: 8, 11: 8, 12: 8}

// value reads a value: a uint32, float32 or string; of an array its length; of other types nothing.
func (d *decoder) value(kind uint32) any {
	switch size, scalar := sizes[kind]; {
	case kind == typeUint32:
		return d.uint32()
	case kind == typeFloat32:
		return math.Float32frombits(d.uint32())
	case kind == typeString:
		return d.string()
	case kind == typeArray:
		inner, n := d.uint32(), d.count()
		for range n {
			if d.err != nil {
				break
			}
			if inner == typeArray {
				d.err = errors.New("arrays of arrays are not read")
				break
			}
			d.value(inner)
		}
		return n
	case scalar:
		d.take(size)
	case d.err == nil:
		d.err = fmt.Errorf("metadata of the unknown type %d", kind)
	}
	return nil
}

func (d *decoder) entry() entry {
	e := entry{Tensor: llama.Tensor{Name: d.string()}}
	rank := d.uint32()
	if d.err == nil && rank > 4 {
		d.err = fmt.Errorf("tensor %q has %d dimensions", e.Name, rank)
	}
	if d.err != nil {
		return e
	}
	size := int64(1)
	for range rank {
		dim := d.uint64()
		if d.err == nil && (dim == 0 || dim > maxCount || size > math.MaxInt32*int64(64)/int64(dim)) {
			d.err = fmt.Errorf("tensor %q has a dimension of %d", e.Name, dim)
		}
		if d.err != nil {
			return e
		}
		size *= int64(dim)
		e.Shape = append(e.Shape, int(dim))
	}
	slices.Reverse(e.Shape)
	kind := d.uint32()
	for dtype, number := range ggmlTypes {
		if number == kind {
			e.dtype = dtype
		}
	}
	if d.err == nil && e.dtype == "" {
		d.err = fmt.Errorf("tensor %q is of ggml type %d, want F32, F16, BF16 or Q8_0", e.Name, kind)
	}
	if e.dtype == llama.Q8_0 && size%32 != 0 {
		d.err = fmt.Errorf("tensor %q: %d numbers are no blocks of 32", e.Name, size)
	}
	e.offset = int64(d.uint64())
	return e
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
