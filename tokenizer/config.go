package tokenizer

import (
	"slices"
	"strings"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Config says which tokenizer a run uses: the file at Path or, where that is empty, one to train from the other fields.
type Config struct {
	// Path is a Hugging Face tokenizer.json, or a folder that has one. Empty: train one.
	Path string `yaml:"path"`
	// Kind is the algorithm to train: "bpe", byte-level.
	Kind string `yaml:"kind"`
	// VocabSize is the number of tokens to train, special tokens and the 256 bytes included. Default 4096: at 1–3M
	// parameters a larger embedding costs more than the shorter sequences give back. A file's own size holds where Path
	// is given.
	VocabSize int `yaml:"vocab_size"`
	// SpecialTokens take the ids 0, 1, … in this order. Default: MiniCPM's document and chat markers and ChatML's.
	SpecialTokens []string `yaml:"special_tokens"`
	// BOS and EOS name the special tokens that begin and end a document. BOS may be empty, EOS not. Default "<s>", "</s>".
	BOS string `yaml:"bos"`
	EOS string `yaml:"eos"`
	// MinFrequency is how often a pair must occur to become a token. Default 2: what occurs once will not pay elsewhere.
	MinFrequency int `yaml:"min_frequency"`
	// MaxTrainBytes is how much text training reads, from the start: shuffle and mix the sources before. Default 8MiB. On
	// the Go library's source with 4096 tokens, held-out bytes per token are 2.80 after 1 MiB, 2.83 after 2, 2.867 after
	// 4, 2.876 after 8, 2.872 after 16 and 2.889 after all 35 MB. A larger vocabulary wants more, about 2 KiB a token.
	MaxTrainBytes units.Bytes `yaml:"max_train_bytes"`
}

// byteTokens is the size of the byte alphabet, which every vocabulary contains.
const byteTokens = 256

// maxTrainBytes is where a pair's count could pass 2^31-1: upstream's trainer counts in 32 bits and would wrap around.
const maxTrainBytes units.Bytes = 1<<31 - 1

// Default is the configuration of the quickstart.
func Default() Config {
	return Config{
		Kind:          "bpe",
		VocabSize:     4096,
		SpecialTokens: []string{"<s>", "</s>", "<用户>", "<AI>", "<|im_start|>", "<|im_end|>"},
		BOS:           "<s>",
		EOS:           "</s>",
		MinFrequency:  2,
		MaxTrainBytes: 8 << 20,
	}
}

// Validate reports every problem at once, as joined problem.Problem errors. Whether Path can be read is [Open]'s to say.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.EOS != "", "eos", `""`, "the name of the token that ends a document")
	p.Check(c.BOS == "" || c.BOS != c.EOS || c.Path != "", "bos", c.BOS, "another token than eos")
	if c.Path != "" {
		return p.Err()
	}
	p.Check(c.Kind == "bpe", "kind", c.Kind, `"bpe", the one kind that can be trained`)
	floor := byteTokens + len(c.SpecialTokens)
	p.Check(c.VocabSize >= floor, "vocab_size", c.VocabSize, "at least %d: 256 bytes and %d special tokens", floor, len(c.SpecialTokens))
	p.Check(c.VocabSize <= 1<<24, "vocab_size", c.VocabSize, "at most 16777216")
	p.Check(c.MinFrequency >= 1, "min_frequency", c.MinFrequency, "at least 1")
	p.Check(c.MaxTrainBytes > 0 && c.MaxTrainBytes <= maxTrainBytes, "max_train_bytes", c.MaxTrainBytes,
		"1 byte to 2GiB less one: the trainer counts pairs in 32 bits")
	for i, token := range c.SpecialTokens {
		p.Check(len(token) > 1 && strings.TrimSpace(token) == token && strings.ToValidUTF8(token, "") == token,
			"special_tokens", token, "two bytes or more, UTF-8, without space around it")
		p.Check(!slices.Contains(c.SpecialTokens[:i], token), "special_tokens", token, "each token once")
	}
	for _, role := range []struct{ key, token string }{{"bos", c.BOS}, {"eos", c.EOS}} {
		p.Check(role.token == "" || slices.Contains(c.SpecialTokens, role.token), role.key, role.token,
			"one of special_tokens (%s)", strings.Join(c.SpecialTokens, " "))
	}
	return p.Err()
}
