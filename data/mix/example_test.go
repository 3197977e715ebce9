package mix_test

import (
	"fmt"

	"pretrain/data/mix"
	"pretrain/data/pack"
	"pretrain/internal/prng"
	"pretrain/internal/units"
)

// documents of 10 tokens each.
type documents int

func (d documents) Docs() int            { return int(d) }
func (d documents) Offset(doc int) int64 { return 10 * int64(doc) }

func (d documents) Read(dst []uint32, doc, offset int) error {
	for i := range dst {
		dst[i] = uint32(10*doc + offset + i)
	}
	return nil
}

// every is a batch of the same size at each step.
type every int

func (n every) SequencesBefore(step int64) int64 { return step * int64(n) }
func (n every) SequencesAt(int64) int            { return int(n) }

func Example() {
	c := mix.Default()
	c.Sources = map[string]mix.Source{"web": {Path: "shards/web"}, "book": {Path: "shards/book", Quality: mix.High}}
	c.Stages = []mix.Stage{
		{Until: units.OfRun(0.9), Mix: map[string]float64{"web": 1}},
		{Mix: map[string]float64{"web": 0.5, "book": 0.5}},
	}
	run := mix.Run{Key: prng.New(1).Split("data"), Steps: 100, SeqLen: 16, Batches: every(4)}
	plan, err := mix.Expand(c, run, map[string]mix.Available{"web": {Index: documents(600)}, "book": {Index: documents(100)}})
	if err != nil {
		fmt.Println(err)
		return
	}

	batch, _ := plan.At(95) // no step before it is computed
	row := pack.NewRow(16)
	for _, s := range batch {
		_ = row.Read(documents(600), s.Segments, pack.Options{})
		fmt.Println(plan.Sources()[s.Source], s.Segments, row.Tokens[:3], "…")
	}
	where, _ := plan.StepsOf("book", batch[1].Segments[0].Doc)
	for _, o := range where {
		fmt.Printf("step %d, sequence %d: %+v\n", o.Step, o.Index, o.Segment)
	}
	// Output:
	// web [{490 6 4} {19 0 10} {137 0 3}] [4906 4907 4908] …
	// book [{90 2 8} {26 0 9}] [902 903 904] …
	// web [{131 6 4} {439 0 10} {444 0 3}] [1316 1317 1318] …
	// book [{36 4 6} {6 0 10} {88 0 1}] [364 365 366] …
	// step 90, sequence 1: {Doc:90 Offset:0 Len:3}
	// step 95, sequence 1: {Doc:90 Offset:2 Len:8}
}
