package pack_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"pretrain/data/pack"
	"pretrain/internal/prng"
)

// corpus is documents of given lengths; token o of document d is 1000·d + o.
type corpus []int64 // offsets

func newCorpus(lengths ...int) corpus {
	c := corpus{0}
	for _, n := range lengths {
		c = append(c, c[len(c)-1]+int64(n))
	}
	return c
}

func (c corpus) Docs() int            { return len(c) - 1 }
func (c corpus) Offset(doc int) int64 { return c[doc] }
func (c corpus) length(doc int) int   { return int(c[doc+1] - c[doc]) }
func (c corpus) tokens() int64        { return c[len(c)-1] }

func (c corpus) Read(dst []uint32, doc, offset int) error {
	if offset < 0 || offset+len(dst) > c.length(doc) {
		return fmt.Errorf("document %d has %d tokens", doc, c.length(doc))
	}
	for i := range dst {
		dst[i] = uint32(1000*doc + offset + i)
	}
	return nil
}

// drawCorpus has several blocks in a tenth of the draws, and documents of length 0 and 1.
func drawCorpus(t *rapid.T) corpus {
	if n := rapid.IntRange(0, 9).Draw(t, "large"); n == 0 {
		k := prng.New(rapid.Uint64().Draw(t, "lengths"))
		lengths := make([]int, rapid.IntRange(1025, 1100).Draw(t, "docs"))
		for i := range lengths {
			lengths[i] = int(k.Uint64At(uint64(i)) % 12)
		}
		return newCorpus(append(lengths, 1)...)
	}
	return newCorpus(append(rapid.SliceOfN(rapid.IntRange(0, 40), 1, 30).Draw(t, "lengths"), 1)...)
}

type place struct{ doc, offset int }

// Every row is full, no segment is out of its document, and over any epochs every token is an input and a target once an
// epoch, but for the ends: the stream's first token is no target, and the last row runs over by less than a row.
func TestConcatSeesEveryTokenOnceAnEpoch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, T := drawCorpus(t), rapid.IntRange(1, 33).Draw(t, "T")
		l, err := pack.NewConcat(c, T, prng.New(rapid.Uint64().Draw(t, "seed")))
		if err != nil {
			t.Fatal(err)
		}
		epochs := rapid.IntRange(1, 3).Draw(t, "epochs")
		inputs, targets := map[place]int{}, map[place]int{}
		var segments []pack.Segment
		for row := range l.RowsBefore(epochs) {
			if e := l.Epoch(row); row < l.RowsBefore(e) || row >= l.RowsBefore(e+1) {
				t.Fatalf("row %d: epoch %d has rows %d to %d", row, e, l.RowsBefore(e), l.RowsBefore(e+1))
			}
			segments = l.Append(segments[:0], row)
			at := 0
			for _, s := range segments {
				if s.Len < 1 || s.Offset < 0 || s.Offset+s.Len > c.length(s.Doc) {
					t.Fatalf("row %d: segment %+v of a document of %d tokens", row, s, c.length(s.Doc))
				}
				for j := range s.Len {
					if at < T {
						inputs[place{s.Doc, s.Offset + j}]++
					}
					if at > 0 {
						targets[place{s.Doc, s.Offset + j}]++
					}
					at++
				}
			}
			if at != T+1 {
				t.Fatalf("row %d holds %d tokens, want %d", row, at, T+1)
			}
		}
		for name, seen := range map[string]map[place]int{"inputs": inputs, "targets": targets} {
			over, under := 0, 0
			for doc := range c.Docs() {
				for o := range c.length(doc) {
					n := seen[place{doc, o}] - epochs
					over, under = over+max(n, 0), under+max(-n, 0)
				}
			}
			if over > T || under > 1 || name == "inputs" && under > 0 {
				t.Fatalf("%s: %d tokens too often, %d not often enough in %d epochs of %d tokens, T %d", name, over, under, epochs, c.tokens(), T)
			}
		}
	})
}

