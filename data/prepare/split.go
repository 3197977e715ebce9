package prepare

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"pretrain/data"
	"pretrain/data/holdout"
	"pretrain/data/read"
)

// split decides which documents are held out and which of the others train the tokenizer. It is a pure function of the
// set of texts: their order, their ids and the files they are in do not matter.
type split struct {
	// heldOut: a document whose hash is at most this is for validation.
	heldOut uint64
	// tail > 0: all documents are one text, whose last bytes are for validation instead.
	tail int
	// sample: a training document whose second hash is at most this trains the tokenizer.
	sample uint64
	report read.Report
}

// part is a document with its side.
type part struct {
	data.Document
	validation bool
}

// scan reads a source once to find its split.
func scan(ctx context.Context, source *read.Source, chat bool, c Config, progress func(Progress)) (*split, error) {
	s := new(split)
	picked := holdout.NewLowest(holdout.Below(float64(c.ValidationFraction)), int64(c.ValidationMax))
	first, distinct, least := uint64(0), false, uint64(math.MaxUint64)
	var longest int
	for d, err := range source.Documents(ctx, &s.report) {
		if err != nil {
			return nil, err
		}
		if d.Text == "" && !chat {
			return nil, fmt.Errorf("%s: document %s is a conversation, not text: give the source format: chat", d.Path, d.ID)
		}
		text := d.Plain()
		h := holdout.Hash(text)
		if s.report.Documents == 1 {
			first = h
		}
		distinct = distinct || h != first
		least, longest = min(least, h), max(longest, len(text))
		picked.Add(h, int64(len(text)))
		progress(Progress{Scan, s.report.RawBytes, source.Bytes()})
	}
	highest, some := picked.Highest()
	switch {
	case s.report.Documents == 0:
		return nil, fmt.Errorf("%w: %s", errEmpty, s.report.String())
	case !distinct && chat:
		return nil, errors.New("all conversations are the same, so none can be held out: give more data")
	case !distinct:
		s.tail = max(1, int(min(float64(longest)*float64(c.ValidationFraction), float64(c.ValidationMax))))
	case some:
		s.heldOut = highest
	default:
		s.heldOut = least
	}
	s.sample = holdout.Below(float64(c.TokenizerSample) / float64(s.report.Bytes))
	return s, nil
}

var errEmpty = errors.New("the corpus is empty")

// documents reads the source again, with the side of each document. It fails if the source is no longer what scan saw.
func (s *split) documents(ctx context.Context, source *read.Source) iter.Seq2[part, error] {
	return func(yield func(part, error) bool) {
		var report read.Report
		for d, err := range source.Documents(ctx, &report) {
			if err != nil {
				yield(part{}, err)
				return
			}
			if s.tail > 0 {
				head, tail := cut(d, s.tail)
				if head.Text != "" && !yield(part{head, false}, nil) || tail.Text != "" && !yield(part{tail, true}, nil) {
					return
				}
			} else if !yield(part{d, holdout.Hash(d.Plain()) <= s.heldOut}, nil) {
				return
			}
		}
		if report.Documents != s.report.Documents || report.Bytes != s.report.Bytes {
			yield(part{}, fmt.Errorf("the source changed while it was read: %s, then %s", s.report.String(), report.String()))
		}
	}
}

// samples is the training texts that the tokenizer is trained on. *failed gets the error that ended a reading early.
func (s *split) samples(ctx context.Context, source *read.Source, failed *error) iter.Seq[string] {
	return func(yield func(string) bool) {
		for d, err := range s.documents(ctx, source) {
			if err != nil {
				*failed = err
				return
			}
			// Another seed than the split's: held-out documents have the lowest hashes, and the sample is to be of the others.
			if !d.validation && xxh3.HashStringSeed(d.Plain(), 1) <= s.sample && !yield(d.Plain()) {
				return
			}
		}
	}
}

// cut splits off the last tail bytes of a document, a little more or less: at a line end if there is one.
func cut(d data.Document, tail int) (head, rest data.Document) {
	at := max(0, len(d.Text)-tail)
	if line := strings.LastIndexByte(d.Text[:at], '\n'); line >= 0 {
		at = line + 1
	}
	for at < len(d.Text) && !utf8.RuneStart(d.Text[at]) {
		at++
	}
	head, rest = d, d
	head.Text, head.ID = d.Text[:at], d.ID+"#head"
	rest.Text, rest.ID = d.Text[at:], d.ID+"#tail"
	return head, rest
}
