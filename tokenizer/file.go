package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
)

// file is the part of tokenizer.json read here.
type file struct {
	Version     string       `json:"version"`
	AddedTokens []addedToken `json:"added_tokens"`
	Decoder     decoder      `json:"decoder"`
	Model       struct {
		Type   string            `json:"type"`
		Vocab  map[string]uint32 `json:"vocab"`
		Merges []merge           `json:"merges"`
	} `json:"model"`
}

type addedToken struct {
	ID      uint32 `json:"id"`
	Content string `json:"content"`
	Special bool   `json:"special"`
}

// merge is a pair of tokens, written ["a","b"] or, in older files, "a b".
type merge [2]string

func (m *merge) UnmarshalJSON(data []byte) error {
	var pair []string
	if data[0] == '"' {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return err
		}
		pair = strings.Split(s, " ")
	} else if err := json.Unmarshal(data, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("merge %s: want two tokens", data)
	}
	*m = merge(pair)
	return nil
}

// decodeFile reads tokenizer.json and checks that it is one and that its merges fit its vocabulary.
func decodeFile(data []byte) (*file, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("not a tokenizer.json: %w", err)
	}
	if f.Version != "1.0" {
		return nil, fmt.Errorf(`tokenizer.json has version %q, this program reads "1.0"`, f.Version)
	}
	if f.Model.Type != "BPE" {
		return nil, fmt.Errorf("tokenizer.json holds a model of type %q, this program reads BPE", f.Model.Type)
	}
	return &f, f.checkMerges()
}

func (f *file) checkMerges() error {
	for i, m := range f.Model.Merges {
		for _, token := range []string{m[0], m[1], m[0] + m[1]} {
			if _, ok := f.Model.Vocab[token]; !ok {
				return fmt.Errorf("merge %d of tokenizer.json needs token %q, which is not in its vocabulary", i, token)
			}
		}
	}
	return nil
}

// tokens lists the tokens by id, which must be 0, 1, 2, … without a gap or a double: an embedding has a row for each.
func (f *file) tokens() ([]string, error) {
	ids := maps.Clone(f.Model.Vocab)
	for _, a := range f.AddedTokens {
		if id, ok := ids[a.Content]; ok && id != a.ID {
			return nil, fmt.Errorf("token %q of tokenizer.json has two ids, %d and %d", a.Content, id, a.ID)
		} else if !ok && ids != nil {
			ids[a.Content] = a.ID
		}
	}
	if len(ids) == 0 {
		return nil, errors.New("tokenizer.json has an empty vocabulary")
	}
	tokens := make([]string, len(ids))
	taken := make([]bool, len(ids))
	for token, id := range ids {
		if int64(id) >= int64(len(ids)) || taken[id] {
			return nil, fmt.Errorf("the ids of tokenizer.json do not run from 0 to %d without a gap or a double (token %q has %d)",
				len(ids)-1, token, id)
		}
		tokens[id], taken[id] = token, true
	}
	return tokens, nil
}
