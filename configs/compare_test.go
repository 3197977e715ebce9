package configs

import (
	"os"
	"slices"
	"strings"
	"testing"

	"pretrain/internal/problem"
)

// Every key of a configuration has a rule, and every rule a key.
func TestRulesAreComplete(t *testing.T) {
	used := map[string]bool{}
	for _, key := range Keys() {
		if key == "extends" {
			continue // resolved away
		}
		r, ok := ruleOf(key)
		if !ok {
			t.Errorf("%s: no rule says whether a resumed run may change it", key)
		}
		used[r.key] = true
	}
	for _, r := range rules {
		if !used[r.key] {
			t.Errorf("the rule for %s decides no key", r.key)
		}
	}
}

func TestCompare(t *testing.T) {
	inTestdata(t)
	const late = "stages.good.yaml" // 550 steps, the decay begins at 500
	tests := []struct {
		base string
		step int64
		sets []string
		want string // key: class, for each difference
	}{
		{late, 100, nil, ""},
		{late, 100, []string{"seed=2"}, "seed: forbidden"},
		{late, 100, []string{"model.d_model=256"}, "model.d_model: forbidden, model.d_ff: forbidden, model.num_heads: forbidden, model.num_kv_heads: forbidden"},
		{late, 100, []string{"tokenizer.vocab_size=5000"}, "tokenizer.vocab_size: forbidden"},
		{late, 100, []string{"schedule.kind=cosine", "schedule.min_lr=0.001"}, "schedule.kind: allowed, schedule.min_lr: allowed"},
		{late, 100, []string{"train.precision=fp32", "train.remat=layer"}, "train.precision: allowed, train.remat: allowed"},
		{late, 100, []string{"checkpoint.keep=9", "batch.micro_batch=4", "name=x"}, "name: allowed, batch.micro_batch: allowed, checkpoint.keep: allowed"},
		{late, 100, []string{"optimizer.kind=lion"}, "optimizer.kind: forbidden"},
		{late, 100, []string{"optimizer.momentum=0"}, "optimizer.momentum: forbidden"},
		{late, 100, []string{"optimizer.momentum=0.8", "optimizer.weight_decay=0"}, "optimizer.weight_decay: allowed, optimizer.momentum: allowed"},
		// The mixture of a stage to come may change, that of one that has begun may not.
		{late, 500, []string{"data.stages[1].mix.book=0.9"}, "data.stages[1].mix.book: allowed"},
		{late, 501, []string{"data.stages[1].mix.book=0.9"}, "data.stages[1].mix.book: forbidden"},
		{late, 1, []string{"data.stages[0].mix.book=0.9"}, "data.stages[0].mix.book: forbidden"},
		{late, 0, []string{"data.stages[0].mix.book=0.9"}, "data.stages[0].mix.book: allowed"},
		{late, 400, []string{"data.stages[1].at=90%"}, "data.stages[1].at: allowed"},
		{late, 480, []string{"data.stages[1].at=450 steps"}, "data.stages[1].at: forbidden"},
		{late, 100, []string{"data.stages=[{mix: {web: 1}}]"}, "data.stages[1].name: allowed, data.stages[1].at: allowed, data.stages[1].mix.book: allowed, data.stages[1].mix.web: allowed, data.stages[1].seq_len: allowed"},
		// A longer run has its decay, and the stage with it, later.
		{late, 450, []string{"train.tokens=2048ktok"}, "train.tokens: allowed"},
		{late, 520, []string{"train.tokens=2048ktok"}, "train.tokens: forbidden"},
		// Sources: a moved folder, and one that only later stages use.
		{late, 100, []string{"data.sources.web.path=corpus/a.txt"}, "data.sources.web.path: allowed"},
		{late, 100, []string{"data.sources.web.domain=code"}, "data.sources.web.domain: forbidden"},
		{late, 100, []string{"data.sources.new.path=corpus", "data.stages[1].mix.new=1"}, "all data.sources.new, data.stages: allowed"},
		{"base.good.yaml", 100, []string{"data.path=corpus/a.txt"}, "data.path: allowed"},
		{"base.good.yaml", 100, []string{"data.validation.fraction=2%"}, "data.validation.fraction: forbidden"},
		{"base.good.yaml", 100, []string{"data.pack=best_fit"}, "data.pack: forbidden"},
		{"base.good.yaml", 100, []string{"model.document_mask=true"}, "model.document_mask: forbidden"},
	}
	for _, tt := range tests {
		old, err := Load(tt.base, nil)
		if err != nil {
			t.Fatal(err)
		}
		changed, err := Load(tt.base, tt.sets)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		differences := Compare(old, changed, tt.step)
		for _, d := range differences {
			got = append(got, d.Key+": "+string(d.Class))
			if d.Reason == "" || d.Old == d.New || !strings.Contains(d.String(), d.Reason) {
				t.Errorf("%v: %+v", tt.sets, d)
			}
		}
		if all, ok := strings.CutPrefix(tt.want, "all "); ok {
			keys, class, _ := strings.Cut(all, ": ")
			for _, d := range differences {
				under := slices.ContainsFunc(strings.Split(keys, ", "), func(k string) bool { return within(d.Key, k) })
				if !under || string(d.Class) != class {
					t.Errorf("%v at step %d: %v", tt.sets, tt.step, d)
				}
			}
			continue
		}
		if s := strings.Join(got, ", "); s != tt.want {
			t.Errorf("%v at step %d:\n got %s\nwant %s", tt.sets, tt.step, s, tt.want)
		}
	}
}

// A branch is a resumed run with changes, and its way back has the same keys.
func TestCompareIsSymmetricInKeys(t *testing.T) {
	inTestdata(t)
	a, errA := Load("stages.good.yaml", nil)
	b, errB := Load("overrides.good.yaml", nil)
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	keys := func(list []Difference) (keys []string) {
		for _, d := range list {
			keys = append(keys, d.Key)
		}
		slices.Sort(keys)
		return keys
	}
	if ab, ba := keys(Compare(a, b, 10)), keys(Compare(b, a, 10)); len(ab) == 0 || !slices.Equal(ab, ba) {
		t.Errorf("one way %v, the other %v", ab, ba)
	}
}

// Problems that a section's package finds later are located like those found while loading.
func TestLocate(t *testing.T) {
	inTestdata(t)
	r, err := Load("stages.good.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Locate("data", problem.Problem{Key: "stages[0].mix.web", Value: "1", Want: "more"})
	want := "stages.good.yaml:8:19: data.stages[0].mix.web: got 1; want more\n     8 |     - {mix: {web: 1}}\n       |                   ^"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if other := os.ErrClosed; r.Locate("data", other) != other {
		t.Error("another error is changed")
	}
}
