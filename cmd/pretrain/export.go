package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"pretrain/data/pack"
	"pretrain/internal/atomicfile"
	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/model/gguf"
	"pretrain/model/hf"
	"pretrain/model/llama"
	"pretrain/tokenizer"
	"pretrain/train/metrics"

	"github.com/spf13/cobra"
)

// exportOptions are the flags of pretrain export.
type exportOptions struct {
	modelFlags
	format, dtype, out, template string
	reference                    string
	data                         []string
	asJSON                       bool
}

// The formats of pretrain export.
const (
	formatLlama   = "hf-llama"
	formatMiniCPM = "hf-minicpm"
	formatGGUF    = "gguf"
)

func newExport(stdout, stderr io.Writer) *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use: "export --checkpoint RUN --format FORMAT --out DIR", Short: "Write a model for other programs: Hugging Face or GGUF, with a proof", Args: noArgs,
		Long: `Write a trained model for other programs.

  hf-llama     safetensors and config.json of LlamaForCausalLM. MiniCPM's scalings are folded into the weights, so that
               transformers, vLLM and others load it without remote code
  hf-minicpm   the same of MiniCPMForCausalLM, scalings kept: loading it needs OpenBMB's modeling_minicpm.py
  gguf         one file for llama.cpp, as plain llama, the tokenizer inside

Then the files are read back, run by a second implementation on 32 sequences of held-out text and compared with the training
graph in fp32: largest and mean error of the logits, how often the first choice is the same. The figures go into
DIR/receipt.json and the model card, README.md; above the bound of the type (docs/export.md) the export fails.

A model with qk_norm, logit_soft_cap or a sliding window is refused: none of the formats has them.`,
		Example: `  pretrain export --checkpoint runs/quickstart --format hf-llama --out exports/quickstart
  pretrain export --checkpoint runs/quickstart@500 --format gguf --dtype q8_0 --out exports/quickstart-gguf
  pretrain export --checkpoint runs/mine --format hf-minicpm --dtype bf16 --data heldout.jsonl --out exports/mine`,
		RunE: func(cmd *cobra.Command, _ []string) error { return export(cmd.Context(), o, stdout, stderr) },
	}
	f := cmd.Flags()
	f.StringVar(&o.checkpoint, "checkpoint", "", "the model: a run's `directory` (its newest checkpoint), RUN@STEP, or a checkpoint's directory")
	f.StringVar(&o.format, "format", "", "hf-llama, hf-minicpm or gguf")
	f.StringVar(&o.dtype, "dtype", "fp32", "of the numbers written: fp32, bf16, fp16; for gguf also q8_0")
	f.StringVar(&o.out, "out", "", "where to write, a `directory` that is empty or new")
	f.StringVar(&o.template, "chat-template", "", "minicpm, chatml or none (default: that of the run, where it was trained on conversations)")
	f.StringSliceVar(&o.data, "data", nil, "`FILE` of JSON Lines with texts to compare on (default: the run's held-out text)")
	f.StringVar(&o.reference, "reference", "", "also write the tokens and the training graph's logits of some sequences to a safetensors `FILE`, to compare other programs with")
	f.StringVar(&o.backend, "backend", "", "as in training")
	f.BoolVar(&o.asJSON, "json", false, "end with one JSON object on stdout: dir, files, receipt")
	return cmd
}

// check reports what is wrong with the flags.
func (o *exportOptions) check() error {
	switch {
	case o.format != formatLlama && o.format != formatMiniCPM && o.format != formatGGUF:
		return usagef("--format: %q: want hf-llama, hf-minicpm or gguf", o.format)
	case o.out == "":
		return usagef("--out is missing: give a directory to write to")
	case o.template != "" && !pack.Template(o.template).Valid():
		return usagef("--chat-template: %q: want minicpm, chatml or none", o.template)
	}
	_, known := llama.Bounds[llama.DType(o.dtype)]
	if !known || llama.DType(o.dtype) == llama.Q8_0 && o.format != formatGGUF {
		return usagef("--dtype: %q: want fp32, bf16 or fp16, or for gguf q8_0", o.dtype)
	}
	if entries, err := os.ReadDir(o.out); err == nil && len(entries) > 0 {
		return usagef("--out: %s is not empty: give a new directory", o.out)
	}
	return nil
}

