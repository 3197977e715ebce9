// Package gguf writes and reads models in GGUF, the format of llama.cpp, as plain llama: MiniCPM's scalings folded, rotary
// pairs interleaved, and the tokenizer inside. (github.com/ggml-org/ggml, docs/gguf.md, version 3.)
package gguf

import (
	"fmt"
	"strings"

	"pretrain/model/llama"
)

const (
	magic     = "GGUF"
	version   = 3
	alignment = 32
)

// The types of metadata values.
const (
	typeUint32  = 4
	typeInt32   = 5
	typeFloat32 = 6
	typeBool    = 7
	typeString  = 8
	typeArray   = 9
)

// ggmlTypes are the numbers that ggml gives the types of tensors; fileTypes those that llama.cpp gives whole files.
var (
	ggmlTypes = map[llama.DType]uint32{llama.F32: 0, llama.F16: 1, llama.Q8_0: 8, llama.BF16: 30}
	fileTypes = map[llama.DType]uint32{llama.F32: 0, llama.F16: 1, llama.Q8_0: 7, llama.BF16: 32}
)

// The kinds of tokens (llama.h, llama_token_type).
const (
	tokenNormal  = 1
	tokenControl = 3
	tokenUnused  = 5
)

// names are the tensors of a layer, Hugging Face's and GGUF's.
var names = map[string]string{
	"input_layernorm.weight":          "attn_norm.weight",
	"self_attn.q_proj.weight":         "attn_q.weight",
	"self_attn.k_proj.weight":         "attn_k.weight",
	"self_attn.v_proj.weight":         "attn_v.weight",
	"self_attn.o_proj.weight":         "attn_output.weight",
	"post_attention_layernorm.weight": "ffn_norm.weight",
	"mlp.gate_proj.weight":            "ffn_gate.weight",
	"mlp.up_proj.weight":              "ffn_up.weight",
	"mlp.down_proj.weight":            "ffn_down.weight",
	llama.Embedding:                   "token_embd.weight",
	llama.FinalNorm:                   "output_norm.weight",
	llama.Output:                      "output.weight",
}

// toGGUF is GGUF's name of a tensor.
func toGGUF(name string) string {
	var layer int
	if n, _ := fmt.Sscanf(name, "model.layers.%d.", &layer); n == 1 {
		_, rest, _ := strings.Cut(strings.TrimPrefix(name, "model.layers."), ".")
		return fmt.Sprintf("blk.%d.%s", layer, names[rest])
	}
	return names[name]
}

// fromGGUF is Hugging Face's name of a tensor; "" where it has none.
func fromGGUF(name string) string {
	var layer int
	prefix := ""
	if n, _ := fmt.Sscanf(name, "blk.%d.", &layer); n == 1 {
		_, name, _ = strings.Cut(strings.TrimPrefix(name, "blk."), ".")
		prefix = llama.LayerName(layer, "")
	}
	for theirs, ours := range names {
		if ours == name {
			return prefix + theirs
		}
	}
	return ""
}
