package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"pretrain/configs"
	"pretrain/data/shard"
	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/model/gguf"
	"pretrain/model/hf"
	"pretrain/model/llama"
	"pretrain/tokenizer"
	"pretrain/train"
	"pretrain/train/checkpoint"
	"pretrain/train/runs"

	"github.com/spf13/cobra"
)

// importOptions are the flags of pretrain import.
type importOptions struct {
	configFlags
	from, tokenizer, bos, eos, runDir string
	asJSON                            bool
}

func newImport(stdout io.Writer) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use: "import --from DIR --config NAME_OR_FILE --run-dir DIR", Short: "Begin a run with a model from elsewhere: Hugging Face or GGUF", Args: noArgs,
		Long: `Begin a run with the weights of a model from elsewhere, to train it on.

--from is a folder of Hugging Face's layout with a LlamaForCausalLM or MiniCPMForCausalLM (safetensors), or a GGUF file of plain
llama, which needs --tokenizer, too. The model section of the configuration is replaced by what the files say, and the
tokenizer is theirs; the rest, data and schedule above all, is the configuration's. The run then stands at step 0, with an
optimizer that has seen nothing, and trains like any other.

What the decoder does not have (biases, other activations, rotary scalings but linear ones, …) is refused. A llama trained
elsewhere has the standard parameterization: its learning rate is not that of a mup run.`,
		Example: `  pretrain import --from exports/quickstart --config quickstart --run-dir runs/more
  pretrain --config runs/more/config.yaml --run-dir runs/more
  pretrain import --from model.gguf --tokenizer tokenizer.json --config my.yaml --run-dir runs/from-gguf`,
		RunE: func(cmd *cobra.Command, _ []string) error { return importModel(cmd.Context(), o, stdout) },
	}
	o.add(cmd)
	cmd.Flags().StringVar(&o.from, "from", "", "a `folder` of Hugging Face's layout, or a GGUF file")
	cmd.Flags().StringVar(&o.runDir, "run-dir", "", "the new run's `directory`, which must not exist")
	cmd.Flags().StringVar(&o.tokenizer, "tokenizer", "", "a tokenizer.json (default: the folder's)")
	cmd.Flags().StringVar(&o.bos, "bos", "", "the token that begins a document, if any")
	cmd.Flags().StringVar(&o.eos, "eos", "", "the token that ends a document (default: that of tokenizer_config.json, else </s>)")
	cmd.Flags().BoolVar(&o.asJSON, "json", false, "end with one JSON object on stdout: run_dir, parameters")
	return cmd
}

// imported is a model read from its files.
type imported struct {
	*llama.Network
	io.Closer
	tokenizer []byte
	eos       string
}

// open reads the model.
func (o importOptions) open() (m imported, err error) {
	if info, err := os.Stat(o.from); err != nil {
		return m, usagef("--from: %s: no such file or folder", o.from)
	} else if !info.IsDir() {
		f, err := gguf.Open(o.from)
		if err != nil {
			return m, err
		}
		m = imported{Network: f.Network, Closer: f}
	} else {
		f, err := hf.Open(o.from)
		if err != nil {
			return m, err
		}
		m = imported{f.Network, f, f.TokenizerJSON, f.EOS}
	}
	if o.tokenizer != "" {
		if m.tokenizer, err = os.ReadFile(o.tokenizer); err != nil {
			return m, errors.Join(fmt.Errorf("--tokenizer: %w", err), m.Close())
		}
	}
	if m.tokenizer == nil {
		return m, errors.Join(usagef("%s has no tokenizer.json: give one with --tokenizer", o.from), m.Close())
	}
	if o.eos != "" {
		m.eos = o.eos
	} else if m.eos == "" {
		m.eos = tokenizer.Default().EOS
	}
	return m, nil
}

