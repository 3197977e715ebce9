package configs

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

// golden compares got with a file below testdata, or rewrites it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); -update rewrites it:\n%s", path, diff)
	}
}

// inTestdata runs the test in testdata, so that messages have short paths, and gives a function that makes the
// machine's own paths relative.
func inTestdata(t *testing.T) func(string) string {
	t.Helper()
	t.Chdir("testdata")
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return func(s string) string { return strings.ReplaceAll(s, dir, "DIR") }
}

// padding before a comment is as wide as the machine's paths allow.
var padding = regexp.MustCompile(` +# `)

func fixtures(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures %s (%v)", pattern, err)
	}
	return files
}

func TestBad(t *testing.T) {
	relative := inTestdata(t)
	for _, file := range fixtures(t, "*.bad.yaml") {
		t.Run(strings.TrimSuffix(file, ".bad.yaml"), func(t *testing.T) {
			_, err := Load(file, nil)
			var bad *Error
			if !errors.As(err, &bad) || len(bad.Problems) == 0 {
				t.Fatalf("got %v; want an *Error", err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", relative(err.Error())+"\n")
		})
	}
}

func TestGood(t *testing.T) {
	relative := inTestdata(t)
	for _, file := range fixtures(t, "*.good.yaml") {
		t.Run(strings.TrimSuffix(file, ".good.yaml"), func(t *testing.T) {
			r, err := Load(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".txt", padding.ReplaceAllString(relative(string(r.YAML(true))), " # "))
			sameAgain(t, r)
		})
	}
}

// sameAgain loads what show prints: it must be the same configuration, and the same to other readers of YAML and JSON.
func sameAgain(t *testing.T, r *Resolved) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "again.yaml")
	if err := os.WriteFile(file, r.YAML(true), 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := LoadWithoutFiles(file, nil)
	if err != nil {
		t.Fatalf("%s\n%v", r.YAML(false), err)
	}
	if diff := cmp.Diff(r.Run, again.Run); diff != "" {
		t.Errorf("show loads as another configuration (-first +again):\n%s", diff)
	}
	if r.Derived != again.Derived {
		t.Errorf("derived %+v, again %+v", r.Derived, again.Derived)
	}
	var fromYAML, fromJSON any
	if err := yaml.Unmarshal(r.YAML(true), &fromYAML); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &fromJSON); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromYAML, fromJSON); diff != "" {
		t.Errorf("YAML and JSON differ (-yaml +json):\n%s", diff)
	}
}

func TestEmbedded(t *testing.T) {
	t.Chdir(t.TempDir()) // they load anywhere
	for _, name := range Names() {
		for _, given := range []string{name, name + ".yaml"} {
			r, err := LoadWithoutFiles(given, nil)
			if err != nil {
				t.Fatal(err)
			}
			sameAgain(t, r)
		}
	}
}

func TestQuickstart(t *testing.T) {
	r, err := Load("quickstart", []string{"schedule.kind=cosine"})
	if err != nil {
		t.Fatal(err)
	}
	d := r.Derived
	if d.SequencesPerStep != 16 || d.TokensPerStep != 4096 || r.Run.Model.NumHeads != 3 || r.Run.Schedule.Kind != "cosine" {
		t.Errorf("quickstart resolves to %+v, %+v", d, r.Run)
	}
	if lr := r.Schedule.LR(d.Steps - 1); lr != 0 {
		t.Errorf("the last step's learning rate is %v", lr)
	}
}

// The numbers of MiniCPM-2.4B, by hand: 960 sequences of 4096 tokens, 1.1e12 tokens, width ratio 9.
func Test2B(t *testing.T) {
	r, err := LoadWithoutFiles("2b.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Derived{
		Steps: 279745, Tokens: 279745 * 3932160, SequencesPerStep: 960, TokensPerStep: 3932160, MicroBatch: 32,
		WarmupSteps: 2797, DecayStart: 279745 - 27975, HiddenPeakLR: 0.01 / 9, EvalEvery: 254, CheckpointEvery: 1000,
	}
	if diff := cmp.Diff(want, r.Derived); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// The learning rate halves every 5000 steps of the decay.
	at := func(n int64) float64 { return r.Schedule.LR(want.DecayStart + n - 1) }
	if ratio := at(10000) / at(5000); ratio < 0.499 || ratio > 0.501 {
		t.Errorf("after 5000 steps of decay the rate falls to %v of itself", ratio)
	}
}

