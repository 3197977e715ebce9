package model

import (
	"errors"
	"math"
	"strings"
	"testing"

	"pretrain/internal/problem"

	"github.com/google/go-cmp/cmp"
)

// TestPublishedCounts: the two released models (MiniCPM Table 2) and the ladder (Table 8), whose N the paper rounds.
func TestPublishedCounts(t *testing.T) {
	for _, c := range []struct {
		preset              string
		nonEmbedding, total int64 // total 0: the paper states no vocabulary
	}{
		{"minicpm-2.4b", 2_442_057_984, 2_724_880_896},
		{"minicpm-1.2b", 1_247_442_432, 1_360_246_272},
		{"9m", 9_426_240, 0},
		{"30m", 36_188_672, 0},
		{"70m", 65_964_160, 0},
		{"0.1b", 108_552_960, 0},
		{"0.17b", 166_216_064, 0},
		{"0.2b", 241_214_464, 0},
		{"0.5b", 498_614_592, 0},
	} {
		m := Config{Preset: c.preset}.Resolve()
		if err := m.Validate(); err != nil {
			t.Errorf("%s: %v", c.preset, err)
		}
		n := m.Count()
		if n.NonEmbedding != c.nonEmbedding {
			t.Errorf("%s: %d non-embedding parameters, want %d", c.preset, n.NonEmbedding, c.nonEmbedding)
		}
		if c.total != 0 && n.Total != c.total {
			t.Errorf("%s: %d parameters, want %d", c.preset, n.Total, c.total)
		}
		if c.total != 0 && n.Compute != c.total {
			t.Errorf("%s: %d parameters per token, want %d: a tied embedding is multiplied by once", c.preset, n.Compute, c.total)
		}
	}
	if len(Presets) != 9 {
		t.Errorf("%d presets: add the new one's counts to this test", len(Presets))
	}
}

func TestCountsUntiedAndQKNorm(t *testing.T) {
	tied := Config{Preset: "9m", VocabSize: 1000}.Resolve()
	untied := tied
	untied.TieEmbeddings = new(bool)
	untied.QKNorm = true
	a, b := tied.Count(), untied.Count()
	gains := int64(2 * 64 * tied.NumLayers)
	if b.Total-a.Total != 1000*320+gains || b.NonEmbedding-a.NonEmbedding != gains || b.Compute-a.Compute != gains {
		t.Errorf("tied %+v, untied with QK norm %+v", a, b)
	}
	var names []string
	for _, p := range untied.Params() {
		names = append(names, p.Name)
	}
	if names[0] != "embed" || names[len(names)-1] != "lm_head" {
		t.Errorf("parameters begin with %s and end with %s", names[0], names[len(names)-1])
	}
	seen := map[string]bool{}
	for _, n := range names {
		if seen[n] {
			t.Errorf("%s is listed twice", n)
		}
		seen[n] = true
	}
}

// TestFLOPs counts the multiply-adds of a small model's products one by one: a backward pass has twice the forward's.
func TestFLOPs(t *testing.T) {
	m := Config{VocabSize: 100, DModel: 64, NumLayers: 3, NumHeads: 2, NumKVHeads: 1, HeadDim: 16, DFF: 48, MaxSeqLen: 32}.Resolve()
	const d, q, kv, ff, layers, seqLen, vocab = 64, 32, 16, 48, 3, 32, 100
	perLayer := d*q + 2*d*kv + q*d + 3*d*ff
	gains := layers*2*d + d // counted in N by convention, as the paper's N does
	wantDense := 3 * 2 * float64(layers*perLayer+vocab*d+gains)
	// Scores and weighted sum: each q·T multiply-adds a layer, half of them hidden by causality.
	wantAttention := 3 * 2 * float64(layers) * 2 * q * seqLen / 2
	got := m.FLOPsPerToken()
	if got.Dense != wantDense || got.Attention != wantAttention || got.Total() != wantDense+wantAttention {
		t.Errorf("%+v, want dense %g and attention %g", got, wantDense, wantAttention)
	}
}

func TestInitStd(t *testing.T) {
	mup := Config{Preset: "minicpm-2.4b"}.Resolve()
	std := Config{Preset: "minicpm-2.4b", Parameterization: Standard}.Resolve()
	for i, p := range mup.Params() {
		want, plain := 0.1, 0.02
		switch p.Role {
		case Hidden:
			want = 0.1 / 3 // √(2304/256) = 3
		case Gain:
			want, plain = 0, 0
		}
		if math.Abs(p.InitStd-want) > 1e-12 || std.Params()[i].InitStd != plain {
			t.Fatalf("%s: init std %g under mup, %g under standard; want %g, %g", p.Name, p.InitStd, std.Params()[i].InitStd, want, plain)
		}
	}
}

