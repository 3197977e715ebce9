package mix

import (
	"fmt"
	"testing"
	"time"

	"pretrain/data/pack"
)

// filled is an index with tokens, as a shard has them.
type filled struct {
	lengths
	tokens []uint16
}

func (f filled) Read(dst []uint32, doc, offset int) error {
	at := (f.lengths[doc] + int64(offset)) % int64(len(f.tokens)-len(dst))
	for i, token := range f.tokens[at : at+int64(len(dst))] {
		dst[i] = uint32(token)
	}
	return nil
}

// BenchmarkAssemble finds and fills rows of 256 tokens in random batches of a run over three sources, in one goroutine.
func BenchmarkAssemble(b *testing.B) {
	for _, docs := range []int{10_000, 10_000_000} {
		for _, packing := range []Packing{Concat, BestFit} {
			b.Run(fmt.Sprintf("%s/docs=%d", packing, docs), func(b *testing.B) {
				c := Default()
				c.Sources = map[string]Source{"a": {Path: "a"}, "b": {Path: "b"}, "c": {Path: "c"}}
				c.Pack, c.MaxEpochs = packing, 1e9
				corpus := filled{newLengths(docs, 500), make([]uint16, 1<<22)}
				start := time.Now()
				plan := mustExpand(b, c, testRun(1_000_000, 256, fixed(16)), map[string]Available{"a": {corpus, "a"}, "b": {corpus, "b"}, "c": {corpus, "c"}})
				planned := time.Since(start)
				row := pack.NewRow(256)
				b.ResetTimer()
				for i := range b.N {
					s, err := plan.Sequence(int64(i*7919%1_000_000), i%16)
					if err != nil {
						b.Fatal(err)
					}
					if err := row.Read(corpus, s.Segments, pack.Options{}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(256*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
				b.ReportMetric(planned.Seconds(), "s/plan")
			})
		}
	}
}

func BenchmarkStepsOf(b *testing.B) {
	c := Default()
	c.Sources = map[string]Source{"a": {Path: "a"}}
	index := newLengths(1_000_000, 500)
	plan := mustExpand(b, c, testRun(200_000, 256, fixed(16)), map[string]Available{"a": {index, ""}})
	b.ResetTimer()
	for i := range b.N {
		if _, err := plan.StepsOf("a", i*7919%1_000_000); err != nil {
			b.Fatal(err)
		}
	}
}
