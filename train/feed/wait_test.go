package feed

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pretrain/data/mix"
	"pretrain/data/shard"
	"pretrain/internal/prng"
	"pretrain/internal/vfs"
)

// BenchmarkDataWait feeds a step that does nothing but take its time: as long as a model would at two million tokens a second.
// It reports the part of the time that was waited for batches, out of shards on disk, and what feeding costs of a core.
func BenchmarkDataWait(b *testing.B) {
	const rate = 2e6
	a := onDisk(b)
	for _, c := range []struct{ sequences, seqLen int }{{16, 256}, {64, 1024}} {
		b.Run(fmt.Sprintf("batch=%d", c.sequences*c.seqLen), func(b *testing.B) {
			a := a(b, c.sequences, c.seqLen, int64(b.N)+1)
			step := time.Duration(float64(c.sequences*c.seqLen) / rate * float64(time.Second))
			p := NewPrefetch(b.Context(), a, 0, int64(b.N)+1)
			defer p.Close()
			if _, err := p.Next(); err != nil { // the first is waited for by every run
				b.Fatal(err)
			}
			b.ResetTimer()
			var waited time.Duration
			for range b.N {
				began := time.Now()
				if _, err := p.Next(); err != nil {
					b.Fatal(err)
				}
				waited += time.Since(began)
				time.Sleep(time.Until(began.Add(step)))
			}
			b.ReportMetric(100*waited.Seconds()/b.Elapsed().Seconds(), "%wait")
			b.ReportMetric(float64(c.sequences*c.seqLen*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// BenchmarkBatch is how fast one goroutine assembles.
func BenchmarkBatch(b *testing.B) {
	a := onDisk(b)(b, 64, 1024, int64(b.N))
	b.ResetTimer()
	for step := range b.N {
		if _, err := a.Batch(int64(step)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(64*1024*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
}

// onDisk writes two sources of documents of 500 tokens on average, one of them conversations with a loss mask, and returns what
// assembles a run of them.
func onDisk(b *testing.B) func(b *testing.B, sequences, seqLen int, steps int64) Assembler {
	dir := b.TempDir()
	corpora := map[string]*shard.Corpus{}
	key := prng.New(3)
	for name, template := range map[string]string{"chat": "chatml", "web": ""} {
		w, err := shard.Create(vfs.OS, filepath.Join(dir, name), shard.Options{VocabSize: 50_000, Template: template})
		if err != nil {
			b.Fatal(err)
		}
		for d := range 16_000 {
			tokens := make([]uint32, 1+key.Uint64At(uint64(d))%999)
			for i := range tokens {
				tokens[i] = uint32(key.Uint64At(uint64(d)<<20+uint64(i)) % 50_000)
			}
			var mask []bool
			if template != "" {
				mask = make([]bool, len(tokens))
				for i := range mask {
					mask[i] = i%3 > 0
				}
			}
			if err := w.Add(shard.Doc{ID: fmt.Sprint(d)}, tokens, mask); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Commit(); err != nil {
			b.Fatal(err)
		}
		r, err := shard.Open(vfs.OS, filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { r.Close() })
		if corpora[name], err = r.Corpus(); err != nil {
			b.Fatal(err)
		}
	}
	return func(b *testing.B, sequences, seqLen int, steps int64) Assembler {
		c := mix.Default()
		c.Sources = map[string]mix.Source{"chat": {Path: "chat"}, "web": {Path: "web"}}
		c.Stages, c.MaxEpochs = []mix.Stage{{Mix: map[string]float64{"chat": 0.2, "web": 0.8}}}, 1e6
		run := mix.Run{Key: key.Split("data"), Steps: steps, SeqLen: seqLen, Batches: every(sequences)}
		plan, err := mix.Expand(c, run, map[string]mix.Available{"chat": {Index: corpora["chat"]}, "web": {Index: corpora["web"]}})
		if err != nil {
			b.Fatal(err)
		}
		a := Assembler{Plan: plan, Micro: sequences, Sources: []Source{{Corpus: corpora["chat"]}, {Corpus: corpora["web"]}}}
		a.Sources[0].Options.Mask = corpora["chat"]
		return a
	}
}
