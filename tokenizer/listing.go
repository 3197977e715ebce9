package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Listing is a byte-level BPE spelled out, for formats that carry the tokenizer inside, such as GGUF.
type Listing struct {
	// Tokens by id, as tokenizer.json spells them: bytes in GPT-2's alphabet, special tokens by name.
	Tokens []string
	// Special says which are special tokens.
	Special []bool
	// Merges in their order, most important first.
	Merges [][2]string
	// IgnoreMerges: a pre-token that is a token as it stands is not built from merges.
	IgnoreMerges bool
}

// List spells out the contents of a tokenizer.json. The error names what makes it no byte-level BPE that cuts text by
// [Pattern]: elsewhere such a tokenizer would give other tokens.
func List(data []byte) (*Listing, error) {
	f, err := decodeFile(data)
	if err != nil {
		return nil, err
	}
	var rest struct {
		Normalizer   any `json:"normalizer"`
		PreTokenizer struct {
			Pretokenizers []struct {
				Type    string `json:"type"`
				Pattern struct {
					Regex string `json:"Regex"`
				} `json:"pattern"`
				AddPrefixSpace bool `json:"add_prefix_space"`
			} `json:"pretokenizers"`
		} `json:"pre_tokenizer"`
		Model struct {
			IgnoreMerges bool `json:"ignore_merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &rest); err != nil {
		return nil, fmt.Errorf("not a tokenizer.json: %w", err)
	}
	steps := rest.PreTokenizer.Pretokenizers
	if f.Decoder.Type != "ByteLevel" || rest.Normalizer != nil || len(steps) != 2 || steps[0].Pattern.Regex != Pattern ||
		steps[1].Type != "ByteLevel" || steps[1].AddPrefixSpace {
		return nil, errors.New("tokenizer.json is not a byte-level BPE that cuts text by this program's pattern (Llama 3's)")
	}
	l := &Listing{IgnoreMerges: rest.Model.IgnoreMerges}
	if l.Tokens, err = f.tokens(); err != nil {
		return nil, err
	}
	l.Special = make([]bool, len(l.Tokens))
	for _, a := range f.AddedTokens {
		if !a.Special {
			return nil, fmt.Errorf("token %q of tokenizer.json is added and not special: it would be found in other ways elsewhere", a.Content)
		}
		l.Special[a.ID] = true
	}
	for _, m := range f.Model.Merges {
		l.Merges = append(l.Merges, m)
	}
	return l, nil
}
