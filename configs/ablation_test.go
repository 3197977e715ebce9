package configs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pretrain/train/ablate"
)

// Every ready ablation loads, all its variants with it, has a question, and fits the half hour it promises on two cores.
func TestReadyAblations(t *testing.T) {
	names := AblationNames()
	if len(names) < 5 || slices.Contains(names, "base") {
		t.Fatalf("ready ablations: %v", names)
	}
	for _, name := range names {
		a, err := LoadAblation(name, AblationOverrides{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Question == "" || a.Name != name || len(a.Variants) < 2 {
			t.Errorf("%s: name %q, question %q, %d variants", name, a.Name, a.Question, len(a.Variants))
		}
		// 6·N·D of what two cores make in half an hour, at a rate measured with the base configuration.
		var flops float64
		for _, v := range a.Variants {
			m := v.Resolved.Run.Model
			if m.VocabSize == 0 {
				m.VocabSize = v.Resolved.Run.Tokenizer.VocabSize
			}
			flops += m.FLOPsPerToken().Total() * float64(v.Resolved.Derived.Tokens) * float64(len(a.Seeds))
		}
		if const30min := 1800 * 6e10; flops > const30min {
			t.Errorf("%s: %.3g FLOPs are %.0f minutes at 60 GFLOP/s", name, flops, flops/6e10/60)
		}
	}
}

// The ablations that the claims of docs/science are tried with load.
func TestScienceAblations(t *testing.T) {
	files, err := filepath.Glob("../bench/science/claims/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		if filepath.Base(file) == "base.yaml" {
			continue
		}
		if a, err := LoadAblation(file, AblationOverrides{}); err != nil || a.Question == "" {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestLoadAblation(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("run.yaml", "extends: quickstart\ntrain: {tokens: 100ktok}\n")
	path := write("mine.yaml", `
base: run.yaml
seeds: [4, 7]
tokens: 200ktok
set:
  data.sources: {a: {path: x}, b: {path: "y z"}, c: {path: z}}
  data.path: ""
  data.stages:
    - mix:
        a: 0.5
        b: 0.5
variants:
  list:
    - {name: plain}
    - {name: prompts, set: {sample.prompts: ["a, b", c], data.sources.c: null}}
  grid:
    batch.tokens: [2048tok, 8192tok]
`)
	a, err := LoadAblation(path, AblationOverrides{Sets: []string{"eval.every=50%", "batch.tokens=4096tok"}, Seeds: "[9, 8]"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "mine" || !slices.Equal(a.Seeds, ablate.Seeds{9, 8}) || a.Base != filepath.Join(dir, "run.yaml") {
		t.Errorf("name %s, seeds %v, base %s", a.Name, a.Seeds, a.Base)
	}
	for i, want := range []int64{4096, 4096, 2048, 8192} {
		r := a.Variants[i].Resolved
		if r.Derived.TokensPerStep != want || r.Run.Eval.Every.String() != "50%" || r.Run.Seed != 9 || r.Run.Train.Tokens != 200_000 {
			t.Errorf("%s: %d tokens a step, want %d", a.Variants[i].Name, r.Derived.TokensPerStep, want)
		}
		if _, has := r.Run.Data.Sources["c"]; has != (i != 1) {
			t.Errorf("%s: a null takes a source out: %v", a.Variants[i].Name, r.Run.Data.Sources)
		}
		if s := r.Run.Data.Stages; len(s) != 1 || s[0].Mix["a"] != 0.5 {
			t.Errorf("%s: stages %+v", a.Variants[i].Name, s)
		}
		if got := r.Run.Data.Sources["b"].Path; filepath.Base(got) != "y z" {
			t.Errorf("%s: source b is %q", a.Variants[i].Name, got)
		}
	}
	if got := a.Variants[1].Resolved.Run.Sample.Prompts; !slices.Equal(got, []string{"a, b", "c"}) {
		t.Errorf("prompts %q", got)
	}
	if order := a.Variants[2].Order(a.BaselineVariant()); order != ablate.OtherBatches {
		t.Errorf("another batch size: %s", order)
	}
	if order := a.Variants[1].Order(a.BaselineVariant()); order != ablate.OtherData {
		t.Errorf("a source less: %s", order)
	}
	// A problem that all variants share is reported once, where it stands.
	path = write("bad.yaml", "base: quickstart\nset:\n  schedule.peak_lr: -1\nvariants:\n  grid: {batch.tokens: [2048tok, 4096tok]}\n")
	_, err = LoadAblation(path, AblationOverrides{})
	if err == nil || strings.Count(err.Error(), "schedule.peak_lr") != 2 || !strings.Contains(err.Error(), "bad.yaml:3:21") { // the problem and its line
		t.Errorf("got %v", err)
	}
}
