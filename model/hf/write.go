// Package hf writes and reads models in Hugging Face's layout: safetensors, config.json, generation_config.json,
// tokenizer.json, tokenizer_config.json. Plain Llama loads without remote code; MiniCPM keeps its scalings and needs the
// remote code of OpenBMB's models (modeling_minicpm.py).
package hf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"

	"pretrain/internal/atomicfile"
	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/model/llama"
)

// MaxShard is the size above which the weights go into several files with an index: Hugging Face's own limit.
const MaxShard = 5 << 30

// Tokens are the special tokens that clients need to know.
type Tokens struct {
	// BOS stands before a text; EOS ends it. Names, and ids.
	BOS, EOS     string
	BOSID, EOSID uint32
	// EndOfTurn also ends an answer, where the chat template has such a token; "" else.
	EndOfTurn   string
	EndOfTurnID uint32
	// ChatTemplate is Jinja; "" where the model is none for chat.
	ChatTemplate string
}

// Export is what is written besides the weights.
type Export struct {
	DType         llama.DType
	Tokens        Tokens
	TokenizerJSON []byte
	// Card is README.md, the model card.
	Card []byte
	// Metadata goes into each safetensors file.
	Metadata map[string]string
	// MaxShard in bytes; 0 is [MaxShard].
	MaxShard int64
}

// Write writes the network into dir, which exists.
func Write(dir string, n *llama.Network, e Export) error {
	if e.DType == llama.Q8_0 {
		return fmt.Errorf("the layout of Hugging Face has no %s: use fp32, bf16 or fp16, or GGUF", e.DType)
	}
	if e.MaxShard == 0 {
		e.MaxShard = MaxShard
	}
	if err := writeWeights(dir, n, e); err != nil {
		return err
	}
	config := newConfig(n.Config, e)
	files := map[string]any{
		"config.json":            config,
		"generation_config.json": newGeneration(e.Tokens, n.MaxPositions),
		"tokenizer_config.json":  newTokenizerConfig(e.Tokens, n.MaxPositions),
	}
	for name, value := range files {
		if err := writeJSON(filepath.Join(dir, name), value); err != nil {
			return err
		}
	}
	for name, content := range map[string][]byte{"tokenizer.json": e.TokenizerJSON, "README.md": e.Card} {
		if err := writeBytes(filepath.Join(dir, name), content); err != nil {
			return err
		}
	}
	return nil
}

// index is model.safetensors.index.json.
type index struct {
	Metadata struct {
		TotalSize int64 `json:"total_size"`
	} `json:"metadata"`
	WeightMap map[string]string `json:"weight_map"`
}

const indexName = "model.safetensors.index.json"

func writeWeights(dir string, n *llama.Network, e Export) error {
	metadata := map[string]string{"format": "pt"} // transformers refuses files without it
	for k, v := range e.Metadata {
		metadata[k] = v
	}
	var shards [][]llama.Tensor
	size, total := int64(0), int64(0)
	for _, t := range n.Tensors {
		bytes := int64(e.DType.Bytes(t.Size()))
		if len(shards) == 0 || size+bytes > e.MaxShard {
			shards, size = append(shards, nil), 0
		}
		last := len(shards) - 1
		shards[last] = append(shards[last], t)
		size, total = size+bytes, total+bytes
	}
	ix := index{WeightMap: map[string]string{}}
	ix.Metadata.TotalSize = total
	for i, shard := range shards {
		name := "model.safetensors"
		if len(shards) > 1 {
			name = fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		}
		var out []safetensors.Tensor
		for _, t := range shard {
			ix.WeightMap[t.Name] = name
			out = append(out, safetensors.Tensor{
				Info: safetensors.Info{Name: t.Name, DType: dtypes[e.DType], Shape: t.Shape}, Data: stored{t, e.DType},
			})
		}
		err := atomicfile.WriteFile(vfs.OS, filepath.Join(dir, name), func(w io.Writer) error { return safetensors.Write(w, metadata, out) })
		if err != nil {
			return err
		}
	}
	if len(shards) > 1 {
		return writeJSON(filepath.Join(dir, indexName), ix)
	}
	return nil
}

var dtypes = map[llama.DType]safetensors.DType{llama.F32: safetensors.F32, llama.F16: safetensors.F16, llama.BF16: safetensors.BF16}

// stored writes a tensor's values when its turn comes.
type stored struct {
	llama.Tensor
	dtype llama.DType
}

func (s stored) WriteTo(w io.Writer) (int64, error) {
	values, err := s.Values()
	if err != nil {
		return 0, err
	}
	n, err := w.Write(s.dtype.Append(make([]byte, 0, s.dtype.Bytes(len(values))), values))
	return int64(n), err
}

func writeJSON(path string, value any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeBytes(path, text.Bytes())
}

func writeBytes(path string, content []byte) error {
	return atomicfile.Write(vfs.OS, path, content)
}
