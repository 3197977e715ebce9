package hf

import (
	"fmt"

	"pretrain/model/llama"
)

// config is config.json of LlamaForCausalLM or MiniCPMForCausalLM.
type config struct {
	Architectures         []string          `json:"architectures"`
	AutoMap               map[string]string `json:"auto_map,omitempty"`
	ModelType             string            `json:"model_type"`
	BOSTokenID            *uint32           `json:"bos_token_id"`
	EOSTokenID            any               `json:"eos_token_id"`
	HiddenAct             string            `json:"hidden_act"`
	HiddenSize            int               `json:"hidden_size"`
	IntermediateSize      int               `json:"intermediate_size"`
	NumHiddenLayers       int               `json:"num_hidden_layers"`
	NumAttentionHeads     int               `json:"num_attention_heads"`
	NumKeyValueHeads      int               `json:"num_key_value_heads"`
	HeadDim               int               `json:"head_dim,omitempty"`
	MaxPositionEmbeddings int               `json:"max_position_embeddings"`
	InitializerRange      float64           `json:"initializer_range"`
	RMSNormEps            float64           `json:"rms_norm_eps"`
	RopeTheta             float64           `json:"rope_theta"`
	RopeScaling           *ropeScaling      `json:"rope_scaling"`
	AttentionBias         bool              `json:"attention_bias"`
	MLPBias               bool              `json:"mlp_bias"`
	AttentionDropout      float64           `json:"attention_dropout"`
	TieWordEmbeddings     *bool             `json:"tie_word_embeddings"`
	TorchDType            string            `json:"torch_dtype"`
	UseCache              bool              `json:"use_cache"`
	VocabSize             int               `json:"vocab_size"`
	// MiniCPM's.
	ScaleEmb     float64 `json:"scale_emb,omitempty"`
	ScaleDepth   float64 `json:"scale_depth,omitempty"`
	DimModelBase float64 `json:"dim_model_base,omitempty"`
	// Read only: newer transformers write rope_theta and rope_scaling here.
	RopeParameters *ropeScaling `json:"rope_parameters,omitempty"`
	// Read only: what is refused when it says anything.
	SlidingWindow *int `json:"sliding_window,omitempty"`
}

// ropeScaling is linear position interpolation, the one kind there is in package model.
type ropeScaling struct {
	Type      string  `json:"rope_type,omitempty"`
	OldType   string  `json:"type,omitempty"`
	Factor    float64 `json:"factor,omitempty"`
	RopeTheta float64 `json:"rope_theta,omitempty"`
}

var torchDTypes = map[llama.DType]string{llama.F32: "float32", llama.F16: "float16", llama.BF16: "bfloat16"}

func newConfig(c llama.Config, e Export) config {
	bos, tied := e.Tokens.BOSID, c.Tied
	out := config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", BOSTokenID: &bos, EOSTokenID: e.Tokens.EOSID,
		HiddenAct: "silu", HiddenSize: c.HiddenSize, IntermediateSize: c.IntermediateSize, NumHiddenLayers: c.NumLayers,
		NumAttentionHeads: c.NumHeads, NumKeyValueHeads: c.NumKVHeads, HeadDim: c.HeadDim, MaxPositionEmbeddings: c.MaxPositions,
		InitializerRange: c.InitStd, RMSNormEps: c.NormEps, RopeTheta: c.RopeTheta, TieWordEmbeddings: &tied,
		TorchDType: torchDTypes[e.DType], UseCache: true, VocabSize: c.VocabSize,
	}
	if c.RopeFactor != 1 {
		out.RopeScaling = &ropeScaling{Type: "linear", OldType: "linear", Factor: c.RopeFactor}
	}
	if c.MiniCPM {
		out.Architectures, out.ModelType = []string{"MiniCPMForCausalLM"}, "minicpm"
		out.AutoMap = map[string]string{
			"AutoConfig": "configuration_minicpm.MiniCPMConfig", "AutoModel": "modeling_minicpm.MiniCPMModel",
			"AutoModelForCausalLM": "modeling_minicpm.MiniCPMForCausalLM",
		}
		out.HeadDim = 0 // it has no such key: hidden_size / num_attention_heads
		out.ScaleEmb, out.ScaleDepth, out.DimModelBase = c.ScaleEmb, c.ScaleDepth, c.DimModelBase
	}
	return out
}

// CheckMiniCPM refuses what MiniCPM's config.json cannot say.
func CheckMiniCPM(c llama.Config) error {
	if c.HeadDim*c.NumHeads != c.HiddenSize {
		return fmt.Errorf("model.head_dim: %d cannot be exported as hf-minicpm, where it is d_model/num_heads (%d/%d): use hf-llama or gguf", c.HeadDim, c.HiddenSize, c.NumHeads)
	}
	if c.RopeFactor != 1 {
		return fmt.Errorf("model.rope_scaling: %g cannot be exported as hf-minicpm, whose rope_scaling is null: use hf-llama or gguf", c.RopeFactor)
	}
	return nil
}

