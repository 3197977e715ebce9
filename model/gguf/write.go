package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
	"pretrain/model/llama"
)

// Export is what is written besides the weights.
type Export struct {
	// DType of the matrices. Vectors are F32 always. A matrix whose rows are no multiple of 32 is F16 in a Q8_0 file.
	DType llama.DType
	// Name of the model.
	Name      string
	Tokenizer Tokenizer
	// Metadata is added under "pretrain.".
	Metadata map[string]string
}

// Tokenizer is a byte-level BPE as GGUF holds it.
type Tokenizer struct {
	// Tokens in GPT-2's byte alphabet; fewer than the model's vocabulary are filled up with unused ones.
	Tokens  []string
	Special []bool
	Merges  [][2]string
	// IgnoreMerges: a word that is a token as it stands is not built from merges.
	IgnoreMerges bool
	// BOS is put before every text by llama.cpp, EOS ends it, EndOfTurn (or -1) an answer.
	BOS, EOS  uint32
	EndOfTurn int64
	// ChatTemplate is Jinja, or "".
	ChatTemplate string
}

// Write writes the network to a file. Its scalings must be folded and its rotary pairs half a head apart.
func Write(path string, n *llama.Network, e Export) error {
	if n.MiniCPM || n.Interleaved {
		return errors.New("GGUF's llama has no scalings: fold them first")
	}
	if len(e.Tokenizer.Tokens) > n.VocabSize {
		return fmt.Errorf("the tokenizer has %d tokens, the model %d", len(e.Tokenizer.Tokens), n.VocabSize)
	}
	types := make([]llama.DType, len(n.Tensors))
	for i, t := range n.Tensors {
		types[i] = e.DType
		if len(t.Shape) == 1 {
			types[i] = llama.F32
		} else if e.DType == llama.Q8_0 && t.Shape[1]%32 != 0 {
			types[i] = llama.F16
		}
	}
	return atomicfile.WriteFile(vfs.OS, path, func(w io.Writer) error {
		head := header(n, e, types)
		if _, err := w.Write(head); err != nil {
			return err
		}
		for i, t := range n.Tensors {
			values, err := t.Values()
			if err != nil {
				return err
			}
			if llama.Turned(t.Name) {
				values = llama.Interleave(values, t.Shape, n.HeadDim)
			}
			if _, err := w.Write(padded(types[i].Append(make([]byte, 0, types[i].Bytes(len(values))+alignment), values))); err != nil {
				return err
			}
		}
		return nil
	})
}

// padded fills up to the alignment.
func padded(b []byte) []byte {
	return append(b, make([]byte, (alignment-len(b)%alignment)%alignment)...)
}