func TestResolve(t *testing.T) {
	tied, untied := true, false
	full := Config{
		Preset: "minicpm-1.2b", VocabSize: 73440, DModel: 1536, DFF: 3840, NumLayers: 52, NumHeads: 24, NumKVHeads: 8, HeadDim: 64,
		MaxSeqLen: 4096, TieEmbeddings: &tied, Parameterization: MuP, ScaleEmb: 12, ScaleDepth: 1.4, DimModelBase: 256, InitStd: 0.1,
		RopeTheta: 10000, RopeScaling: 1, NormEps: 1e-5,
	}
	for _, c := range []struct {
		name   string
		in     Config
		change func(*Config) // from full
	}{
		{"preset", Config{Preset: "minicpm-1.2b"}, func(*Config) {}},
		{"keys beside a preset override it", Config{Preset: "minicpm-1.2b", NumLayers: 4, VocabSize: 9, TieEmbeddings: &untied}, func(c *Config) {
			c.NumLayers, c.VocabSize, c.TieEmbeddings = 4, 9, &untied
		}},
		{"free dimensions", Config{DModel: 128, NumLayers: 2}, func(c *Config) {
			c.Preset, c.VocabSize, c.DModel, c.DFF, c.NumLayers, c.NumHeads, c.NumKVHeads = "", 0, 128, 320, 2, 2, 2
		}},
		{"standard", Config{Preset: "minicpm-1.2b", Parameterization: Standard}, func(c *Config) {
			c.Parameterization, c.ScaleEmb, c.ScaleDepth, c.InitStd = Standard, 0, 0, 0.02
		}},
	} {
		want := full
		c.change(&want)
		got := c.in.Resolve()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", c.name, diff)
		}
		if diff := cmp.Diff(got, got.Resolve()); diff != "" {
			t.Errorf("%s: resolving again changes it:\n%s", c.name, diff)
		}
		if err := got.Validate(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if r := (Config{Preset: "minicpm-2.4b"}).Resolve().WidthRatio(); r != 9 {
		t.Errorf("width ratio of the 2.4B %g, want 9", r)
	}
	if r := (Config{Preset: "minicpm-2.4b", Parameterization: Standard}).Resolve().WidthRatio(); r != 1 {
		t.Errorf("width ratio under standard %g, want 1", r)
	}
}

// TestValidate breaks one key at a time.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		key    string
		change func(*Config)
	}{
		{"preset", func(c *Config) { c.Preset = "10b" }},
		{"d_model", func(c *Config) { c.DModel = 0 }},
		{"d_ff", func(c *Config) { c.DFF = -1 }},
		{"num_layers", func(c *Config) { c.NumLayers = 0 }},
		{"num_heads", func(c *Config) { c.NumHeads = 0 }},
		{"num_kv_heads", func(c *Config) { c.NumKVHeads = 3 }},
		{"num_kv_heads", func(c *Config) { c.NumKVHeads = 10 }},
		{"head_dim", func(c *Config) { c.HeadDim = 63 }},
		{"max_seq_len", func(c *Config) { c.MaxSeqLen = -4 }},
		{"dim_model_base", func(c *Config) { c.DimModelBase = -1 }},
		{"vocab_size", func(c *Config) { c.VocabSize = -1 }},
		{"parameterization", func(c *Config) { c.Parameterization = "ntk" }},
		{"scale_emb", func(c *Config) { c.ScaleEmb = -1 }},
		{"scale_depth", func(c *Config) { c.ScaleDepth = math.NaN() }},
		{"logit_soft_cap", func(c *Config) { c.LogitSoftCap = -30 }},
		{"init_std", func(c *Config) { c.InitStd = -0.1 }},
		{"rope_theta", func(c *Config) { c.RopeTheta = 0 }},
		{"rope_scaling", func(c *Config) { c.RopeScaling = -2 }},
		{"norm_eps", func(c *Config) { c.NormEps = 0 }},
		{"sliding_window", func(c *Config) { c.SlidingWindow = -1 }},
	} {
		m := Config{Preset: "9m"}.Resolve()
		if err := m.Validate(); err != nil {
			t.Fatalf("without a vocabulary: %v", err)
		}
		c.change(&m)
		err := m.Validate()
		var p problem.Problem
		if !errors.As(err, &p) || p.Key != c.key {
			t.Errorf("%s: error %v", c.key, err)
		}
	}
	err := Config{Preset: "nope", SlidingWindow: -3, NormEps: -1}.Resolve().Validate()
	for _, key := range []string{"preset: nope: want one of 0.17b, ", "d_model: 0", "sliding_window: -3", "norm_eps: -1"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("error %v lacks %q: every problem is reported at once", err, key)
		}
	}
}
