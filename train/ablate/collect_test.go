package ablate

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pretrain/train/metrics"
)

// runDir writes a run's files below dir. Curve has the validation after each tenth of 100 steps of 10 tokens.
func runDir(t *testing.T, dir string, run Run, firstLoss float64, curve []float64, finished bool) string {
	t.Helper()
	path := filepath.Join(dir, run.Dir())
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for step := range int64(100) {
		r := metrics.Record{Step: step, Tokens: (step + 1) * 10, Loss: metrics.Number(firstLoss)}
		if i := int(step+1)/10 - 1; (step+1)%10 == 0 && i < len(curve) && !math.IsNaN(curve[i]) {
			bpb := metrics.Number(curve[i])
			r.Eval = &metrics.Eval{ValLoss: bpb, ValBPB: bpb, ValSources: map[string]metrics.SourceEval{"a": {BPB: bpb + 1}, "b": {BPB: bpb - 1}}}
		}
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("metrics.jsonl", lines.String()+`{"step":`)
	if finished {
		last := curve[len(curve)-1]
		text, err := json.Marshal(map[string]any{"step": 100, "tokens": 1000, "val_loss": metrics.Number(last), "val_bpb": metrics.Number(last), "seconds": 2,
			"val_sources": map[string]metrics.SourceEval{"a": {BPB: metrics.Number(last + 1)}, "b": {BPB: metrics.Number(last - 1)}}})
		if err != nil {
			t.Fatal(err)
		}
		write("result.json", string(text))
	}
	return path
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	nan := math.NaN()
	runs := Layout([]Variant{{Name: "straight"}, {Name: "late"}, {Name: "diverged"}, {Name: "worse"}, {Name: "half"}, {Name: "failed"}, {Name: "none"}}, Seeds{7}, func(int) int64 { return 100 })
	runDir(t, dir, runs[0], 9, []float64{5, 4.5, 4, 3.5, 3, 2.5, 2, 1.5, 1, 0.5}, true)       // 5.5 − 5·share
	runDir(t, dir, runs[1], 9, []float64{nan, nan, 3, nan, nan, nan, nan, nan, nan, 3}, true) // measured from 30% on
	runDir(t, dir, runs[2], 9, []float64{5, nan}, true)
	runDir(t, dir, runs[3], 2, []float64{2, 2.5}, true)
	runDir(t, dir, runs[4], 9, []float64{5}, false)
	failed := runDir(t, dir, runs[5], 9, nil, false)
	text, err := json.Marshal(State{Failures: []Failure{{Error: "a"}, {Error: "b"}, {Error: "c"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(failed, StateName), text, 0o644); err != nil {
		t.Fatal(err)
	}

	got, err := Collect(dir, runs)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Status{Done, Done, Diverged, Diverged, Partial, Failed, Missing} {
		if got[i].Status != want || got[i].Seed != 7 {
			t.Errorf("%s: %s, want %s", runs[i].Variant, got[i].Status, want)
		}
	}
	// The straight line from 30% to the end: its value at 65%.
	near(t, "area", float64(got[0].Area), 5.5-5*0.65, 1e-12)
	near(t, "area of a source", float64(got[0].SourceAreas["a"]), 5.5-5*0.65+1, 1e-12)
	near(t, "area of a level curve", float64(got[1].Area), 3, 1e-12)
	if got[5].Error != "c" || got[5].Attempts != 3 || len(got[0].Curve) != 10 || got[0].Curve[0].Sources["b"] != 4 {
		t.Errorf("%+v", got)
	}
	a := Analysis{Config: Config{Seeds: Seeds{7}, Baseline: "straight"}, Outcomes: got}
	for _, r := range runs {
		a.Variants, a.Orders = append(a.Variants, Variant{Name: r.Variant}), append(a.Orders, SameOrder)
	}
	report := a.Report()
	if d := report.Variant("late").Sources["b"]; d.Delta.Mean != 2.5 || d.BPB != 2 {
		t.Errorf("source b: %+v", d)
	}
	if fmt.Sprint(report.Sources) != "[a b]" || report.Seconds != 8 {
		t.Errorf("sources %v, %v s", report.Sources, report.Seconds)
	}

	// A file that cannot be read is said by its name.
	if err := os.WriteFile(filepath.Join(dir, runs[0].Dir(), "result.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Collect(dir, runs); err == nil || !strings.Contains(err.Error(), "result.json") || !strings.Contains(err.Error(), "straight") {
		t.Errorf("got %v", err)
	}
}
