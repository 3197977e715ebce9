package eval

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
)

// Report is everything that was measured of one checkpoint.
type Report struct {
	Checkpoint string `json:"checkpoint"`
	// Step and TrainTokens of the checkpoint.
	Step        int64 `json:"step"`
	TrainTokens int64 `json:"train_tokens"`
	// Result is all text together.
	Result
	// Stride of the windows, in tokens; see [Set.Stride].
	Stride  int          `json:"stride"`
	Sources Sources      `json:"sources"`
	Tasks   []TaskResult `json:"tasks,omitempty"`
	// Seconds that the measurements took, compiling included; Scored is the tokens that went through the model in them, and
	// MFU = Scored/Seconds · forward FLOPs per token / peak FLOP/s: 2·N and the causal attention, N without the embedding and with
	// the output projection. 0 where the peak is not known.
	Seconds         float64 `json:"seconds"`
	Scored          int64   `json:"scored_tokens"`
	TokensPerSecond float64 `json:"tokens_per_second"`
	MFU             float64 `json:"mfu"`
}

// Summary is the report without its records of single documents and items.
func (r Report) Summary() Report {
	r.Documents = nil
	r.Sources = maps.Clone(r.Sources)
	for name, s := range r.Sources {
		s.Documents = nil
		r.Sources[name] = s
	}
	r.Tasks = slices.Clone(r.Tasks)
	for i := range r.Tasks {
		r.Tasks[i].Items = nil
	}
	return r
}

// ReadReport reads a report that was written as JSON.
func ReadReport(path string) (Report, error) {
	var r Report
	text, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: not a report of pretrain eval: %w", path, err)
	}
	if r.Sources == nil && r.Tasks == nil {
		return r, fmt.Errorf("%s: not a report of pretrain eval: it has neither sources nor tasks", path)
	}
	return r, nil
}

// Difference is a metric of one report minus that of another, over what both measured.
type Difference struct {
	Name   string `json:"name"` // of the source or task
	Metric Metric `json:"metric"`
	// Pairs is the number of documents or items that both have.
	Pairs int     `json:"pairs"`
	A     float64 `json:"a"`
	B     float64 `json:"b"`
	// Estimate is B − A, with its interval by paired bootstrap over documents or items.
	Estimate
}

// BitsPerByte is the metric of text.
const BitsPerByte Metric = "bpb"

// Better says which report is better: 1 is B, −1 is A, 0 where the interval holds 0 or there is none.
func (d Difference) Better() int {
	if d.CI == nil || d.CI.Low <= 0 && d.CI.High >= 0 {
		return 0
	}
	if (d.Value < 0) == (d.Metric == BitsPerByte || d.Metric.LessIsBetter()) {
		return 1
	}
	return -1
}

// Compare compares b to a, on the documents and items that both have: a difference between two models is much smaller than
// the differences between items, which pairing takes out.
func Compare(a, b Report) []Difference {
	var list []Difference
	for _, name := range slices.Sorted(maps.Keys(a.Sources)) {
		if other, ok := b.Sources[name]; ok {
			if d, ok := compareText(name, a.Sources[name], other); ok {
				list = append(list, d)
			}
		}
	}
	for _, t := range a.Tasks {
		at := slices.IndexFunc(b.Tasks, func(o TaskResult) bool { return o.Task == t.Task && o.Kind == t.Kind && o.Shots == t.Shots })
		if at >= 0 {
			list = append(list, compareTask(t, b.Tasks[at])...)
		}
	}
	return list
}

func compareText(name string, a, b Result) (Difference, bool) {
	d := Difference{Name: name, Metric: BitsPerByte}
	other := map[string]Document{}
	for _, doc := range b.Documents {
		other[doc.ID] = doc
	}
	var pairsA, pairsB []Document
	var bits, bytes []float64
	for _, doc := range a.Documents {
		// Other bytes: it was read in part, or is another document of that name.
		if o, ok := other[doc.ID]; ok && o.Bytes == doc.Bytes {
			pairsA, pairsB = append(pairsA, doc), append(pairsB, o)
			bits, bytes = append(bits, (o.Nats-doc.Nats)/math.Ln2), append(bytes, float64(doc.Bytes))
		}
	}
	if d.Pairs = len(pairsA); d.Pairs == 0 {
		return d, false
	}
	d.A, d.B = resultOf(pairsA).BPB, resultOf(pairsB).BPB
	d.Estimate = Estimate{d.B - d.A, Ratio(bits, bytes)}
	return d, true
}

func compareTask(a, b TaskResult) []Difference {
	other := map[string]ItemResult{}
	for _, item := range b.Items {
		other[item.ID] = item
	}
	var list []Difference
	for _, m := range slices.Sorted(maps.Keys(a.Metrics)) {
		d := Difference{Name: a.Task, Metric: m}
		var differences []float64
		for _, item := range a.Items {
			if o, ok := other[item.ID]; ok {
				d.A, d.B = d.A+item.Values[m], d.B+o.Values[m]
				differences = append(differences, o.Values[m]-item.Values[m])
			}
		}
		if d.Pairs = len(differences); d.Pairs > 0 {
			d.A, d.B = d.A/float64(d.Pairs), d.B/float64(d.Pairs)
			d.Estimate = Mean(differences)
			list = append(list, d)
		}
	}
	return list
}
