package configs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pretrain/model"
	"pretrain/schedule"
)

// A branch of a branch: each keeps the past of the one before, through the texts that a checkpoint has of them.
func TestPast(t *testing.T) {
	inTestdata(t)
	trunk, err := Load("base.good.yaml", []string{"schedule.decay.length=0 steps"}) // 1000 steps of 1024 tokens
	if err != nil {
		t.Fatal(err)
	}
	patch := filepath.Join(t.TempDir(), "patch.yaml")
	if err := os.WriteFile(patch, []byte("batch: {tokens: 2048tok}\nschedule: {decay: {length: 50%}}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	draft, err := ReadOver(Text{Name: "trunk@500", YAML: string(trunk.YAML(false)), Run: "branch"}, patch, []string{"schedule.min_lr=0.001"})
	if err != nil {
		t.Fatal(err)
	}
	if draft.SameCourse(trunk) || draft.RunName() != "branch" {
		t.Errorf("run %q with another schedule and batch", draft.RunName())
	}
	branch, err := draft.Resolve(&Past{Run: trunk, Step: 500})
	if err != nil {
		t.Fatal(err)
	}
	// 512k tokens in 500 steps, as many again in 250.
	if d := branch.Derived; d.Steps != 750 || d.Tokens != 1024e3 || d.DecayStart != 500 || d.TokensPerStep != 2048 {
		t.Errorf("%+v", d)
	}
	texts := []Segment{{Until: 500, YAML: string(trunk.YAML(false))}, {Until: 600, YAML: string(branch.YAML(false))}}
	again, err := LoadPast("saved", texts)
	if err != nil {
		t.Fatal(err)
	}
	if string(again.YAML(false)) != texts[1].YAML || again.Past.Step != 500 || string(again.Past.Run.YAML(false)) != texts[0].YAML {
		t.Error("the saved texts are not those of the past that they make")
	}
	draft, err = ReadOver(Text{Name: "branch@600", YAML: texts[1].YAML}, "", []string{"train.tokens=2048ktok", "schedule.kind=constant"})
	if err != nil {
		t.Fatal(err)
	}
	twig, err := draft.Resolve(&Past{Run: again, Step: 600})
	if err != nil {
		t.Fatal(err)
	}
	if twig.Run.Name != "branch" || fmt.Sprint(twig.Plan.Stages()) != "[{0 8} {500 16}]" || twig.Derived.Steps != 1250 {
		t.Errorf("%s: %v, %+v", twig.Run.Name, twig.Plan.Stages(), twig.Derived)
	}
	want := []schedule.Span{{Phase: schedule.PhaseWarmup, To: 10}, {Phase: schedule.PhaseStable, From: 10, To: 500}, {Phase: schedule.PhaseDecay, From: 500, To: 600}, {Phase: schedule.PhaseStable, From: 600, To: 1250}}
	if got := twig.Schedule.Spans(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("spans %v, want %v", got, want)
	}
	for step, want := range map[int64]*Resolved{4: trunk, 499: trunk, 520: branch, 599: branch} {
		if got := twig.Schedule.LR(step); got != want.Schedule.LR(step) {
			t.Errorf("step %d: rate %v, was %v", step, got, want.Schedule.LR(step))
		}
	}
}

// Without a change, a moved folder aside, a run goes on as it was.
func TestSameCourse(t *testing.T) {
	inTestdata(t)
	old, err := Load("stages.good.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string]bool{
		"seed=1": true, "name=other": true, "data.sources.web.path=corpus/a.txt": true, "train.precision=fp32": true, "eval.every=3%": true,
		"schedule.min_lr=0.0001": false, "data.stages[1].mix.book=0.6": false, "train.tokens=2Mtok": false, "batch.lr_scale=sqrt": false,
	} {
		draft, err := Read("stages.good.yaml", []string{set})
		if err != nil {
			t.Fatal(err)
		}
		if got := draft.SameCourse(old); got != want {
			t.Errorf("%s: the same course: %v", set, got)
		}
	}
}

// A problem of a patch is shown where it stands, that of a value which the trunk gave in the trunk.
func TestPatchProblems(t *testing.T) {
	inTestdata(t)
	trunk, err := Load("base.good.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	draft, err := ReadOver(Text{Name: "runs/trunk@500", YAML: string(trunk.YAML(false)), Run: "x"}, "", []string{"schedule.min_lr=1"})
	if err == nil {
		_, err = draft.Resolve(nil)
	}
	if err == nil || !strings.Contains(err.Error(), "--set schedule.min_lr=1: schedule.min_lr: got 1; want 0 or more and at most peak_lr") {
		t.Error(err)
	}
	if _, err = LoadPast("of step 7", []Segment{{YAML: "model: {depth: 3}"}}); err == nil || !strings.Contains(err.Error(), "of step 7:1:9: model.depth: unknown key") {
		t.Error(err)
	}
}

func TestCompareBranch(t *testing.T) {
	inTestdata(t)
	for _, tt := range []struct {
		base string
		sets []string
		want Class
	}{
		{"stages.good.yaml", []string{"data.stages[0].mix.book=0.9", "data.sources.web.weight=2"}, Allowed},
		{"stages.good.yaml", []string{"data.sources.new.path=corpus", "data.stages=[{mix: {new: 1}}]"}, Allowed},
		{"stages.good.yaml", []string{"train.tokens=2048ktok"}, Allowed},
		{"base.good.yaml", []string{`data.path=""`, "data.sources={corpus: {path: corpus}, sft: {path: corpus}}"}, Allowed},
		{"base.good.yaml", []string{"batch.tokens=2048tok", "schedule.peak_lr=0.1"}, Allowed},
		{"stages.good.yaml", []string{"data.sources.web.pack=best_fit"}, Forbidden},
		{"base.good.yaml", []string{"data.validation.fraction=2%"}, Forbidden},
		{"base.good.yaml", []string{"seed=2"}, Forbidden},
		{"base.good.yaml", []string{"model.d_model=256"}, Forbidden},
	} {
		old, err := Load(tt.base, nil)
		if err != nil {
			t.Fatal(err)
		}
		draft, err := ReadOver(Text{Name: "trunk", YAML: string(old.YAML(false))}, "", tt.sets)
		if err != nil {
			t.Fatal(err)
		}
		r, err := draft.Resolve(&Past{Run: old, Step: 520})
		if err != nil {
			t.Fatalf("%v: %v", tt.sets, err)
		}
		list := CompareBranch(old, r, 520)
		for _, d := range list {
			if tt.want == Allowed && d.Class == Forbidden {
				t.Errorf("%v: %v", tt.sets, d)
			}
		}
		if tt.want == Forbidden && (len(list) == 0 || list[0].Class != Forbidden) {
			t.Errorf("%v: %v", tt.sets, list)
		}
	}
}

// TestGrow: a batch that the loss made grow is found again from what a checkpoint keeps, and a branch goes on from it.
func TestGrow(t *testing.T) {
	run, err := Load("testdata/base.good.yaml", []string{"batch.tokens=law", "batch.law.min=1024tok", "batch.law.max=8192tok", "train.tokens=1024ktok", "eval.every=100ktok"})
	if err != nil {
		t.Fatal(err)
	}
	unit := run.Plan.SequencesAt(0)
	grown, err := run.Grow(200, 2*unit)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := grown.Grow(300, 8*unit)
	if err != nil {
		t.Fatal(err)
	}
	var texts []Segment
	for _, s := range []struct {
		until, sequences int64
	}{{200, 2 * unit}, {300, 8 * unit}, {}} {
		texts = append(texts, Segment{s.until, string(run.YAML(false)), s.sequences})
	}
	again, err := LoadPast("saved", texts)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint([]schedule.Stage{{Step: 0, Sequences: unit}, {Step: 200, Sequences: 2 * unit}, {Step: 300, Sequences: 8 * unit}})
	for _, r := range []*Resolved{twice, again} {
		if got := fmt.Sprint(r.Plan.Stages()); got != want || r.Derived.Tokens < 1024e3 || r.Derived.Steps != again.Derived.Steps {
			t.Errorf("stages %v, want %v; %+v", got, want, r.Derived)
		}
	}
	if _, err := run.Grow(200, 3*unit+1); err == nil {
		t.Error("grew to a part of a micro-batch")
	}
	if _, err := Load("testdata/base.good.yaml", []string{"batch.tokens=law", "eval.every=never"}); err == nil || !strings.Contains(err.Error(), "eval.every") {
		t.Errorf("law without validations: %v", err)
	}
}

// TestMicroBatch: what batch.micro_batch: auto may become, and that a run which goes on keeps what it became.
func TestMicroBatch(t *testing.T) {
	load := func(name string, sets ...string) *Resolved {
		r, err := LoadWithoutFiles(name, append(sets, "batch.micro_batch=auto"))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	const base = "testdata/base.good.yaml"
	for _, c := range []struct {
		run   *Resolved
		parts int64
		want  string
	}{
		{load(base), 1, "[1 2 4 8]"},
		{load(base), 4, "[4 8]"},
		{load(base), 3, "[]"},
		{load(base, "batch.tokens=1536tok"), 1, "[1 2 3 4 6 12]"},
		{load(base, "batch.tokens=2048tok", "batch.ramp=[{until: 50%, tokens: 1024tok}]"), 1, "[1 2 4 8]"},
		{load("2b", "batch.tokens=3.93Mtok"), 1, "[1 2 4 7 8 16 32 64 137 959]"}, // 3.93Mtok are 959.47 sequences: within half a percent of 960, too
	} {
		if got := fmt.Sprint(c.run.MicroBatches(c.parts)); got != c.want {
			t.Errorf("batch of %v over %d parts: %s, want %s", c.run.Run.Batch.Tokens, c.parts, got, c.want)
		}
	}

	auto := load(base)
	found, err := auto.WithMicroBatch(4)
	if err != nil || found.Derived.MicroBatch != 4 || found.Derived.Steps != auto.Derived.Steps || !strings.Contains(string(found.YAML(false)), "micro_batch: 4\n") {
		t.Fatalf("%+v, %v", found.Derived, err)
	}
	if !strings.Contains(string(auto.YAML(false)), "micro_batch: auto\n") {
		t.Error("auto is not written as auto")
	}
	draft, err := readDraft(nil, base, []string{"batch.micro_batch=auto"}, false)
	if err != nil || !draft.SameCourse(found) {
		t.Errorf("auto is another course than what it became (%v)", err)
	}
	if kept := auto.KeepFit(found); kept.Derived.MicroBatch != 4 || len(Compare(found, kept, 10)) > 0 {
		t.Errorf("kept %d: %v", kept.Derived.MicroBatch, Compare(found, kept, 10))
	}
	if kept := load(base, "batch.tokens=1536tok").KeepFit(load(base, "batch.tokens=1024tok")); kept.Run.Batch.MicroBatch != schedule.Auto {
		t.Errorf("kept %v of a run that has none", kept.Run.Batch.MicroBatch)
	}
	wide, err := load(base, "train.remat=auto").WithRemat(model.RematLayer)
	if err != nil {
		t.Fatal(err)
	}
	if kept := load(base, "train.remat=auto").KeepFit(wide); kept.Run.Train.Remat != model.RematLayer {
		t.Errorf("kept remat %s", kept.Run.Train.Remat)
	}
	odd, err := load(base, "batch.tokens=1152tok").WithMicroBatch(9)
	if err != nil {
		t.Fatal(err)
	}
	if kept := auto.KeepFit(odd); kept.Run.Batch.MicroBatch != schedule.Auto {
		t.Errorf("kept %v, which does not divide 8", kept.Run.Batch.MicroBatch)
	}
}
