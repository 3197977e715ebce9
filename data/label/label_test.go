package label

import (
	"bytes"
	"context"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/data"
	"pretrain/internal/prng"
)

// topics makes examples of three topics, each with words of its own among common ones; label noise spoils one in twenty.
func topics(n int, seed uint64) []Example {
	words := map[string][]string{
		"cooking": strings.Fields("pan oven salt butter stir dough roast onion 炒 锅 盐"),
		"code":    strings.Fields("func return int loop var type error nil 变 量 函"),
		"law":     strings.Fields("court clause statute party liable contract appeal judge 法 条 诉"),
	}
	common := strings.Fields("the a of and in is to with for on, . ; 的 是 在")
	names := []string{"code", "cooking", "law"}
	key := prng.New(seed)
	var out []Example
	for i := range n {
		k := key.SplitN(uint64(i))
		name := names[i%3]
		var text strings.Builder
		for j := range 20 {
			r := k.Uint64At(uint64(j))
			from := common
			if r%4 == 0 {
				from = words[name]
			}
			text.WriteString(from[(r>>8)%uint64(len(from))] + " ")
		}
		if k.Uint64At(1000)%20 == 0 {
			name = names[k.Uint64At(1001)%3]
		}
		out = append(out, Example{Text: text.String(), Label: name})
	}
	return out
}