func importModel(ctx context.Context, o importOptions, stdout io.Writer) (err error) {
	if o.from == "" || o.runDir == "" || o.config == "" {
		return usagef("--from, --config and --run-dir are needed")
	}
	if _, err := os.Stat(o.runDir); err == nil {
		return usagef("--run-dir: %s exists already: give a new directory", o.runDir)
	}
	m, err := o.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if _, err := tokenizer.Parse(m.tokenizer, o.bos, m.eos); err != nil {
		return err
	}
	c, params, err := m.ToModel()
	if err != nil {
		return fmt.Errorf("%s: %w", o.from, err)
	}
	dir, err := filepath.Abs(o.runDir)
	if err != nil {
		return err
	}
	if err := vfs.MkdirAllSync(vfs.OS, dir); err != nil {
		return err
	}
	path := filepath.Join(dir, "tokenizer.json")
	if err := writeFile(path, m.tokenizer); err != nil {
		return err
	}
	r, err := configs.Load(o.config, append(append(o.sets, modelSets(c)...), "tokenizer.path="+path, "tokenizer.bos="+o.bos, "tokenizer.eos="+m.eos))
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := begin(ctx, dir, r, m.tokenizer, params); err != nil {
		return err
	}
	if o.asJSON {
		return printJSON(stdout, map[string]any{"run_dir": dir, "parameters": c.Count()})
	}
	fmt.Fprintf(stdout, "%s parameters (%s), ready at step 0 in %s\n\ntrain it on\n  pretrain --config %s --run-dir %s\n",
		si(c.Count().Total), c.Parameterization, dir, filepath.Join(o.runDir, "config.yaml"), o.runDir)
	return nil
}

// modelSets are the overrides that make a configuration's model the imported one.
func modelSets(c model.Config) []string {
	var sets []string
	set := func(key string, value any) { sets = append(sets, fmt.Sprintf("model.%s=%v", key, value)) }
	set("vocab_size", c.VocabSize)
	set("d_model", c.DModel)
	set("d_ff", c.DFF)
	set("num_layers", c.NumLayers)
	set("num_heads", c.NumHeads)
	set("num_kv_heads", c.NumKVHeads)
	set("head_dim", c.HeadDim)
	set("max_seq_len", c.MaxSeqLen)
	set("tie_embeddings", c.Tied())
	set("parameterization", c.Parameterization)
	set("scale_emb", c.ScaleEmb)
	set("scale_depth", c.ScaleDepth)
	set("dim_model_base", c.DimModelBase)
	set("init_std", c.InitStd)
	set("rope_theta", c.RopeTheta)
	set("rope_scaling", c.RopeScaling)
	set("norm_eps", c.NormEps)
	return append(sets, "model.qk_norm=false", "model.logit_soft_cap=0", "model.sliding_window=0")
}

// begin writes a run that stands at step 0 with these parameters.
func begin(ctx context.Context, dir string, r *configs.Resolved, tokenizerJSON []byte, params [][]float32) error {
	if _, err := runs.Identify(vfs.OS, dir, nil); err != nil {
		return err
	}
	text := string(r.YAML(false))
	if err := writeFile(filepath.Join(dir, "config.yaml"), []byte(text)); err != nil {
		return err
	}
	layout := train.NewLayout(r.Run.Model, r.Run.Optimizer)
	var state []checkpoint.Tensor
	for i, spec := range layout.Specs {
		t := checkpoint.Tensor{Name: spec.Name, DType: safetensors.F32, Shape: spec.Shape.Dimensions, Data: make([]byte, spec.Shape.ByteSize())}
		if len(t.Shape) == 0 {
			t.DType = safetensors.I32 // the counters
		}
		if i < layout.NumParams() {
			t.Data = llama.F32.Append(t.Data[:0], params[i])
		}
		state = append(state, t)
	}
	store, err := checkpoint.Open(vfs.OS, filepath.Join(dir, "checkpoints"), checkpoint.Options{})
	if err != nil {
		return err
	}
	_, err = store.Save(ctx, checkpoint.Meta{Config: text, ConfigHash: configHash(text), TokenizerHash: shard.HashTokenizer(tokenizerJSON)}, state)
	return err
}