// exporter is an export under way.
type exporter struct {
	exportOptions
	*onDevice
	stderr   io.Writer
	template pack.Template
	tokens   hf.Tokens
	Network  *llama.Network
}

// exportResult is what --json prints.
type exportResult struct {
	Dir     string        `json:"dir"`
	Format  string        `json:"format"`
	DType   string        `json:"dtype"`
	Files   []string      `json:"files"`
	Receipt llama.Receipt `json:"receipt"`
}

func export(ctx context.Context, o exportOptions, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	o.precision = string(model.FP32) // the arithmetic of the comparison
	d, err := o.open(ctx, stderr)
	if err != nil {
		return err
	}
	defer d.Close()
	e := &exporter{exportOptions: o, onDevice: d, stderr: stderr}
	if e.Network, err = llama.FromModel(d.Decoder.Config, e.weights, o.format != formatMiniCPM); err != nil {
		return usageError{err}
	}
	if o.format == formatMiniCPM {
		if err := hf.CheckMiniCPM(e.Network.Config); err != nil {
			return usageError{err}
		}
	}
	e.chooseTokens()
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("make the folder of the export: %w", err)
	}
	if err := e.write(); err != nil {
		return err
	}
	r := exportResult{Dir: o.out, Format: o.format, DType: o.dtype}
	if r.Receipt, err = e.compare(ctx); err != nil {
		return err
	}
	if err := r.Receipt.Check(); err != nil {
		return fmt.Errorf("%s: %w: do not use these files", o.out, err)
	}
	if err := e.describe(r); err != nil {
		return err
	}
	entries, err := os.ReadDir(o.out)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		r.Files = append(r.Files, entry.Name())
	}
	if o.asJSON {
		return printJSON(stdout, r)
	}
	c := r.Receipt
	fmt.Fprintf(stdout, "%s in %s, step %d of %s\n", o.format, o.dtype, d.Meta.Step, d.Dir)
	fmt.Fprintf(stdout, "read back and compared on %d sequences, %d tokens: largest error of a logit %.2g (bound %.2g), mean %.2g, same first choice %.2f%%\n",
		c.Sequences, c.Tokens, c.MaxError, c.Bound.MaxError, c.MeanError, 100*c.Top1)
	for _, name := range r.Files {
		fmt.Fprintf(stdout, "  %s\n", filepath.Join(o.out, name))
	}
	return nil
}

// weights are the values of a parameter.
func (e *exporter) weights(name string) ([]float32, error) {
	for _, p := range e.Params {
		if p.Name == name {
			return llama.F32.Read(p.Data)
		}
	}
	return nil, fmt.Errorf("the checkpoint lacks the weight %s", name)
}

// chooseTokens settles the chat template and the tokens that clients need. What begins a text is the token that ends one: in
// training it stands before every document.
func (e *exporter) chooseTokens() {
	e.template = e.chatTemplate(e.exportOptions.template)
	eos := e.Tokenizer.EOS()
	name := e.Tokenizer.Bytes(eos)
	e.tokens = hf.Tokens{BOS: name, EOS: name, BOSID: eos, EOSID: eos, ChatTemplate: e.template.Jinja()}
	if end := e.template.EndOfTurn(); end != "" {
		if id, ok := e.Tokenizer.Special(end); ok {
			e.tokens.EndOfTurn, e.tokens.EndOfTurnID = end, id
		}
	}
}

// write writes the model's files.
func (e *exporter) write() error {
	dtype := llama.DType(e.dtype)
	if e.format != formatGGUF {
		return hf.Write(e.out, e.Network, hf.Export{DType: dtype, Tokens: e.tokens, TokenizerJSON: e.TokenizerJSON, Metadata: e.provenance()})
	}
	list, err := tokenizer.List(e.TokenizerJSON)
	if err != nil {
		return usagef("the tokenizer cannot go into a GGUF file: %v: use hf-llama", err)
	}
	t := gguf.Tokenizer{
		Tokens: list.Tokens, Special: list.Special, Merges: list.Merges, IgnoreMerges: list.IgnoreMerges,
		BOS: e.tokens.BOSID, EOS: e.tokens.EOSID, EndOfTurn: -1, ChatTemplate: e.tokens.ChatTemplate,
	}
	if e.tokens.EndOfTurn != "" {
		t.EndOfTurn = int64(e.tokens.EndOfTurnID)
	}
	return gguf.Write(e.ggufPath(), e.Network, gguf.Export{DType: dtype, Name: e.Config.Run.Name, Tokenizer: t, Metadata: e.provenance()})
}

