package pack_test

import (
	"slices"
	"testing"

	"pretrain/data/pack"
	"pretrain/internal/prng"
)

// vast is n documents of 5 to 95 tokens, 50 on average: two that follow each other hold 100 together.
type vast int

func (n vast) Docs() int { return int(n) }

func (n vast) Offset(doc int) int64 {
	at := int64(doc/2) * 100
	if doc%2 == 1 {
		at += 5 + int64(doc/2*7919%91)
	}
	return at
}

// In a source too large to walk, documents and rows drawn at random: every token of a document is a target once in each epoch, and
// a row's documents lead back to it.
func TestCoverageOfALargeSource(t *testing.T) {
	const T, docs, draws = 64, 300, 300
	k := prng.New(12)
	open := func(l pack.Layout, err error) pack.Layout {
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	for name, c := range map[string]struct {
		size   int
		layout func(vast) pack.Layout
	}{
		"concat":   {10_000_000, func(v vast) pack.Layout { return open(pack.NewConcat(v, T, prng.New(5))) }},
		"best_fit": {300_000, func(v vast) pack.Layout { return open(pack.NewBestFit(v, T, prng.New(5))) }},
	} {
		v := vast(c.size)
		l := c.layout(v)
		for i := range docs {
			doc := int(k.Uint64At(uint64(i)) % uint64(v.Docs()))
			length := int(v.Offset(doc+1) - v.Offset(doc))
			for epoch := range 3 {
				seen := make([]int, length)
				for _, row := range l.Rows(doc, epoch) {
					first := true
					for _, s := range l.Append(nil, row) {
						for o := range s.Len {
							if s.Doc == doc && !first && (o > 0 || s.Offset == 0) {
								seen[s.Offset+o]++
							}
							first = false
						}
					}
				}
				want := slices.Repeat([]int{1}, length)
				if name == "best_fit" { // the first of a row has nothing before it
					want[0] = seen[0]
				}
				if !slices.Equal(seen, want) {
					t.Fatalf("%s: document %d, epoch %d: its tokens are targets %v times", name, doc, epoch, seen)
				}
			}
		}
		for i := range draws {
			row := int64(k.Uint64At(1<<20+uint64(i)) % uint64(l.RowsBefore(3)))
			for _, s := range l.Append(nil, row) {
				e := l.Epoch(row)
				if !slices.Contains(l.Rows(s.Doc, e), row) && !slices.Contains(l.Rows(s.Doc, e+1), row) {
					t.Fatalf("%s: row %d holds document %d, whose rows are %v", name, row, s.Doc, l.Rows(s.Doc, e))
				}
			}
		}
	}
}
