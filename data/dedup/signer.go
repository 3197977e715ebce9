package dedup

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"pretrain/data"
)

// The files of a signed folder beside its runs.
const (
	signatureFile = "signatures" // the short signature of each document, all of one length
	nameFile      = "names"      // the name of each document, SOURCE:ID, back to back
	nameIndexFile = "names.idx"  // where each name ends, uint64 little-endian
)

// Signer is the first phase: it takes the documents of one file, in order, and writes their keys into a folder. One goroutine
// uses it at a time.
type Signer struct {
	c          Config
	file       uint32
	next       uint32
	hasher     *Hasher
	normal     []byte
	records    *sorter
	signatures *output
	names      *output
	nameIndex  *output
	nameEnd    uint64
}

// NewSigner makes the Signer of a file, writing into dir, which exists and is empty. File numbers decide which document is
// the first of several.
func NewSigner(dir string, file uint32, c Config) (*Signer, error) {
	s := &Signer{c: c, file: file, records: newSorter(dir, int64(c.Memory))}
	if c.MinHash.Enabled {
		s.hasher = NewHasher(c.MinHash)
	}
	var errs []error
	for name, out := range map[string]**output{signatureFile: &s.signatures, nameFile: &s.names, nameIndexFile: &s.nameIndex} {
		o, err := newOutput(filepath.Join(dir, name))
		*out = o
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Add signs a document. Index counts up from 0 without gaps. Of a conversation the text is its messages with their roles.
func (s *Signer) Add(index uint32, d *data.Document) error {
	if index != s.next {
		return fmt.Errorf("sign documents: document %d of file %d follows document %d", index, s.file, int64(s.next)-1)
	}
	s.next++
	text := textOf(d)
	r := record{id: uint64(s.file)<<32 | uint64(index), score: float32(math.Inf(-1))}
	if score, ok := d.Number(s.c.Keep); ok && s.c.Keep != "" {
		r.score = float32(score)
	}
	var scope uint64
	if s.c.Scope == Source {
		scope = xxh3.HashString(d.Source)
	}
	add := func(h xxh3.Uint128, k kind) error {
		h.Hi ^= scope
		r.key = keyOf(h, k)
		return s.records.add(r)
	}
	s.normal = normalise(s.normal[:0], text)
	if s.c.Exact {
		if err := add(xxh3.Hash128(s.normal), exactKey); err != nil {
			return err
		}
	}
	if s.hasher != nil {
		var signature []uint64
		if s.hasher.reset(); len(d.Messages) == 0 || s.c.MinHash.Chat {
			signature = s.hasher.Signature(text)
		}
		for band := range s.c.MinHash.Bands {
			if signature == nil {
				break
			}
			if err := add(s.hasher.bandKey(signature, band), nearKey); err != nil {
				return err
			}
		}
		if signature == nil {
			signature = s.hasher.min[:s.hasher.size()] // all ones; no pair of such documents is ever compared
		}
		s.signatures.Write(short(signature))
	}
	if s.c.Paragraph.Enabled && len(d.Messages) == 0 {
		for sub, p := range s.c.Paragraph.paragraphs(text) {
			s.normal = normalise(s.normal[:0], p)
			r.sub = uint32(sub)
			if err := add(xxh3.Hash128(s.normal), paragraphKey); err != nil {
				return err
			}
		}
	}
	name := d.Source + ":" + d.ID
	s.names.WriteString(name)
	s.nameEnd += uint64(len(name))
	s.nameIndex.Write(binary.LittleEndian.AppendUint64(nil, s.nameEnd))
	return nil
}

// Close writes what is left. The folder is complete when it returns nil.
func (s *Signer) Close() error {
	err := s.records.flush()
	for _, o := range []*output{s.signatures, s.names, s.nameIndex} {
		if o != nil {
			err = errors.Join(err, o.finish())
		}
	}
	return err
}

// textOf is the text that is compared.
func textOf(d *data.Document) string {
	if len(d.Messages) == 0 {
		return d.Text
	}
	var b strings.Builder
	for _, m := range d.Messages {
		b.WriteString(m.Role)
		b.WriteByte('\n')
		b.WriteString(m.Content)
		b.WriteByte('\n')
	}
	return b.String()
}

// normalise appends text with ASCII letters in lower case and each stretch of white space as one space, none at the ends.
// The white space beyond ASCII is what Unicode normalisation has made plain before.
func normalise(out []byte, text string) []byte {
	start, space := len(out), false
	for i := range len(text) {
		c := text[i]
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			space = true
			continue
		case c >= 'A' && c <= 'Z':
			c |= 0x20
		}
		if space {
			if len(out) > start {
				out = append(out, ' ')
			}
			space = false
		}
		out = append(out, c)
	}
	return out
}

// paragraphs iterates over the paragraphs of text that are long enough, with their positions among all of them. It stops at
// the four-billionth.
func (c Paragraph) paragraphs(text string) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		sub := 0
		for p := range c.split(text) {
			if sub == math.MaxUint32 {
				return
			}
			// A character has one byte at least, so most short ones need no counting.
			if trimmed := strings.TrimSpace(p); len(trimmed) >= c.MinChars && utf8.RuneCountInString(trimmed) >= c.MinChars {
				if !yield(sub, p) {
					return
				}
			}
			sub++
		}
	}
}

// split cuts text into paragraphs, each with what parts it from the next: joined they are the text.
func (c Paragraph) split(text string) func(yield func(string) bool) {
	if c.Split == Line {
		return strings.SplitAfterSeq(text, "\n")
	}
	return func(yield func(string) bool) {
		start := 0
		for pos := 0; pos < len(text); {
			end := strings.IndexByte(text[pos:], '\n')
			if end < 0 {
				break
			}
			next := pos + end + 1
			blank := next // after the blank lines that follow
			for blank < len(text) {
				e := strings.IndexByte(text[blank:], '\n')
				if e < 0 || strings.TrimSpace(text[blank:blank+e]) != "" {
					break
				}
				blank += e + 1
			}
			if blank > next {
				if !yield(text[start:blank]) {
					return
				}
				start = blank
			}
			pos = blank
		}
		if start < len(text) {
			yield(text[start:])
		}
	}
}

// output is a buffered file that keeps its first error until the end.
type output struct {
	*bufio.Writer
	file *os.File
}

func newOutput(path string) (*output, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &output{bufio.NewWriterSize(f, bufferSize), f}, nil
}

func (o *output) finish() error {
	return errors.Join(o.Flush(), o.file.Close())
}
