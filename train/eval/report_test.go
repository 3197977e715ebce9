package eval

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pretrain/internal/prng"
)

// TestRatioCoverage: of 95% intervals about 95% hold the truth. With 60 units of very different sizes each; the band is three
// standard errors of 150 trials, and some points below for what the percentile bootstrap misses at this size.
func TestRatioCoverage(t *testing.T) {
	const trials, n = 150, 60
	key, held := prng.New(1), 0
	for trial := range trials {
		k := key.SplitN(uint64(trial))
		num, den := make([]float64, n), make([]float64, n)
		for i := range num {
			den[i] = math.Exp(k.NormFloat64At(uint64(2 * i)))
			num[i] = den[i] * (2 + 0.5*k.NormFloat64At(uint64(2*i+1)))
		}
		if ci := Ratio(num, den); ci.Low <= 2 && 2 <= ci.High {
			held++
		}
	}
	if share := float64(held) / trials; share < 0.87 || share > 0.99 {
		t.Errorf("%.3f of the intervals hold the truth", share)
	}
	if ci := Ratio([]float64{1}, []float64{2}); ci != nil {
		t.Errorf("one unit has the interval %v", ci)
	}
	if ci := Ratio([]float64{1, 2, 3}, []float64{2, 4, 6}); math.Abs(ci.Low-0.5) > 1e-12 || math.Abs(ci.High-0.5) > 1e-12 {
		t.Errorf("units of one ratio have the interval %v", ci)
	}
}

// TestShareOfAll: no item right, or each, does not mean that no other would be. The ends are scipy 1.16.3's binomtest(0, 20).proportion_ci().
func TestShareOfAll(t *testing.T) {
	for value, want := range map[float64]Interval{0: {0, 0.1684335}, 1: {0.8315665, 1}} {
		e := share(slices.Repeat([]float64{value}, 20))
		if e.Value != value || math.Abs(e.CI.Low-want.Low) > 1e-7 || math.Abs(e.CI.High-want.High) > 1e-7 {
			t.Errorf("20 of %v: %v %v, want %v", value, e.Value, *e.CI, want)
		}
	}
	if e := share([]float64{0}); e.CI != nil {
		t.Errorf("one item has the interval %v", *e.CI)
	}
	some := []float64{0, 1, 1, 0, 1}
	if got, want := share(some), Mean(some); got.Value != want.Value || *got.CI != *want.CI {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestCompare: a difference that is the same in each document shows, though the documents differ much more; one of chance
// does not.
func TestCompare(t *testing.T) {
	key := prng.New(2)
	report := func(better float64, right uint64) Report {
		var docs []Document
		var items []ItemResult
		for i := range 60 {
			hard := 2 + key.Float64At(uint64(i))*4 // nats a byte, shared by both reports
			docs = append(docs, Document{ID: fmt.Sprint(i), Nats: 100 * (hard - better), Tokens: 50, Bytes: 100})
			items = append(items, ItemResult{ID: fmt.Sprint(i), Values: map[Metric]float64{Accuracy: indicator(uint64(i)%2 == right)}})
		}
		r := resultOf(docs)
		return Report{Result: r, Sources: Sources{"web": r}, Tasks: []TaskResult{newTaskResult(Task{Name: "t", Kind: Choice}, 0, items)}}
	}
	a, b := report(0, 0), report(0.05, 1)
	b.Sources["web"].Documents[7].Bytes = 1 // not the same text: left out
	list := Compare(a, b)
	if len(list) != 2 {
		t.Fatalf("%d differences: %+v", len(list), list)
	}
	bpb, acc := list[0], list[1]
	if bpb.Pairs != 59 || math.Abs(bpb.Value+0.05/math.Ln2) > 1e-9 || bpb.Better() != 1 {
		t.Errorf("bpb: %+v", bpb)
	}
	if a.CI.High-a.CI.Low < 5*math.Abs(bpb.Value) {
		t.Errorf("the reports' own intervals are not wide: %v", a.CI)
	}
	if acc.Metric != Accuracy || acc.Pairs != 60 || acc.Better() != 0 || acc.Value != 0 || acc.CI.High < 0.1 {
		t.Errorf("acc: %+v", acc)
	}
	if back := Compare(b, a); back[0].Better() != -1 {
		t.Errorf("the other way round: %+v", back[0])
	}

	path := filepath.Join(t.TempDir(), "r.json")
	text, err := json.Marshal(a)
	if err == nil {
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	read, err := ReadReport(path)
	if err != nil || len(Compare(read, b)) != 2 {
		t.Errorf("read back: %+v, %v", read, err)
	}
	if s := read.Summary(); len(s.Sources["web"].Documents) != 0 || len(s.Tasks[0].Items) != 0 || len(read.Sources["web"].Documents) == 0 {
		t.Error("a summary is the report without its records, and leaves the report as it is")
	}
	for _, bad := range []string{"", "{}", `{"sources":1}`} {
		if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadReport(path); err == nil {
			t.Errorf("%q was read as a report", bad)
		}
	}
}
