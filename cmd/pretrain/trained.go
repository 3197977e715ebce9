package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"pretrain/configs"
	"pretrain/data/shard"
	"pretrain/internal/backend"
	"pretrain/internal/vfs"
	"pretrain/model"
	"pretrain/tokenizer/hf"
	"pretrain/train/checkpoint"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/tensors"
)

// trained is a model as a run saved it: what evaluation, analysis, export and generation begin with.
type trained struct {
	// Dir is the run's directory, Meta what the checkpoint says of itself, Config the run's configuration at that step, with
	// the vocabulary size filled in.
	Dir    string
	Meta   checkpoint.Meta
	Config *configs.Resolved
	// Tokenizer is the run's, whose hash is the checkpoint's; TokenizerJSON its file.
	Tokenizer     *hf.Tokenizer
	TokenizerJSON []byte
	// Params are the weights on the host, float32, in the order of the model's Params.
	Params []checkpoint.Tensor
}

// paramPrefix is what the names of the weights begin with among a state's tensors (train.TensorSpec).
const paramPrefix = "param/"

// openTrained reads a model from a run (RUN: its newest intact checkpoint; RUN@1000, RUN@20Mtok, RUN@latest: that one) or from
// a checkpoint's directory. Broken checkpoints that it falls back from are told to warn.
func openTrained(ctx context.Context, path string, warn func(format string, args ...any)) (*trained, error) {
	state, err := loadWeights(ctx, path, warn)
	if err != nil {
		return nil, err
	}
	t := &trained{Dir: filepath.Dir(filepath.Dir(state.Path)), Meta: state.Meta}
	if t.Config, err = pastOf(state.Meta); err != nil {
		return nil, err
	}
	file := filepath.Join(t.Dir, "tokenizer.json")
	if t.TokenizerJSON, err = os.ReadFile(file); err != nil {
		return nil, fmt.Errorf("the tokenizer of the run: %w", err)
	}
	if hash := shard.HashTokenizer(t.TokenizerJSON); hash != state.Meta.TokenizerHash {
		return nil, fmt.Errorf("%s is not the tokenizer that step %d was trained with (%.12s… there, %.12s… here)", file, state.Meta.Step, state.Meta.TokenizerHash, hash)
	}
	c := t.Config.Run.Tokenizer
	if t.Tokenizer, err = hf.New(t.TokenizerJSON, c.BOS, c.EOS); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	byName := map[string]checkpoint.Tensor{}
	for _, p := range state.Tensors {
		byName[strings.TrimPrefix(p.Name, paramPrefix)] = p
	}
	m := &t.Config.Run.Model
	if embed, ok := byName["embed"]; ok && m.VocabSize == 0 {
		m.VocabSize = embed.Shape[0]
	}
	for _, p := range m.Params() {
		saved, ok := byName[p.Name]
		if !ok {
			return nil, fmt.Errorf("%s lacks the weight %s", state.Path, p.Name)
		}
		saved.Name = p.Name
		t.Params = append(t.Params, saved)
	}
	return t, nil
}

// loadWeights loads the weights of the checkpoint that path names.
func loadWeights(ctx context.Context, path string, warn func(format string, args ...any)) (*checkpoint.State, error) {
	isWeight := func(name string) bool { return strings.HasPrefix(name, paramPrefix) }
	path = filepath.Clean(path)
	run, at := path, ""
	if i := strings.LastIndexByte(path, '@'); i > 0 {
		if _, err := os.Stat(path); err != nil { // no directory that has an @ in its name
			run, at = path[:i], path[i+1:]
		}
	}
	var step int64
	if _, err := fmt.Sscanf(filepath.Base(path), "step-%d", &step); err == nil && filepath.Base(filepath.Dir(path)) == "checkpoints" {
		run, at = filepath.Dir(filepath.Dir(path)), fmt.Sprint(step)
	}
	if _, err := os.Stat(run); err != nil {
		return nil, usagef("%s: no such run: want a run's directory, RUN@STEP, or a checkpoint's directory such as runs/x/checkpoints/step-000001000", path)
	}
	run, err := filepath.Abs(run)
	if err != nil {
		return nil, err
	}
	store, err := checkpoint.Open(vfs.OS, filepath.Join(run, "checkpoints"), checkpoint.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	if at != "" {
		meta, err := findStep(store, at)
		if err != nil {
			return nil, err
		}
		return store.LoadTensors(ctx, meta.Step, isWeight)
	}
	steps, err := store.List()
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, usagef("%s has no checkpoint: want the directory of a run that has saved one", run)
	}
	for i := len(steps) - 1; ; i-- {
		state, err := store.LoadTensors(ctx, steps[i], isWeight)
		var p *checkpoint.Problem
		if !errors.As(err, &p) || i == 0 {
			return state, err
		}
		warn("warning: %v: falling back to the checkpoint before it", p)
	}
}

// onDevice is a trained model on a device.
type onDevice struct {
	*trained
	Backend compute.Backend
	Device  backend.Info
	// Decoder computes in the given precision. Weights are in the order of its Params.
	Decoder model.Decoder
	Weights []*tensors.Tensor
}

// open puts the model on a device. precision "": that which it was trained in. Close it.
func (t *trained) open(spec string, precision model.Precision, o backend.Options) (*onDevice, error) {
	d := &onDevice{trained: t}
	var err error
	if precision == "" {
		precision = t.Config.Run.Train.Precision
	}
	if d.Backend, d.Device, err = openBackend(spec, precision, o); err != nil {
		return nil, err
	}
	d.Decoder = model.Decoder{Config: t.Config.Run.Model, Numerics: numericsFor(d.Backend, precision, t.Config.Run.Train.Attention)}
	if d.Weights, err = t.weights(d.Backend); err != nil {
		d.Backend.Finalize()
		return nil, err
	}
	return d, nil
}

// openBackend opens a backend for products of that precision.
func openBackend(spec string, precision model.Precision, o backend.Options) (compute.Backend, backend.Info, error) {
	cache, err := cacheDir()
	if err != nil {
		return nil, backend.Info{}, err
	}
	o.Cache, o.Float32 = cache, precision == model.FP32
	return backend.Open(spec, o)
}

// numericsFor is how a backend computes, with the attention that a configuration asks for.
func numericsFor(b compute.Backend, precision model.Precision, attention model.AttentionKind) model.Numerics {
	n := model.NumericsFor(b, precision)
	if attention == model.AttentionDecomposed {
		n = n.Decomposed()
	}
	return n
}

// weights are the parameters on a device, in the order of Params.
func (t *trained) weights(backend compute.Backend) ([]*tensors.Tensor, error) {
	var list []*tensors.Tensor
	for _, p := range t.Params {
		w, err := tensors.FromRaw(backend, 0, shapes.Make(dtypes.Float32, p.Shape...), p.Data)
		if err != nil {
			for _, w := range list {
				w.MustFinalizeAll()
			}
			return nil, fmt.Errorf("put %s on the device: %w", p.Name, err)
		}
		list = append(list, w)
	}
	return list, nil
}

// Close frees the weights and the backend.
func (d *onDevice) Close() {
	for _, w := range d.Weights {
		w.MustFinalizeAll()
	}
	d.Backend.Finalize()
}
