package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Vocab is what a tokenizer.json says apart from how to encode: the tokens and their bytes. It is immutable. Read are
// byte-level BPE (ours, GPT-2, Llama 3, Qwen) and SentencePiece-style BPE with byte fallback (Llama 2, MiniCPM).
type Vocab struct {
	hash    string
	pieces  []string // the bytes of each token, by id
	special map[string]uint32
	names   []string // the special tokens by id; "" for the others
	bos     uint32
	hasBOS  bool
	eos     uint32
	// trimSpace: the text begins with a space that encoding put there (SentencePiece's dummy prefix).
	trimSpace bool
}

// FileName is the file that a tokenizer is in a folder.
const FileName = "tokenizer.json"

// File is the file that a path to a tokenizer means: itself, or the one in that folder.
func File(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return filepath.Join(path, FileName)
	}
	return path
}

// Parse reads the contents of a tokenizer.json. bos (which may be "") and eos name two of its special tokens: the file
// itself does not say which they are.
func Parse(data []byte, bos, eos string) (*Vocab, error) {
	v, _, err := parse(data, bos, eos)
	return v, err
}

// ParseTrained reads a tokenizer.json just trained from cfg, and refuses one that has another size or a special token that
// ordinary text could spell.
func ParseTrained(data []byte, cfg Config) (*Vocab, error) {
	v, f, err := parse(data, cfg.BOS, cfg.EOS)
	if err != nil {
		return nil, fmt.Errorf("the trained tokenizer does not read back: %w", err)
	}
	for _, m := range f.Model.Merges {
		if _, ok := v.special[m[0]+m[1]]; ok {
			return nil, fmt.Errorf("special token %q is an ordinary word of the text, which could not be told from it: "+
				"change tokenizer.special_tokens, for example to %q", m[0]+m[1], "<|"+m[0]+m[1]+"|>")
		}
	}
	if n := v.VocabSize(); n != cfg.VocabSize {
		return nil, fmt.Errorf("the text gives %d tokens, tokenizer.vocab_size asks for %d: give more text, or set tokenizer.vocab_size to %d",
			n, cfg.VocabSize, n)
	}
	return v, nil
}

func parse(data []byte, bos, eos string) (*Vocab, *file, error) {
	f, err := decodeFile(data)
	if err != nil {
		return nil, nil, err
	}
	v, err := f.vocab(bos, eos)
	if err != nil {
		return nil, nil, err
	}
	sum := sha256.Sum256(data)
	v.hash = hex.EncodeToString(sum[:])
	return v, f, nil
}

func (f *file) vocab(bos, eos string) (*Vocab, error) {
	decode, trimSpace, err := f.Decoder.piece()
	if err != nil {
		return nil, err
	}
	tokens, err := f.tokens()
	if err != nil {
		return nil, err
	}
	v := &Vocab{
		pieces:    make([]string, len(tokens)),
		special:   map[string]uint32{},
		names:     make([]string, len(tokens)),
		trimSpace: trimSpace,
	}
	for id, token := range tokens {
		v.pieces[id] = decode(token)
	}
	for _, a := range f.AddedTokens {
		v.pieces[a.ID] = a.Content
		if a.Special {
			v.special[a.Content], v.names[a.ID] = a.ID, a.Content
		}
	}
	if v.eos, err = v.role("eos", eos); err != nil {
		return nil, err
	}
	if v.hasBOS = bos != ""; v.hasBOS {
		if v.bos, err = v.role("bos", bos); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func (v *Vocab) role(key, name string) (uint32, error) {
	id, ok := v.special[name]
	if !ok {
		return 0, fmt.Errorf("no special token %q in tokenizer.json: set tokenizer.%s to one of its own: %s",
			name, key, strings.Join(slices.Sorted(maps.Keys(v.special)), " "))
	}
	return id, nil
}

// VocabSize is the number of tokens, special ones included; ids are 0 … VocabSize-1.
func (v *Vocab) VocabSize() int { return len(v.pieces) }

// Hash is the SHA-256 of the file in hex.
func (v *Vocab) Hash() string { return v.hash }

// BOS is the token that begins a document, if there is one.
func (v *Vocab) BOS() (id uint32, ok bool) { return v.bos, v.hasBOS }

// EOS is the token that ends a document.
func (v *Vocab) EOS() uint32 { return v.eos }

// Special finds a special token by name.
func (v *Vocab) Special(name string) (id uint32, ok bool) {
	id, ok = v.special[name]
	return id, ok
}

// IsSpecial reports whether id is a special token, which has a name but stands for no text.
func (v *Vocab) IsSpecial(id uint32) bool { return int(id) < len(v.names) && v.names[id] != "" }

// Bytes is the text of one token: not always whole characters. An id beyond the vocabulary, which a model with a padded
// embedding can produce, is U+FFFD.
func (v *Vocab) Bytes(id uint32) string {
	if int(id) >= len(v.pieces) {
		return "\uFFFD"
	}
	return v.pieces[id]
}

// Decode returns the text of ids, byte for byte what was encoded; special tokens appear by name. Unlike upstream's
// decoder it neither replaces bytes that are not UTF-8 nor stops at NUL.
func (v *Vocab) Decode(ids []uint32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(v.Bytes(id))
	}
	if v.trimSpace {
		return strings.TrimPrefix(b.String(), " ")
	}
	return b.String()
}
