package tokenizer

import (
	"strings"
	"testing"
)

func TestConfigValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for _, c := range []struct {
		name string
		edit func(*Config)
		want []string // one for each problem, in order
	}{
		{"all at once", func(c *Config) { c.Kind, c.VocabSize, c.MinFrequency, c.MaxTrainBytes = "wordpiece", 100, 0, 0 }, []string{
			`kind: wordpiece: want "bpe"`,
			"vocab_size: 100: want at least 262: 256 bytes and 6 special tokens",
			"min_frequency: 0: want at least 1",
			"max_train_bytes: 0B: want 1 byte to 2GiB less one",
		}},
		{"vocabulary too large", func(c *Config) { c.VocabSize = 1 << 25 }, []string{"vocab_size: 33554432: want at most 16777216"}},
		{"counters would wrap", func(c *Config) { c.MaxTrainBytes = 1 << 31 }, []string{"max_train_bytes: 2GiB: want"}},
		{"roles that are no special tokens", func(c *Config) { c.BOS, c.EOS = "<bos>", "<eos>" }, []string{
			"bos: <bos>: want one of special_tokens (<s> </s> <用户>", "eos: <eos>: want one of special_tokens"}},
		{"no eos", func(c *Config) { c.EOS = "" }, []string{`eos: "": want the name`}},
		{"no bos is fine", func(c *Config) { c.BOS = "" }, nil},
		{"one token for both", func(c *Config) { c.BOS = "</s>" }, []string{"bos: </s>: want another token than eos"}},
		{"special tokens", func(c *Config) { c.SpecialTokens = append(c.SpecialTokens, "x", " <a>", "<s>", "\xff<>") }, []string{
			"special_tokens: x: want two bytes", "special_tokens:  <a>: want two bytes", "special_tokens: <s>: want each token once",
			"special_tokens: \xff<>: want two bytes"}},
		{"a file's own vocabulary", func(c *Config) { *c = Config{Path: "llama.json", EOS: "<|end_of_text|>"} }, nil},
		{"a file without eos", func(c *Config) { *c = Config{Path: "llama.json"} }, []string{`eos: ""`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Default()
			c.edit(&cfg)
			var got []string
			if err := cfg.Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(c.want) {
				t.Fatalf("got %d problems: %q, want %d", len(got), got, len(c.want))
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("problem %d: %q, want %q…", i, got[i], want)
				}
			}
		})
	}
}