func (e *exporter) ggufPath() string {
	return filepath.Join(e.out, fmt.Sprintf("%s-%s.gguf", filepath.Base(e.Config.Run.Name), e.dtype))
}

// provenance says where the weights come from.
func (e *exporter) provenance() map[string]string {
	return map[string]string{
		"step": fmt.Sprint(e.Meta.Step), "tokens": fmt.Sprint(e.Meta.Tokens), "config_xxh3": e.Meta.ConfigHash,
		"data_manifest": e.Meta.DataManifestHash, "tokenizer_sha256": e.Meta.TokenizerHash,
	}
}

// compare reads the files back and runs them.
func (e *exporter) compare(ctx context.Context) (r llama.Receipt, err error) {
	sequences, err := e.sequences(ctx, 32)
	if err != nil {
		return r, err
	}
	var back *llama.Network
	var file io.Closer
	if e.format == formatGGUF {
		m, err := gguf.Open(e.ggufPath())
		if err != nil {
			return r, fmt.Errorf("read the export back: %w", err)
		}
		back, file = m.Network, m
	} else {
		m, err := hf.Open(e.out)
		if err != nil {
			return r, fmt.Errorf("read the export back: %w", err)
		}
		back, file = m.Network, m
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if r, err = back.Compare(ctx, e.Backend, e.Decoder, e.Weights, sequences); err != nil {
		return r, err
	}
	r.Bound = llama.Bounds[llama.DType(e.dtype)]
	if e.reference != "" {
		err = e.writeReference(sequences[:4])
	}
	return r, err
}

// writeReference writes "tokens", int32 [n, T], and the training graph's "logits" for them, float32 [n, T, V].
func (e *exporter) writeReference(sequences [][]uint32) error {
	var tokens, logits []byte
	for _, s := range sequences {
		for _, token := range s {
			tokens = binary.LittleEndian.AppendUint32(tokens, token)
		}
		values, err := llama.TrainingLogits(e.Backend, e.Decoder, e.Weights, s)
		if err != nil {
			return err
		}
		logits = llama.F32.Append(logits, values)
	}
	shape := []int{len(sequences), len(sequences[0])}
	return atomicfile.WriteFile(vfs.OS, e.reference, func(w io.Writer) error {
		return safetensors.Write(w, nil, []safetensors.Tensor{
			{Info: safetensors.Info{Name: "tokens", DType: safetensors.I32, Shape: shape}, Data: bytes.NewReader(tokens)},
			{Info: safetensors.Info{Name: "logits", DType: safetensors.F32, Shape: append(shape, e.Decoder.VocabSize)}, Data: bytes.NewReader(logits)},
		})
	})
}

// sequences are pieces of real text, n in all, from the held-out text of the run's sources, or the texts of --data: each a
// window of the model long, spread evenly. Each begins with the end-of-text token, as a document in training does; where there
// is little text it comes again.
func (e *exporter) sequences(ctx context.Context, n int) ([][]uint32, error) {
	ev := &evaluation{evalOptions: evalOptions{data: e.data}, onDevice: e.onDevice, console: metrics.NewConsole(e.stderr)}
	tasks, err := ev.read()
	if err != nil {
		return nil, err
	}
	sets, closeSets, err := ev.sets(ctx, tasks)
	if err != nil {
		return nil, err
	}
	defer closeSets()
	if len(sets) == 0 {
		return nil, usagef("no source of the run has held-out text: give texts to compare on with --data")
	}
	names := slices.Sorted(maps.Keys(sets))
	var out [][]uint32
	for i := range n {
		corpus := sets[names[i%len(names)]].Corpus
		doc := i / len(names) * corpus.Docs() / (n/len(names) + 1)
		sequence := []uint32{e.Tokenizer.EOS()}
		for len(sequence) < e.Decoder.MaxSeqLen {
			piece := make([]uint32, min(int64(e.Decoder.MaxSeqLen-len(sequence)), corpus.Offset(doc+1)-corpus.Offset(doc)))
			if err := corpus.Read(piece, doc, 0); err != nil {
				return nil, err
			}
			sequence = append(sequence, piece...)
			doc = (doc + 1) % corpus.Docs()
		}
		out = append(out, sequence)
	}
	return out, nil
}