// network is the shape that config.json describes.
func (c config) network() (llama.Config, error) {
	fail := func(key string, value any, want string) (llama.Config, error) {
		return llama.Config{}, fmt.Errorf("config.json: %s is %v, want %s: this program's decoder has nothing else", key, value, want)
	}
	out := llama.Config{
		VocabSize: c.VocabSize, HiddenSize: c.HiddenSize, IntermediateSize: c.IntermediateSize, NumLayers: c.NumHiddenLayers,
		NumHeads: c.NumAttentionHeads, NumKVHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim, MaxPositions: c.MaxPositionEmbeddings,
		NormEps: c.RMSNormEps, RopeTheta: c.RopeTheta, RopeFactor: 1, InitStd: c.InitializerRange,
		Tied: c.TieWordEmbeddings != nil && *c.TieWordEmbeddings,
	}
	switch c.ModelType {
	case "llama":
	case "minicpm":
		out.MiniCPM, out.ScaleEmb, out.ScaleDepth, out.DimModelBase = true, c.ScaleEmb, c.ScaleDepth, c.DimModelBase
		out.Tied = c.TieWordEmbeddings == nil || *c.TieWordEmbeddings // the default at that time
	default:
		return fail("model_type", c.ModelType, "llama or minicpm")
	}
	if c.HiddenAct != "silu" {
		return fail("hidden_act", c.HiddenAct, "silu")
	}
	if c.AttentionBias || c.MLPBias {
		return fail("attention_bias or mlp_bias", true, "false")
	}
	if c.SlidingWindow != nil {
		return fail("sliding_window", *c.SlidingWindow, "null")
	}
	for _, scaling := range []*ropeScaling{c.RopeScaling, c.RopeParameters} {
		if scaling == nil {
			continue
		}
		switch kind := scaling.Type + scaling.OldType; kind {
		case "", "default":
		case "linear", "linearlinear":
			out.RopeFactor = scaling.Factor
		default:
			return fail("rope_scaling", kind, "linear or null")
		}
		if scaling.RopeTheta != 0 {
			out.RopeTheta = scaling.RopeTheta
		}
	}
	if out.RopeTheta == 0 {
		out.RopeTheta = 10000 // the default of both
	}
	if out.NumKVHeads == 0 {
		out.NumKVHeads = out.NumHeads
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"vocab_size", out.VocabSize}, {"hidden_size", out.HiddenSize}, {"intermediate_size", out.IntermediateSize},
		{"num_hidden_layers", out.NumLayers}, {"num_attention_heads", out.NumHeads}, {"max_position_embeddings", out.MaxPositions},
	} {
		if n.value <= 0 {
			return fail(n.key, n.value, "a positive number")
		}
	}
	if out.HeadDim == 0 {
		out.HeadDim = out.HiddenSize / out.NumHeads
	}
	return out, nil
}

// generation is generation_config.json.
type generation struct {
	BOSTokenID uint32   `json:"bos_token_id"`
	EOSTokenID []uint32 `json:"eos_token_id"`
	PadTokenID uint32   `json:"pad_token_id"`
	MaxLength  int      `json:"max_length"`
}

func newGeneration(t Tokens, window int) generation {
	g := generation{BOSTokenID: t.BOSID, EOSTokenID: []uint32{t.EOSID}, PadTokenID: t.EOSID, MaxLength: window}
	if t.EndOfTurn != "" {
		g.EOSTokenID = append(g.EOSTokenID, t.EndOfTurnID)
	}
	return g
}

// tokenizerConfig is tokenizer_config.json. Nothing is added to a text, as in training; who wants the token that begins a
// document puts it there, as the chat template does.
type tokenizerConfig struct {
	TokenizerClass string `json:"tokenizer_class"`
	BOSToken       string `json:"bos_token"`
	EOSToken       string `json:"eos_token"`
	PadToken       string `json:"pad_token"`
	AddBOSToken    bool   `json:"add_bos_token"`
	AddEOSToken    bool   `json:"add_eos_token"`
	ModelMaxLength int    `json:"model_max_length"`
	CleanUpSpaces  bool   `json:"clean_up_tokenization_spaces"`
	ChatTemplate   string `json:"chat_template,omitempty"`
}

func newTokenizerConfig(t Tokens, window int) tokenizerConfig {
	return tokenizerConfig{
		TokenizerClass: "PreTrainedTokenizerFast", BOSToken: t.BOS, EOSToken: t.EOS, PadToken: t.EOS,
		ModelMaxLength: window, ChatTemplate: t.ChatTemplate,
	}
}
