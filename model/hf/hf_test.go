package hf

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"
	"pretrain/model/llama"
)

// network is a small model of random weights.
func network(t *testing.T, fold bool) *llama.Network {
	t.Helper()
	c := model.Config{VocabSize: 31, DModel: 16, NumLayers: 2, NumHeads: 2, NumKVHeads: 1, HeadDim: 8, MaxSeqLen: 64, DimModelBase: 8}.Resolve()
	n, err := llama.FromModel(c, func(name string) ([]float32, error) {
		i := slices.IndexFunc(c.Params(), func(p model.Param) bool { return p.Name == name })
		return backendtest.Normal(uint64(i), int(c.Params()[i].Size())), nil
	}, fold)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var tokens = Tokens{BOS: "</s>", EOS: "</s>", BOSID: 1, EOSID: 1, EndOfTurn: "<|im_end|>", EndOfTurnID: 5, ChatTemplate: "{{ bos_token }}"}

// TestRoundTrip: what is written is read back: the configuration, the token names and every number, rounded once.
func TestRoundTrip(t *testing.T) {
	for _, fold := range []bool{true, false} {
		for _, dtype := range []llama.DType{llama.F32, llama.BF16, llama.F16} {
			for _, limit := range []int64{0, 3000} { // one file, and several
				n, dir := network(t, fold), t.TempDir()
				if err := Write(dir, n, Export{DType: dtype, Tokens: tokens, TokenizerJSON: []byte("{}"), Card: []byte("card"), MaxShard: limit}); err != nil {
					t.Fatal(err)
				}
				files, _ := filepath.Glob(filepath.Join(dir, "*.safetensors"))
				if (len(files) > 1) != (limit > 0) {
					t.Errorf("limit %d: %d files", limit, len(files))
				}
				m, err := Open(dir)
				if err != nil {
					t.Fatalf("fold %v, %s: %v", fold, dtype, err)
				}
				want := n.Config
				if m.Config != want || m.BOS != "</s>" || m.EOS != "</s>" || string(m.TokenizerJSON) != "{}" {
					t.Errorf("read back as\n%+v, want\n%+v; tokens %q %q", m.Config, want, m.BOS, m.EOS)
				}
				for _, tensor := range n.Tensors {
					got, err := m.Lookup(tensor.Name)
					if err != nil {
						t.Fatal(err)
					}
					values, _ := tensor.Values()
					rounded, _ := dtype.Read(dtype.Append(nil, values))
					if read, err := got.Values(); err != nil || !slices.Equal(read, rounded) {
						t.Errorf("%s %s: read back other numbers (%v)", dtype, tensor.Name, err)
					}
				}
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestConfigs: a config.json that says something else than this decoder is refused by the key; what newer and older versions
// of transformers write is understood.
func TestConfigs(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, network(t, true), Export{DType: llama.F32, Tokens: tokens}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	with := func(changes map[string]any) (*Model, error) {
		var c map[string]any
		if err := json.Unmarshal(written, &c); err != nil {
			t.Fatal(err)
		}
		for k, v := range changes {
			c[k] = v
		}
		if err := writeJSON(path, c); err != nil {
			t.Fatal(err)
		}
		return Open(dir)
	}
	for key, value := range map[string]any{
		"model_type": "gpt2", "hidden_act": "gelu", "attention_bias": true, "sliding_window": 100, "hidden_size": 0,
		"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 2}, "intermediate_size": 12,
	} {
		if _, err := with(map[string]any{key: value}); err == nil {
			t.Errorf("%s %v was read", key, value)
		} else if !strings.Contains(err.Error(), key) && key != "intermediate_size" {
			t.Errorf("%s %v: %v", key, value, err)
		}
	}
	m, err := with(map[string]any{"rope_theta": nil, "rope_parameters": map[string]any{"rope_type": "linear", "factor": 4, "rope_theta": 5e5}, "head_dim": nil, "num_key_value_heads": 1})
	if err != nil || m.RopeTheta != 5e5 || m.RopeFactor != 4 || m.HeadDim != 8 {
		t.Errorf("%v: %+v", err, m)
	}
}

// TestMiniCPMRefuses: what MiniCPM's configuration cannot say.
func TestMiniCPMRefuses(t *testing.T) {
	c := network(t, false).Config
	if err := CheckMiniCPM(c); err != nil {
		t.Error(err)
	}
	wide, scaled := c, c
	wide.HeadDim, scaled.RopeFactor = 16, 2
	if CheckMiniCPM(wide) == nil || CheckMiniCPM(scaled) == nil {
		t.Error("head_dim or rope_scaling was not refused")
	}
}
