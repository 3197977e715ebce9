// Package shard writes and reads tokenised documents in the format of Megatron-LM's indexed dataset (MMIDIDX, version 1),
// so that other tools read our shards and we theirs.
//
// A shard is a set of files with one prefix:
//
//	x.bin   the tokens of all documents, back to back, little-endian uint16 or int32
//	x.idx   Megatron's index: where each document begins and ends. It is written last: without it there is no shard
//	x.docs  ours: for each document its id, file, line, attributes and the bytes of its text (rows of fixed size)
//	x.ids   ours: the strings x.docs points to
//	x.mask  ours, of conversations only: one bit a token, whether the assistant says it (`loss: assistant`)
//	x.json  ours: the [Manifest]
//
// A shard made by another tool has only the first two. A shard never changes once it is committed.
//
// Files are read with pread, not mapped. Mapped reads of 4 KiB are twice as fast (0.65 µs against 1.3 µs, which is
// 1.5 G tokens/s), but a map of a file that shrinks kills the process with SIGBUS, and reads zeros where it is cut within
// a page: wrong training data without an error.
package shard

import (
	"fmt"

	"pretrain/data"
)

// DType is how a shard stores a token, with Megatron's code for it.
type DType uint8

// The types of Megatron's DType enumeration that hold tokens. It has no uint32, so vocabularies above 65,536 take int32,
// as Megatron itself does.
const (
	Int32  DType = 4
	Uint16 DType = 8
)

// DTypeFor is the smallest type that holds every token of a vocabulary.
func DTypeFor(vocabSize int) DType {
	if vocabSize <= 1<<16 {
		return Uint16
	}
	return Int32
}

// Size is the number of bytes of a token.
func (t DType) Size() int64 {
	if t == Uint16 {
		return 2
	}
	return 4
}

func (t DType) String() string {
	switch t {
	case Int32:
		return "int32"
	case Uint16:
		return "uint16"
	}
	return fmt.Sprintf("Megatron dtype %d", uint8(t))
}

// The layout of an .idx file (Megatron-LM, megatron/core/datasets/indexed_dataset.py, _IndexWriter): magic, version
// uint64, dtype uint8, sequences uint64, document indices uint64; then per sequence its length in tokens (int32), per
// sequence its first byte in .bin (int64), and the first sequence of each document plus one end (int64). A sequence is
// a document unless a tool split documents into sentences.
const (
	magic      = "MMIDIDX\x00\x00"
	version    = 1
	headerSize = len(magic) + 8 + 1 + 8 + 8
)

// The layout of a .docs file: docsMagic, then a row of docRowSize bytes for each document: offset of its id and of its
// path in .ids (uint64), bytes of its text and line (uint64), length of id and of path (uint32), offset of its attributes
// in .ids (uint64) and their length (uint32; 0: there are none).
const (
	docsMagic  = "PTDOCS\x00\x02"
	docRowSize = 52
)

// The layout of a .mask file: maskMagic, then the bit of token i as bit i%8, from the lowest, of byte i/8.
const maskMagic = "PTMASK\x00\x01"

// Doc is where a document of a shard came from.
type Doc struct {
	ID   string // the document's id within its source
	Path string // the file it came from, relative to its source
	Line int64  // line or row in it, from 1; 0: the whole file
	// Bytes is the size of the text that was tokenised: the denominator of bits per byte.
	Bytes int64
	// Attributes are what was known about the document when it was tokenised.
	Attributes data.Attributes
}

// Manifest is the record a shard keeps of itself, in x.json.
type Manifest struct {
	Version   int    `json:"version"`
	DType     string `json:"dtype"`
	VocabSize int    `json:"vocab_size"`
	Tokenizer string `json:"tokenizer"` // [HashTokenizer] of the tokenizer.json that made the tokens
	Source    string `json:"source"`    // fingerprint of the raw data
	// Template is the chat template that wrote conversations as text, and says that there is a .mask; "" for plain text.
	Template  string `json:"template,omitempty"`
	Documents int64  `json:"documents"`
	Tokens    int64  `json:"tokens"`
	Bytes     int64  `json:"bytes"` // of text, before tokenisation
	// Files holds size and xxh3-128 of each of the other files, by extension (".bin").
	Files map[string]FileSum `json:"files"`
}

// manifestVersion changes with the layout of the files that are ours.
const manifestVersion = 2

// FileSum identifies a file's content.
type FileSum struct {
	Size int64  `json:"size"`
	XXH3 string `json:"xxh3"`
}
