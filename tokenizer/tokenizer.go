// Package tokenizer is what the rest of the program knows of tokens: the [Tokenizer] interface, and tokenizer.json read
// without cgo ([Vocab]: size, hash, special tokens, decoding). Encoding and training need the Rust library and live in
// tokenizer/hf.
//
//	json, err := os.ReadFile("tokenizer.json")
//	...
//	vocab, err := tokenizer.Parse(json, "<s>", "</s>") // or hf.New, to encode as well
//	...
//	text := vocab.Decode(ids)
package tokenizer

import (
	"context"
	"iter"
)

// Pattern cuts text into pre-tokens, which no token crosses: Llama 3's expression, letter for letter, so that an exported
// model finds its pre-tokenizer under a known name (in GGUF "smaug-bpe", which cuts like "llama-bpe" and unlike it heeds the merges).
// Why it suits code, Chinese and English:
//
//   - \p{N}{1,3}: digits go in groups of at most three. Otherwise the vocabulary fills with the years and constants of the
//     corpus, and neighbouring numbers are cut at different places; so 1,110 tokens spell every number, and digit k of a
//     number sits at a predictable place of a token.
//   - One character other than a letter, digit or line break joins the word after it: " the", "_id", ".Println", "(x" cost
//     one token.
//   - Line breaks end a pre-token and stay with the punctuation or indentation before them: "{\n", ")\n\n"; indentation is
//     one token, and its last space or tab goes to the word.
//   - A run of Chinese is one pre-token up to the next punctuation, so a token can be a word of any length; BPE, not the
//     pattern, finds the words.
const Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

// Tokenizer turns text into token ids and back. Implementations are safe for concurrent use.
type Tokenizer interface {
	// Encode returns the ids of text. It adds no special tokens and finds none: "</s>" in a document is four characters.
	// A byte-level tokenizer is exact on any bytes, NUL and invalid UTF-8 included: Decode(Encode(s)) == s. Other kinds
	// read invalid UTF-8 as U+FFFD.
	Encode(text string) ([]uint32, error)
	// EncodeBatch encodes texts in parallel; the ids are those of Encode. It stops early with ctx's error. The slices
	// share memory.
	EncodeBatch(ctx context.Context, texts []string) ([][]uint32, error)
	// Decode returns the text of ids, special tokens by name. See [Vocab.Decode].
	Decode(ids []uint32) string
	// VocabSize is the number of tokens, special ones included; ids are 0 … VocabSize-1.
	VocabSize() int
	// Special finds a special token by name, such as "<|im_start|>".
	Special(name string) (id uint32, ok bool)
	// BOS is the token that begins a document, if there is one.
	BOS() (id uint32, ok bool)
	// EOS is the token that ends a document.
	EOS() uint32
	// Hash identifies the tokenizer: the SHA-256 of tokenizer.json in hex. Shards and checkpoints record it and refuse
	// another.
	Hash() string
}

// Batches groups texts in order into batches of at least size bytes (the last may be smaller), for
// [Tokenizer.EncodeBatch]. A batch is the receiver's to keep.
func Batches(texts iter.Seq[string], size int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		var batch []string
		n := 0
		for text := range texts {
			batch = append(batch, text)
			if n += len(text); n >= size {
				if !yield(batch) {
					return
				}
				batch, n = nil, 0
			}
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}