// header is all that stands before the weights.
func header(n *llama.Network, e Export, types []llama.DType) []byte {
	kv := keyValues{}
	kv.metadata(n, e)
	b := append([]byte(magic), le32(version)...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(n.Tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(kv.count))
	b = append(b, kv.bytes...)
	offset := uint64(0)
	for i, t := range n.Tensors {
		b = appendString(b, toGGUF(t.Name))
		b = append(b, le32(uint32(len(t.Shape)))...)
		for _, d := range slices.Backward(t.Shape) { // innermost first
			b = binary.LittleEndian.AppendUint64(b, uint64(d))
		}
		b = append(b, le32(ggmlTypes[types[i]])...)
		b = binary.LittleEndian.AppendUint64(b, offset)
		offset += uint64(types[i].Bytes(t.Size())+alignment-1) / alignment * alignment
	}
	return padded(b)
}

func (kv *keyValues) metadata(n *llama.Network, e Export) {
	kv.string("general.architecture", "llama")
	kv.string("general.name", e.Name)
	kv.uint32("general.alignment", alignment)
	kv.uint32("general.file_type", fileTypes[e.DType])
	if e.DType == llama.Q8_0 {
		kv.uint32("general.quantization_version", 2)
	}
	for _, v := range []struct {
		key   string
		value int
	}{
		{"vocab_size", n.VocabSize}, {"context_length", n.MaxPositions}, {"embedding_length", n.HiddenSize},
		{"block_count", n.NumLayers}, {"feed_forward_length", n.IntermediateSize}, {"attention.head_count", n.NumHeads},
		{"attention.head_count_kv", n.NumKVHeads}, {"attention.key_length", n.HeadDim}, {"attention.value_length", n.HeadDim},
		{"rope.dimension_count", n.HeadDim},
	} {
		kv.uint32("llama."+v.key, uint32(v.value))
	}
	kv.float32("llama.attention.layer_norm_rms_epsilon", n.NormEps)
	kv.float32("llama.rope.freq_base", n.RopeTheta)
	if n.RopeFactor != 1 {
		kv.string("llama.rope.scaling.type", "linear")
		kv.float32("llama.rope.scaling.factor", n.RopeFactor)
	}
	kv.tokenizer(e.Tokenizer, n.VocabSize)
	for _, key := range sortedKeys(e.Metadata) {
		kv.string("pretrain."+key, e.Metadata[key])
	}
}

func (kv *keyValues) tokenizer(t Tokenizer, vocab int) {
	tokens, kinds, merges := slices.Clone(t.Tokens), make([]int32, vocab), make([]string, len(t.Merges))
	for i := range kinds {
		kinds[i] = tokenNormal
		if i >= len(tokens) {
			tokens, kinds[i] = append(tokens, fmt.Sprintf("[PAD%d]", i)), tokenUnused
		} else if t.Special[i] {
			kinds[i] = tokenControl
		}
	}
	for i, m := range t.Merges {
		merges[i] = m[0] + " " + m[1]
	}
	// Both cut text by Llama 3's expression; "llama-bpe" ignores merges where a word is a token as it stands.
	pre := "smaug-bpe"
	if t.IgnoreMerges {
		pre = "llama-bpe"
	}
	kv.string("tokenizer.ggml.model", "gpt2")
	kv.string("tokenizer.ggml.pre", pre)
	kv.strings("tokenizer.ggml.tokens", tokens)
	kv.int32s("tokenizer.ggml.token_type", kinds)
	kv.strings("tokenizer.ggml.merges", merges)
	kv.uint32("tokenizer.ggml.bos_token_id", t.BOS)
	kv.uint32("tokenizer.ggml.eos_token_id", t.EOS)
	if t.EndOfTurn >= 0 {
		kv.uint32("tokenizer.ggml.eot_token_id", uint32(t.EndOfTurn))
	}
	kv.bool("tokenizer.ggml.add_bos_token", true)
	kv.bool("tokenizer.ggml.add_eos_token", false)
	if t.ChatTemplate != "" {
		kv.string("tokenizer.chat_template", t.ChatTemplate)
	}
}

// keyValues is metadata being written.
type keyValues struct {
	bytes []byte
	count int
}

func (kv *keyValues) key(key string, kind uint32) {
	kv.bytes = append(appendString(kv.bytes, key), le32(kind)...)
	kv.count++
}

func (kv *keyValues) string(key, v string) {
	kv.key(key, typeString)
	kv.bytes = appendString(kv.bytes, v)
}

func (kv *keyValues) uint32(key string, v uint32) {
	kv.key(key, typeUint32)
	kv.bytes = append(kv.bytes, le32(v)...)
}

func (kv *keyValues) float32(key string, v float64) {
	kv.key(key, typeFloat32)
	kv.bytes = append(kv.bytes, le32(math.Float32bits(float32(v)))...)
}

func (kv *keyValues) bool(key string, v bool) {
	kv.key(key, typeBool)
	b := byte(0)
	if v {
		b = 1
	}
	kv.bytes = append(kv.bytes, b)
}

func (kv *keyValues) array(key string, kind uint32, n int) {
	kv.key(key, typeArray)
	kv.bytes = binary.LittleEndian.AppendUint64(append(kv.bytes, le32(kind)...), uint64(n))
}

func (kv *keyValues) strings(key string, values []string) {
	kv.array(key, typeString, len(values))
	for _, v := range values {
		kv.bytes = appendString(kv.bytes, v)
	}
}

func (kv *keyValues) int32s(key string, values []int32) {
	kv.array(key, typeInt32, len(values))
	for _, v := range values {
		kv.bytes = append(kv.bytes, le32(uint32(v))...)
	}
}

func le32(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}
