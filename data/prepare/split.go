package prepare

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"pretrain/data"
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
	picked := newLowest(scale(float64(c.ValidationFraction)), int64(c.ValidationMax))
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
		h := xxh3.HashString(text)
		if s.report.Documents == 1 {
			first = h
		}
		distinct = distinct || h != first
		least, longest = min(least, h), max(longest, len(text))
		picked.add(h, int64(len(text)))
		progress(Progress{Scan, s.report.RawBytes, source.Bytes()})
	}
	switch {
	case s.report.Documents == 0:
		return nil, fmt.Errorf("%w: %s", errEmpty, s.report.String())
	case !distinct && chat:
		return nil, errors.New("all conversations are the same, so none can be held out: give more data")
	case !distinct:
		s.tail = max(1, int(min(float64(longest)*float64(c.ValidationFraction), float64(c.ValidationMax))))
	case len(picked.items) > 0:
		s.heldOut = picked.items[0].hash
	default:
		s.heldOut = least
	}
	s.sample = scale(float64(c.TokenizerSample) / float64(s.report.Bytes))
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
			} else if !yield(part{d, xxh3.HashString(d.Plain()) <= s.heldOut}, nil) {
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

// scale is the hash below which the fraction f of all hashes lies.
func scale(f float64) uint64 {
	if f >= 1 {
		return math.MaxUint64
	}
	return uint64(f * math.MaxUint64)
}

// candidate is a document that may be held out.
type candidate struct {
	hash uint64
	size int64
}

// lowest keeps the documents with the lowest hashes whose sizes sum up to at most max, but always one: a heap, the
// highest hash first.
type lowest struct {
	items []candidate
	limit uint64 // only hashes below it are of interest
	least uint64 // the lowest seen below it; it always stays
	max   int64
	total int64
}

func newLowest(limit uint64, max int64) *lowest {
	return &lowest{limit: limit, least: math.MaxUint64, max: max}
}

// add considers one document.
func (l *lowest) add(hash uint64, size int64) {
	if hash >= l.limit {
		return
	}
	heap.Push(l, candidate{hash, size})
	l.least = min(l.least, hash)
	for l.total > l.max && l.items[0].hash > l.least {
		// Duplicates of the one that goes, go too; and nothing above it may come back, or the rest would be no prefix.
		for l.limit = l.items[0].hash; l.items[0].hash == l.limit; {
			heap.Pop(l)
		}
	}
}

func (l *lowest) Len() int           { return len(l.items) }
func (l *lowest) Less(i, j int) bool { return l.items[i].hash > l.items[j].hash }
func (l *lowest) Swap(i, j int)      { l.items[i], l.items[j] = l.items[j], l.items[i] }

func (l *lowest) Push(x any) {
	l.items = append(l.items, x.(candidate))
	l.total += x.(candidate).size
}

func (l *lowest) Pop() any {
	last := l.items[len(l.items)-1]
	l.items = l.items[:len(l.items)-1]
	l.total -= last.size
	return last
}
