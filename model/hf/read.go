package hf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/internal/safetensors"
	"pretrain/model/llama"
)

// Model is a folder in Hugging Face's layout, open for reading. Close it.
type Model struct {
	*llama.Network
	// BOS and EOS are the names of the tokens that begin and end a text, "" where tokenizer_config.json does not say.
	BOS, EOS string
	// TokenizerJSON is tokenizer.json; nil where there is none.
	TokenizerJSON []byte
	files         []*os.File
}

// Open reads the configuration and the list of tensors of a folder; values are read when asked for.
func Open(dir string) (_ *Model, err error) {
	m := &Model{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	var c config
	if err := readJSON(filepath.Join(dir, "config.json"), &c); err != nil {
		return nil, err
	}
	shape, err := c.network()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	m.Network = &llama.Network{Config: shape}
	var tokens struct {
		BOS tokenName `json:"bos_token"`
		EOS tokenName `json:"eos_token"`
	}
	if err := readJSON(filepath.Join(dir, "tokenizer_config.json"), &tokens); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m.BOS, m.EOS = string(tokens.BOS), string(tokens.EOS)
	if m.TokenizerJSON, err = os.ReadFile(filepath.Join(dir, "tokenizer.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}

	names := []string{"model.safetensors"}
	var ix index
	if err := readJSON(filepath.Join(dir, indexName), &ix); err == nil {
		names = nil
		for _, name := range ix.WeightMap {
			if !slices.Contains(names, name) && filepath.IsLocal(name) {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, name := range names {
		if err := m.add(filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return m, m.check()
}

// add lists the tensors of a file.
func (m *Model) add(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	r, err := safetensors.NewReader(f, stat.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, e := range r.Entries() {
		dtype, ok := ours[e.DType]
		if !ok {
			return fmt.Errorf("%s: tensor %q is %s, want F32, F16 or BF16", path, e.Name, e.DType)
		}
		m.Tensors = append(m.Tensors, llama.Tensor{Name: e.Name, Shape: e.Shape, Values: func() ([]float32, error) {
			data, err := r.ReadTensor(e.Name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			return dtype.Read(data)
		}})
	}
	return nil
}

var ours = map[safetensors.DType]llama.DType{safetensors.F32: llama.F32, safetensors.F16: llama.F16, safetensors.BF16: llama.BF16}

// check drops a written copy of a tied output projection and has every tensor there, in its shape.
func (m *Model) check() error {
	if m.Tied {
		m.Tensors = slices.DeleteFunc(m.Tensors, func(t llama.Tensor) bool { return t.Name == llama.Output })
	}
	m.Tensors = slices.DeleteFunc(m.Tensors, func(t llama.Tensor) bool { return strings.HasSuffix(t.Name, "rotary_emb.inv_freq") })
	return m.Network.Check()
}

// Close closes the files.
func (m *Model) Close() error {
	var err error
	for _, f := range m.files {
		err = errors.Join(err, f.Close())
	}
	m.files = nil
	return err
}

// tokenName is a token in tokenizer_config.json: its name, or an object with it.
type tokenName string

// UnmarshalJSON implements json.Unmarshaler.
func (t *tokenName) UnmarshalJSON(data []byte) error {
	var object struct {
		Content string `json:"content"`
	}
	if json.Unmarshal(data, &object) == nil {
		*t = tokenName(object.Content)
		return nil
	}
	return json.Unmarshal(data, (*string)(t))
}

func readJSON(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