// Each single epoch is complete too, to within the row it shares with each neighbour.
func TestConcatEpochsAreWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, T := drawCorpus(t), rapid.IntRange(1, 9).Draw(t, "T")
		l, err := pack.NewConcat(c, T, prng.New(3))
		if err != nil {
			t.Fatal(err)
		}
		e := rapid.IntRange(0, 5).Draw(t, "epoch")
		seen, wrong := map[place]int{}, 0
		for row := l.RowsBefore(e); row < l.RowsBefore(e+1); row++ {
			for _, s := range pack.Slice(nil, l.Append(nil, row), 0, T) {
				for j := range s.Len {
					seen[place{s.Doc, s.Offset + j}]++
				}
			}
		}
		for doc := range c.Docs() {
			for o := range c.length(doc) {
				wrong += max(seen[place{doc, o}]-1, 1-seen[place{doc, o}])
			}
		}
		if wrong > 2*(T-1) {
			t.Fatalf("%d of %d tokens missing or twice in epoch %d, T %d", wrong, c.tokens(), e, T)
		}
	})
}

// Documents up to a row are whole, in one row; longer ones are cut with one token of overlap; no target is lost.
func TestBestFitCutsOnlyWhatIsTooLong(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, T := drawCorpus(t), rapid.IntRange(2, 33).Draw(t, "T")
		l, err := pack.NewBestFit(c, T, prng.New(rapid.Uint64().Draw(t, "seed")))
		if err != nil {
			t.Fatal(err)
		}
		e := rapid.IntRange(0, 3).Draw(t, "epoch")
		seen, targets, pieces := map[place]int{}, map[place]int{}, map[int]int{}
		tokens, cut := 0, 0
		for row := l.RowsBefore(e); row < l.RowsBefore(e+1); row++ {
			if l.Epoch(row) != e {
				t.Fatalf("row %d is of epoch %d, want %d", row, l.Epoch(row), e)
			}
			n := 0
			for _, s := range l.Append(nil, row) {
				pieces[s.Doc]++
				for j := range s.Len {
					seen[place{s.Doc, s.Offset + j}]++
					if j > 0 {
						targets[place{s.Doc, s.Offset + j}]++
					}
				}
				n += s.Len
			}
			if n < 1 || n > T+1 {
				t.Fatalf("row %d holds %d tokens, want 1 to %d", row, n, T+1)
			}
			tokens += n
		}
		for doc := range c.Docs() {
			long := c.length(doc) > T+1
			if long {
				cut++
			}
			if c.length(doc) > 0 && (pieces[doc] > 1) != long {
				t.Fatalf("document of %d tokens is in %d pieces, T %d", c.length(doc), pieces[doc], T)
			}
			for o := range c.length(doc) {
				if p := (place{doc, o}); seen[p] < 1 || !long && seen[p] != 1 || o > 0 && targets[p] != 1 {
					t.Fatalf("token %d of a document of %d is there %d times, a target %d times, T %d", o, c.length(doc), seen[p], targets[p], T)
				}
			}
		}
		w := l.Waste()
		if w.Tokens != int64(tokens) || w.Cut != int64(cut) || w.Padding != w.Rows*int64(T+1)-w.Tokens {
			t.Fatalf("waste is %+v; counted %d tokens, %d cut", w, tokens, cut)
		}
	})
}

// The number of rows is that of best-fit decreasing done plainly.
func TestBestFitIsBestFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		T := rapid.IntRange(1, 80).Draw(t, "T")
		lengths := rapid.SliceOfN(rapid.IntRange(1, T+1), 1, 60).Draw(t, "lengths")
		l, err := pack.NewBestFit(newCorpus(lengths...), T, prng.New(1))
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(lengths, func(a, b int) int { return b - a })
		var space []int
		for _, n := range lengths {
			best := -1
			for i, s := range space {
				if s >= n && (best < 0 || s < space[best]) {
					best = i
				}
			}
			if best < 0 {
				space, best = append(space, T+1), len(space)
			}
			space[best] -= n
		}
		if got := l.RowsBefore(1); got != int64(len(space)) {
			t.Fatalf("%d rows, want %d", got, len(space))
		}
	})
}

// Rows that can all be filled exactly are.
func TestBestFitFillsRows(t *testing.T) {
	var lengths []int
	for i := range 200 {
		a := 1 + i*7%63
		lengths = append(lengths, a, 65-a)
	}
	l, err := pack.NewBestFit(newCorpus(lengths...), 64, prng.New(1))
	if err != nil {
		t.Fatal(err)
	}
	if got := l.RowsBefore(1); got != 200 || l.Fill() != 1 {
		t.Errorf("%d rows, %v full; want 200, full: the lengths pair up", got, l.Fill())
	}
}