func seq(examples []Example) iter.Seq2[Example, error] {
	return func(yield func(Example, error) bool) {
		for _, e := range examples {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func small() Training {
	t := DefaultTraining()
	t.Buckets = 1 << 14
	return t
}

func train(t testing.TB, examples []Example, c Training) *Model {
	t.Helper()
	m, err := Train(context.Background(), seq(examples), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Topics are told apart by their words as well as the label noise lets them, on examples that were not trained on.
func TestTrain(t *testing.T) {
	for name, change := range map[string]func(*Training){
		"default":          func(*Training) {},
		"character n-gram": func(c *Training) { c.MinChars, c.MaxChars = 2, 4 },
		"trigrams":         func(c *Training) { c.WordNGrams = 3 },
	} {
		c := small()
		c.Holdout = 0.2
		change(&c)
		m := train(t, topics(3000, 1), c)
		h := m.Holdout()
		if h == nil || h.Examples < 500 || h.Accuracy < 0.93 || h.MacroF1 < 0.93 {
			t.Errorf("%s: %+v", name, h)
		}
		if diff := cmp.Diff([]string{"code", "cooking", "law"}, m.Labels()); diff != "" {
			t.Error(diff)
		}
		p := m.Predictor()
		if best, probability := p.Best("Melt the BUTTER in a pan, stir with salt"); best != "cooking" || probability < 0.8 {
			t.Errorf("%s: %s %.2f", name, best, probability)
		}
		if best, _ := p.Best("法条诉"); best != "law" {
			t.Errorf("%s: Chinese law is %s", name, best)
		}
		sum := 0.0
		for _, x := range p.Probabilities("") {
			sum += x
		}
		if sum < 1-1e-12 || sum > 1+1e-12 {
			t.Errorf("%s: probabilities of an empty text sum to %v", name, sum)
		}
	}
}

// The gradient that fit uses is that of the cross-entropy: AdaGrad's first step is its sign, times the rate.
func TestFirstStep(t *testing.T) {
	c := small()
	c.Holdout, c.Epochs, c.LearningRate = 0, 1, 1e-3
	m, err := newModel([]string{"a", "b", "c"}, c)
	if err != nil {
		t.Fatal(err)
	}
	e := example{features: []uint32{5, 7, 9}, label: 1}
	before := make([]float64, 3)
	m.forward(e.features, before)
	if err := m.fit(t.Context(), []example{e}, func(Progress) {}); err != nil {
		t.Fatal(err)
	}
	after := make([]float64, 3)
	m.forward(e.features, after)
	// The first step moves each weight by rate, so the logit of the label up and the others down, by move.
	move := 1e-3 * (3/math.Sqrt(3) + 1)
	want := []float64{before[0] - 2*move/9, before[1] + 4*move/9, before[2] - 2*move/9}
	for i := range after {
		if d := after[i] - want[i]; d > 1e-5 || d < -1e-5 {
			t.Errorf("probability %d: %v, want about %v", i, after[i], want[i])
		}
	}
}

// A model is the same whatever the order of its labels' appearance and the number of cores, and survives its file.
func TestSave(t *testing.T) {
	m := train(t, topics(500, 2), small())
	if again := train(t, topics(500, 2), small()); !slices.Equal(m.weights, again.weights) {
		t.Error("two trainings give two models")
	}
	path := filepath.Join(t.TempDir(), "topics.label")
	if err := m.Save(path); err != nil {
		t.Fatal(err)
	}
	back, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m.header, back.header); diff != "" || !slices.Equal(m.weights, back.weights) || m.Key() != back.Key() {
		t.Errorf("another model came back: %s", diff)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "cut": whole[:len(whole)-5], "flipped": slices.Concat(whole[:len(whole)/2], []byte{^whole[len(whole)/2]}, whole[len(whole)/2+1:]),
	} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStep(t *testing.T) {
	m := train(t, topics(1500, 3), small())
	c := Classifier{Name: "topic", Model: "m", Mode: data.Tag}
	apply := func(c Classifier, d *data.Document) (data.Reason, string) {
		factory, err := m.Step(c)
		if err != nil {
			t.Fatal(err)
		}
		return factory().Apply(d)
	}
	d := data.Document{Messages: []data.Message{{Content: "court of appeal"}, {Content: "the judge: liable"}}}
	if reason, _ := apply(c, &d); reason != "" || d.TextOf("label.topic") != "law" {
		t.Errorf("%s %v", reason, d.Tags)
	}
	if p, ok := d.Number("label.topic.p"); !ok || p < 0.5 {
		t.Errorf("probability %v", p)
	}
	c.Value, c.Mode, c.Min = "code", data.Filter, 0.5
	d = data.Document{Text: "court of appeal, judge"}
	if reason, detail := apply(c, &d); reason != "label_topic" || !strings.Contains(detail, "topic is code with probability 0.") {
		t.Errorf("%s %s", reason, detail)
	}
	d = data.Document{Text: "func return int"}
	if reason, detail := apply(c, &d); reason != "" {
		t.Errorf("%s %s", reason, detail)
	}
	c.Value = "poetry"
	if _, err := m.Step(c); err == nil || !strings.Contains(err.Error(), "code, cooking, law") {
		t.Errorf("a value that the model does not have: %v", err)
	}
}

func TestConfig(t *testing.T) {
	if err := DefaultTraining().Validate(); err != nil {
		t.Error(err)
	}
	for _, key := range []string{"word_ngrams", "buckets", "max_tokens", "epochs", "learning_rate"} {
		if err := (Training{}).Validate(); !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s is missing in %v", key, err)
		}
	}
	err := Classifier{Name: "A b", Mode: data.Filter, Min: 0.5, Max: 0.2}.Validate()
	for _, key := range []string{"name", "model", "value", "min"} {
		if !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s is missing in %v", key, err)
		}
	}
}

func TestExamples(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	read := func(content string, skip bool) (got []Example, err error) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		for e, err := range ReadExamples(t.Context(), []string{path}, DefaultFields(), skip) {
			if err != nil {
				return got, err
			}
			got = append(got, e)
		}
		return got, nil
	}
	got, err := read(`{"text":"a","label":1}`+"\n"+`{"text":"b","label":"x"}`+"\n"+`{"text":"c","label":true}`+"\n"+`{"text":"d"}`, true)
	if diff := cmp.Diff([]Example{{Text: "a", Label: "1"}, {Text: "b", Label: "x"}, {Text: "c", Label: "true"}}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for content, want := range map[string]string{
		`{"text":"a","label":[1]}`: `a.jsonl:1: "label" holds [1]`,
		`{"label":"a"}`:            `a.jsonl:1: no text in "text"`,
		`7`:                        "a.jsonl:1: not a JSON object",
	} {
		if _, err := read(content, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", content, err, want)
		}
	}
	if _, err := Train(t.Context(), seq([]Example{{Text: "a", Label: "x"}, {Text: "b", Label: "x"}}), small(), nil); err == nil || !strings.Contains(err.Error(), "1 different labels (x)") {
		t.Errorf("one label only: %v", err)
	}
}

func FuzzModel(f *testing.F) {
	c := small()
	c.Buckets = 8
	var b bytes.Buffer
	if err := train(f, topics(10, 1), c).write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), "text")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		if m, err := readModel(bytes.NewReader(b)); err == nil {
			m.Predictor().Best(text)
		}
	})
}

func FuzzExtract(f *testing.F) {
	f.Add("Some words, 中文 \xff\xfe naïve", 2, 4)
	f.Fuzz(func(t *testing.T, text string, lo, hi int) {
		e := extractor{f: Features{WordNGrams: 2, MinChars: lo & 3, MaxChars: hi & 7, Buckets: 1000, MaxTokens: 50}}
		n := 0
		for _, f := range e.extract(text) {
			if n++; f >= 1000 {
				t.Fatalf("feature %d of 1000", f)
			}
		}
		if (n == 0) != (len(strings.TrimSpace(text)) == 0) {
			t.Errorf("%d features of %q", n, text)
		}
	})
}
