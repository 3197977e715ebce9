package main

import (
	"fmt"
	"math"
	"strings"

	"pretrain/internal/units"
	"pretrain/train/scaling"
)

// runConfig is the configuration of a planned run.
func runConfig(p *scaling.Plan, o scalingPlanOptions) string {
	m := p.Model
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by pretrain scaling plan: %d %s, %.4g days, MFU %.3g. `pretrain plan --config FILE` says what it will take.", p.GPUs, o.gpu, p.Days, p.MFU)
	line("")
	line("name: plan-%s-%s", strings.ToLower(si(p.NonEmbedding)), strings.ToLower(si(int64(p.D))))
	line("")
	line("model:")
	if p.Preset != "" {
		line("  preset: %s", p.Preset)
	} else {
		line("  d_model: %d\n  d_ff: %d\n  num_layers: %d\n  num_heads: %d\n  num_kv_heads: %d\n  head_dim: %d", m.DModel, m.DFF, m.NumLayers, m.NumHeads, m.NumKVHeads, m.HeadDim)
	}
	line("  vocab_size: %d", m.VocabSize)
	line("  max_seq_len: %d", m.MaxSeqLen)
	line("")
	line("tokenizer:\n  path: tokenizer.json\n")
	line("data:\n  path: %q\n", o.data)
	line("batch:\n  tokens: %v\n  micro_batch: %d          # %d at once on each device\n", units.Tokens(p.BatchSize), p.Mesh.Data*p.Mesh.FSDP*p.MicroBatch, p.MicroBatch)
	line("schedule:\n  kind: wsd\n  peak_lr: 0.01          # MiniCPM's, of the width 256; mup makes this width's of it\n  warmup: %v", units.Tokens(whole(p.Warmup)))
	line("  decay: {length: %v, shape: 1-sqrt}\n", units.Tokens(whole(p.Decay)))
	line("optimizer:\n  kind: adamw\n")
	line("train:\n  tokens: %v\n  precision: bf16\n  remat: layer\n  mesh: {data: %d, fsdp: %d, tensor: %d}\n", units.Tokens(p.Steps*p.BatchSize), p.Mesh.Data, p.Mesh.FSDP, p.Mesh.Tensor)
	line("eval:\n  every: 1%%\n  tokens: 4Mtok\n")
	line("checkpoint:\n  every: 1000 steps\n  every_time: 1h\n  keep: 3\n  keep_every: %v # any of these can be branched into a decay of its own", units.Tokens(whole(p.D/20)))
	return b.String()
}

// whole rounds to three digits, for people.
func whole(x float64) int64 {
	if x < 1000 {
		return int64(math.Ceil(x))
	}
	scale := math.Pow(10, math.Floor(math.Log10(x))-2)
	return int64(math.Round(x/scale) * scale)
}