// Rows is the inverse of Append.
func TestRowsOfDocument(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, T := drawCorpus(t), rapid.IntRange(2, 20).Draw(t, "T")
		var l pack.Layout
		var err error
		if rapid.Bool().Draw(t, "best fit") {
			l, err = pack.NewBestFit(c, T, prng.New(2))
		} else {
			l, err = pack.NewConcat(c, T, prng.New(2))
		}
		if err != nil {
			t.Fatal(err)
		}
		const epochs = 2
		doc := rapid.IntRange(0, c.Docs()-1).Draw(t, "doc")
		var want []int64
		for row := range l.RowsBefore(epochs + 1) {
			if slices.ContainsFunc(l.Append(nil, row), func(s pack.Segment) bool { return s.Doc == doc }) {
				want = append(want, row)
			}
		}
		var got []int64
		for e := range epochs + 2 + T { // a row can span T epochs of a source of one token
			got = append(got, l.Rows(doc, e)...)
		}
		slices.Sort(got)
		got = slices.DeleteFunc(slices.Compact(got), func(r int64) bool { return r >= l.RowsBefore(epochs+1) })
		if !slices.Equal(got, want) {
			t.Fatalf("document %d of %d tokens is in rows %v, want %v", doc, c.length(doc), got, want)
		}
	})
}

// An epoch is in another order than the one before, and a document has other neighbours.
func TestEpochsDiffer(t *testing.T) {
	lengths := slices.Repeat([]int{7}, 3000)
	for name, open := range map[string]func(c corpus) (pack.Layout, error){
		"concat":   func(c corpus) (pack.Layout, error) { return pack.NewConcat(c, 14, prng.New(4)) },
		"best_fit": func(c corpus) (pack.Layout, error) { return pack.NewBestFit(c, 14, prng.New(4)) },
	} {
		l, err := open(newCorpus(lengths...))
		if err != nil {
			t.Fatal(err)
		}
		neighbour := func(e int) map[int]int {
			next := map[int]int{}
			for row := l.RowsBefore(e); row < l.RowsBefore(e+1); row++ {
				s := l.Append(nil, row)
				for i := 1; i < len(s); i++ {
					next[s[i-1].Doc] = s[i].Doc
				}
			}
			return next
		}
		a, b := neighbour(0), neighbour(1)
		same, file := 0, 0
		for doc, n := range a {
			if b[doc] == n {
				same++
			}
			if n == doc+1 {
				file++
			}
		}
		if same > 20 || file > 20 {
			t.Errorf("%s: of %d neighbours %d stay in the next epoch, %d are those of the file", name, len(a), same, file)
		}
	}
}

// The first batches of a large source come from all over it: chi² of the documents' hundredths.
func TestConcatMixesAcrossTheSource(t *testing.T) {
	k := prng.New(9)
	lengths := make([]int, 50_000)
	for i := range lengths {
		lengths[i] = int(k.Uint64At(uint64(i)) % 200)
	}
	c := newCorpus(lengths...)
	l, err := pack.NewConcat(c, 64, prng.New(5))
	if err != nil {
		t.Fatal(err)
	}
	var bins [100]float64
	const rows = 5000
	for row := range int64(rows) {
		s := l.Append(nil, row)[0]
		bins[c.Offset(s.Doc)*100/c.tokens()]++
	}
	chi2 := 0.0
	for _, n := range bins {
		chi2 += (n - rows/100) * (n - rows/100) / (rows / 100)
	}
	if math.Abs(chi2-99) > 4.5*math.Sqrt(2*99) {
		t.Errorf("chi² of %d rows over the source is %.0f, want 99 ± 63", rows, chi2)
	}
}

func TestBrokenIndex(t *testing.T) {
	for name, c := range map[string]corpus{"no documents": {0}, "no tokens": newCorpus(0, 0), "descending": append(append(corpus{0}, slices.Repeat([]int64{9}, 1500)...), 3)} {
		if _, err := pack.NewConcat(c, 4, prng.Key{}); err == nil {
			t.Errorf("%s: Concat takes it", name)
		}
		if _, err := pack.NewBestFit(c, 4, prng.Key{}); err == nil {
			t.Errorf("%s: BestFit takes it", name)
		}
	}
}
