// Package trace walks the order of a run's data both ways: from a step to the text of its batch and the documents it came
// from, and from a document to the steps that see it. It reads shards; nothing needs to have been trained.
package trace

import (
	"fmt"

	"pretrain/data"
	"pretrain/data/mix"
	"pretrain/data/pack"
	"pretrain/data/shard"
)

// Source is a source of a plan.
type Source struct {
	Corpus *shard.Corpus
	// Mask is what its loss is limited to; nil: nothing.
	Mask pack.Mask
}

// Tracer is a plan with the shards that it draws from.
type Tracer struct {
	Plan *mix.Plan
	// Sources by name, all of the plan's.
	Sources map[string]Source
	// Decode is the text of tokens.
	Decode func(tokens []uint32) string
}

// Sequence is one sequence of a batch.
type Sequence struct {
	Index  int     `json:"index"` // in the batch
	Source string  `json:"source"`
	Epoch  int     `json:"epoch"`  // of its source, from 0
	Tokens int     `json:"tokens"` // T inputs and one more target; fewer where best_fit pads
	Pieces []Piece `json:"pieces"`
}

// Document is where a document comes from and what is known about it.
type Document struct {
	Source string `json:"source"`
	// Number is its place in the source's shard, from 0.
	Number int `json:"number"`
	// ID and Path are "" in a shard of another tool, which keeps no names.
	ID   string `json:"id"`
	Path string `json:"path"`
	Line int64  `json:"line,omitempty"` // or row, from 1; 0: the whole file
	data.Attributes
	// Tokens is its length.
	Tokens int `json:"document_tokens"`
}

// Piece is a part of a document in a sequence.
type Piece struct {
	Document
	// Offset and Length are the part, in tokens.
	Offset int `json:"offset"`
	Length int `json:"length"`
	// Counted is how many of its tokens `loss` lets count as targets.
	Counted int    `json:"counted"`
	Text    string `json:"text"`
}

// Sequences are those of a step's batch from place from on, n of them at most.
func (t Tracer) Sequences(step int64, from, n int) ([]Sequence, error) {
	total, _ := t.Plan.SequencesAt(step)
	names := t.Plan.Sources()
	var out []Sequence
	for i := from; i < min(from+n, total); i++ {
		s, err := t.Plan.Sequence(step, i)
		if err != nil {
			return nil, err
		}
		seq := Sequence{Index: i, Source: names[s.Source], Epoch: s.Epoch}
		for _, segment := range s.Segments {
			p, err := t.piece(seq.Source, segment)
			if err != nil {
				return nil, fmt.Errorf("step %d, sequence %d: %w", step, i, err)
			}
			seq.Tokens += segment.Len
			seq.Pieces = append(seq.Pieces, p)
		}
		out = append(out, seq)
	}
	return out, nil
}

func (t Tracer) piece(source string, s pack.Segment) (Piece, error) {
	from := t.Sources[source]
	d, err := t.document(source, s.Doc)
	if err != nil {
		return Piece{}, err
	}
	tokens := make([]uint32, s.Len)
	if err := from.Corpus.Read(tokens, s.Doc, s.Offset); err != nil {
		return Piece{}, err
	}
	p := Piece{Document: d, Offset: s.Offset, Length: s.Len, Counted: s.Len, Text: t.Decode(tokens)}
	if from.Mask != nil {
		counts := make([]bool, s.Len)
		if err := from.Mask.ReadMask(counts, s.Doc, s.Offset); err != nil {
			return Piece{}, err
		}
		p.Counted = 0
		for _, c := range counts {
			if c {
				p.Counted++
			}
		}
	}
	return p, nil
}

func (t Tracer) document(source string, number int) (Document, error) {
	corpus := t.Sources[source].Corpus
	d := Document{Source: source, Number: number, Tokens: int(corpus.Offset(number+1) - corpus.Offset(number))}
	if !corpus.HasDocs() {
		return d, nil
	}
	from, err := corpus.Doc(int64(number))
	d.ID, d.Path, d.Line, d.Attributes = from.ID, from.Path, from.Line, from.Attributes
	return d, err
}

// Occurrences is a document, and the places of the plan that have a part of it.
type Occurrences struct {
	Document
	Seen []mix.Occurrence `json:"seen"`
}

// Find lists the documents of an id, and when each is seen. Where source is not "" only its documents are looked through.
// The id of a document in a shard without names is its number.
func (t Tracer) Find(id, source string) ([]Occurrences, error) {
	var out []Occurrences
	for _, name := range t.Plan.Sources() {
		if source != "" && name != source {
			continue
		}
		numbers, err := t.Sources[name].Corpus.Lookup(id)
		if err != nil {
			return nil, err
		}
		for _, n := range numbers {
			o := Occurrences{}
			if o.Document, err = t.document(name, int(n)); err != nil {
				return nil, err
			}
			if o.Seen, err = t.Plan.StepsOf(name, int(n)); err != nil {
				return nil, err
			}
			out = append(out, o)
		}
	}
	return out, nil
}
