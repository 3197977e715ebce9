package funnel_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"pretrain/data"
	"pretrain/data/funnel"
)

// go through two steps: a document goes for one of three reasons or passes.
func through(c *funnel.Counts, i int) {
	d := &data.Document{ID: fmt.Sprint("doc", i), Path: "a.jsonl", Line: int64(i + 1), Text: strings.Repeat("文 ", i)}
	n := d.Bytes()
	if i%3 == 0 {
		c.Drop(0, d, data.Reason(fmt.Sprint("reason", i%2)), "detail")
		return
	}
	c.Passed(0, n, n, false)
	if i%7 == 0 {
		c.Drop(1, d, "other", "")
		return
	}
	c.Passed(1, n, n-1, true)
	c.Observe("bytes", float64(n))
	c.Note("class", fmt.Sprint(i%5))
	c.Keep(d)
}

// The counts of parts, in any order and through JSON, add up to those of the whole; samples too.
func TestPartsAddUp(t *testing.T) {
	const n = 1000
	whole, parts := funnel.New("s", "read", "clean"), make([]*funnel.Counts, 7)
	for i := range parts {
		parts[i] = funnel.New("s", "read", "clean")
	}
	for i := range n {
		through(whole, i)
		through(parts[i%len(parts)], i)
	}
	sum := funnel.New("s", "read", "clean")
	for _, i := range rand.Perm(len(parts)) {
		text, err := json.Marshal(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		var c funnel.Counts
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		sum.Add(&c)
	}
	if diff := cmp.Diff(whole, sum, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Error(diff)
	}
	read, clean := whole.Steps[0], whole.Steps[1]
	if read.In.Documents != n || read.Out != clean.In || read.Dropped[0].Documents+read.Dropped[1].Documents != read.In.Documents-read.Out.Documents {
		t.Errorf("the steps do not fit together: %+v, %+v", read, clean)
	}
	if len(whole.Kept) != funnel.MaxSamples || len(read.Dropped[1].Samples) != funnel.MaxSamples || clean.Changed != clean.Out.Documents {
		t.Errorf("%d kept, %d dropped", len(whole.Kept), len(read.Dropped[1].Samples))
	}
}

// A quantile is right within the width of a bin, over fifteen orders of magnitude.
func TestQuantile(t *testing.T) {
	var h funnel.Histogram
	r := rand.New(rand.NewPCG(1, 1))
	for range 100_000 {
		h.Add(math.Exp2(50 * r.Float64()))
	}
	for _, q := range []float64{0.1, 0.3, 0.5, 0.9} {
		if got, want := math.Log2(h.Quantile(q)), 50*q; math.Abs(got-want) > 0.5 {
			t.Errorf("quantile %v is 2^%.2f, want 2^%.2f", q, got, want)
		}
	}
	h = funnel.Histogram{}
	for _, v := range []float64{0, 0, 0, 1, math.NaN(), math.Inf(1)} {
		h.Add(v)
	}
	if h.Quantile(0.5) != 0 || h.N != 4 || h.Mean() != 0.25 {
		t.Errorf("with zeros: %+v", h)
	}
}