func TestSet(t *testing.T) {
	relative := inTestdata(t)
	var out strings.Builder
	for _, sets := range [][]string{
		{"schedule.peak_lr=1e-3", "schedule.peak_lr=0.002"},
		{"data.path=corpus/a.txt"},
		{"name=true"}, {"name=a: b # c"}, {"name="}, {`name="quoted"`},
		{"optimizer.betas[1]=0.99"}, {"optimizer.betas=[0.8, 0.9]"},
		{"sample.prompts=[a, 'b c']"}, {"sample.prompts[0]=x"},
		{"model.tie_embeddings=false"},
		{"data.path=", "data.sources.web.path=corpus", "data.sources.web.quality=high"},
		{"data.path=", "data.sources={a: {path: corpus}, b: {path: corpus}}", "data.sources.b=null"},
		// and what is refused
		{"schedule.peek_lr=1"}, {"schedule.warmup=10"}, {"schedule"}, {"=1"}, {"schedule.peak_lr="}, {"seed.x=1"},
		{"sample.prompts[3]=x"}, {"sample.prompts[x]=y"}, {"schedule.kind=[a"}, {"optimizer.betas=[1]"}, {"schedule=null"}, {"data.path=nowhere"},
		{"train.tokens=1 2", "x=1", "a.b.c=2"},
	} {
		out.WriteString("--set " + strings.Join(sets, " --set ") + "\n")
		r, err := Load("base.good.yaml", sets)
		if err != nil {
			out.WriteString(relative(err.Error()) + "\n")
			continue
		}
		for _, v := range r.Values() {
			if v.Origin.Kind == FromSet {
				out.WriteString("    " + v.Key + ": " + relative(v.Text) + " # " + v.Origin.String() + "\n")
			}
		}
		sameAgain(t, r)
	}
	golden(t, "set.txt", out.String())
}

func TestExplain(t *testing.T) {
	relative := inTestdata(t)
	var out strings.Builder
	for _, name := range []string{"base.good.yaml", "stages.good.yaml", "overrides.good.yaml"} {
		r, err := Load(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Explain() {
			out.WriteString(name + ": " + v.Key + ": " + v.Text + " " + v.Origin.String() + "\n")
		}
	}
	golden(t, "explain.txt", relative(out.String()))
}

func TestNames(t *testing.T) {
	for _, name := range []string{"quickstrat", "no/such/file.yaml", "", "testdata"} {
		_, err := Load(name, nil)
		var bad *Error
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), "embedded configs are 2b, quickstart") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := Load("testdata", nil); !strings.Contains(err.Error(), "a folder") {
		t.Error(err)
	}
	_, err := Load("quickstrat", nil)
	if !strings.Contains(err.Error(), `did you mean "quickstart"?`) {
		t.Error(err)
	}
}

// Values hold every leaf once; what is in the file is theirs, line by line.
func TestValues(t *testing.T) {
	inTestdata(t)
	r, err := Load("stages.good.yaml", []string{"seed=7"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range r.Values() {
		if _, twice := got[v.Key]; twice {
			t.Errorf("%s is listed twice", v.Key)
		}
		got[v.Key] = v.Text + " " + v.Origin.String()
	}
	for key, want := range map[string]string{
		"seed":                    "7 --set seed=7",
		"name":                    "stages.good = the file's name",
		"model.d_model":           "128 base.good.yaml:2",
		"model.d_ff":              "320 = 2.5 · d_model",
		"model.head_dim":          "64 default",
		"data.stages[1].at":       "decay stages.good.yaml:9",
		"data.stages[1].mix.book": "0.5 stages.good.yaml:9",
		"data.stages[0].name":     `"stage 1" default`,
		"batch.tokens":            "2048tok stages.good.yaml:12",
	} {
		if got[key] != want && !(key == "data.stages[0].name" && got[key] == "stage 1 default") {
			t.Errorf("%s: got %q, want %q", key, got[key], want)
		}
	}
}

// Every embedded configuration of data preparation loads.
func TestPreparations(t *testing.T) {
	names := PreparationNames()
	if len(names) < 3 {
		t.Errorf("only %v", names)
	}
	for _, name := range names {
		if c, err := LoadPreparation(name, nil); err != nil || len(c.Sources) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
