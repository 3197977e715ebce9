package lm

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func seq(texts []string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, t := range texts {
			if !yield(t, nil) {
				return
			}
		}
	}
}

func train(t failer, texts []string, c Config) *Model {
	t.Helper()
	m, err := Train(context.Background(), seq(texts), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

type failer interface {
	Helper()
	Fatal(args ...any)
}

type golden struct {
	Train, Test []string
	Cases       []struct {
		Order, Vocabulary int
		MinCount          int         `json:"min_count"`
		LogProbabilities  [][]float64 `json:"log_probabilities"`
	}
}

func readGolden(t *testing.T) (g golden) {
	t.Helper()
	b, err := os.ReadFile("testdata/golden.json")
	if err == nil {
		err = json.Unmarshal(b, &g)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Every text has the probability that an implementation by the definition gives it (testdata/make_golden.py).
func TestGolden(t *testing.T) {
	g := readGolden(t)
	for _, c := range g.Cases {
		config := Config{Order: c.Order, Units: Word, MinCount: c.MinCount, MaxTrain: 1 << 20}
		m := train(t, g.Train, config)
		s := &scorer{Model: m}
		for i, text := range g.Test {
			want := 0.0
			for _, p := range c.LogProbabilities[i] {
				want += p
			}
			got, n := s.score(text)
			// Probabilities are kept as float32: 1e-7 of each.
			if n != len(c.LogProbabilities[i]) || math.Abs(got-want) > 1e-6*math.Abs(want) {
				t.Errorf("order %d, min_count %d: ln p(%q) = %.7f over %d units, want %.7f over %d", c.Order, c.MinCount, text, got, n, want, len(c.LogProbabilities[i]))
			}
			if p := m.Scorer()(text); math.Abs(p-math.Exp(-want/float64(n))) > 1e-5*p {
				t.Errorf("perplexity %v", p)
			}
		}
	}
}

// After whatever came before, the probabilities of all units sum to one.
func TestSumsToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		alphabet := []string{"a", "b", "c", "漢", "9", "."}
		text := rapid.Custom(func(t *rapid.T) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(alphabet), 1, 12).Draw(t, "words"), " ")
		})
		c := Config{
			Order: rapid.IntRange(1, 5).Draw(t, "order"), Units: Word, MinCount: rapid.IntRange(1, 2).Draw(t, "min"), MaxTrain: 1000,
		}
		m, err := Train(context.Background(), seq(rapid.SliceOfN(text, 1, 8).Draw(t, "train")), c, nil)
		if err != nil {
			t.Skip("nothing occurs twice")
		}
		s := &scorer{Model: m}
		history := rapid.SliceOfN(rapid.SampledFrom(append(alphabet, "new")), 0, 6).Draw(t, "history")
		prefix := strings.Join(history, " ")
		// p(text) = Σ over the next unit of p(text, unit), with the end among them. What score leaves out is the end.
		withEnd, _ := s.score(prefix)
		if len(history) == 0 {
			return
		}
		s.header.Config.MaxScore = len(history)
		before, _ := s.score(prefix + " more")
		sum := math.Exp(withEnd - before) // of the end
		s.header.Config.MaxScore = len(history) + 1
		unknown := 0.0
		for _, w := range append(alphabet, "neverseen") {
			next, _ := s.score(prefix + " " + w + " more")
			p := math.Exp(next - before)
			if known := s.table.at(extend(0, c.tokens(nil, w, 1)[0])).key != 0; known {
				sum += p
			} else {
				unknown = p // one word for all of them
			}
		}
		if sum += unknown; math.Abs(sum-1) > 1e-5 {
			t.Fatalf("after %q: %v", prefix, sum)
		}
	})
}

// Case and digits do not matter to words, and do to characters; a CJK character is a word.
func TestUnits(t *testing.T) {
	c := Default()
	words := func(text string) []uint64 { return c.tokens(nil, text, 100) }
	if !slices.Equal(words("The Year  2024!\n"), words("the year 1999 !")) {
		t.Error("case, digits or white space matter")
	}
	if n := len(words("日本語 text, naïve")); n != 6 {
		t.Errorf("%d units, want 6", n)
	}
	if slices.Equal(words("a b"), words("a c")) || slices.Equal(words("9"), words("99")) {
		t.Error("different words are equal")
	}
	if n := len(c.tokens(nil, "a b c d", 2)); n != 2 {
		t.Errorf("%d units, want 2", n)
	}
	c.Units = Char
	if n := len(words("日 a\n")); n != 4 || slices.Equal(words("a"), words("A")) {
		t.Errorf("%d characters, want 4", n)
	}
}

// Text like the reference set has a lower perplexity than text unlike it, and shuffled words a higher one than sentences.
func TestPerplexity(t *testing.T) {
	g := readGolden(t)
	score := train(t, g.Train, Default()).Scorer()
	like, shuffled := 0.0, 0.0
	for _, text := range g.Test[:20] {
		words := strings.Fields(text)
		like += math.Log(score(text))
		slices.Sort(words)
		shuffled += math.Log(score(strings.Join(words, " ")))
	}
	if like >= shuffled {
		t.Errorf("mean log perplexity %.3f, of sorted words %.3f", like/20, shuffled/20)
	}
	if p := score("zzz qqq xxx"); p < 2*math.Exp(like/20) {
		t.Errorf("unknown words have perplexity %.1f, known text %.1f", p, math.Exp(like/20))
	}
	if !math.IsInf(score(" \n"), 1) {
		t.Error("no words have a finite perplexity")
	}
}

func TestSave(t *testing.T) {
	g := readGolden(t)
	c := Default()
	c.Order = 3
	m := train(t, g.Train, c)
	path := filepath.Join(t.TempDir(), "reference.lm")
	if err := m.Save(path); err != nil {
		t.Fatal(err)
	}
	back, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if back.header != m.header || !slices.Equal(back.entries, m.entries) || back.Key() != m.Key() {
		t.Error("another model came back")
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := slices.Clone(whole)
	flipped[len(flipped)*2/3] ^= 1
	for name, b := range map[string][]byte{"empty": nil, "cut": whole[:len(whole)-40], "flipped": flipped} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrainErrors(t *testing.T) {
	c := Default()
	for want, texts := range map[string][]string{"has no text": {" "}, "occurs 2 times": {"every word once"}} {
		if _, err := Train(t.Context(), seq(texts), c, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", texts, err, want)
		}
	}
	c.MaxTrain = 5
	read := 0
	texts := func(yield func(string, error) bool) {
		for read++; yield("a b a", nil); read++ {
		}
	}
	if m, err := Train(t.Context(), texts, c, nil); err != nil || read != 2 {
		t.Errorf("read %d texts, %v", read, err)
	} else if n, _ := m.Size(); n != 5 {
		t.Errorf("trained on %d units, want 5", n)
	}
	err := Config{MaxScore: -1}.Validate()
	for _, key := range []string{"order", "units", "min_count", "max_train", "max_score"} {
		if !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s is missing in %v", key, err)
		}
	}
}

// Of documents with perplexity 1 to 1000, 30% are the head and 60% the head and middle, to a step of 1%; a language of a few documents
// goes by all of them; parts add up.
func TestCuts(t *testing.T) {
	d, other := Distribution{}, Distribution{}
	for i := range 1000 {
		part := d
		if i%2 == 0 {
			part = other
		}
		part.Add("en", float64((i*37)%1000+1))
	}
	d.Add("zh", 5)
	d.Add("en", math.Inf(1))
	d.Merge(other)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var back Distribution
	if err := json.Unmarshal(text, &back); err != nil || !cmp.Equal(d, back) {
		t.Errorf("as JSON and back: %v", err)
	}
	cuts := d.Cuts(DefaultPercentiles())
	if c := cuts["en"]; c.Documents != 1000 || math.Abs(c.Middle-300) > 4 || math.Abs(c.Tail-600) > 7 {
		t.Errorf("%+v", c)
	}
	for p, want := range map[float64]Bucket{1: Head, 290: Head, 310: Middle, 590: Middle, 610: Tail, math.Inf(1): Tail} {
		if got := cuts.Of("en", p); got != want {
			t.Errorf("%v is in the %s, want %s", p, got, want)
		}
	}
	if _, ok := cuts["zh"]; ok || cuts.Of("zh", 25) != Head || cuts[""].Documents != 1001 {
		t.Errorf("a language of one document: %+v", cuts)
	}
	if none := (Distribution{}).Cuts(DefaultPercentiles()); none.Of("en", 7) == Tail || none.Of("en", math.Inf(1)) != Tail {
		t.Errorf("no documents: %+v", none)
	}
	if err := (Percentiles{0.7, 0.6}).Validate(); err == nil {
		t.Error("head beyond middle")
	}
}

func FuzzModel(f *testing.F) {
	c := Default()
	c.Order, c.MinCount = 2, 1
	var b bytes.Buffer
	if err := train(f, []string{"a b a b c"}, c).write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes(), "a b")
	f.Fuzz(func(t *testing.T, b []byte, text string) {
		if m, err := readModel(bytes.NewReader(b)); err == nil {
			m.Scorer()(text)
		}
	})
}

func BenchmarkScore(b *testing.B) {
	text := strings.Repeat("the cat sat on the mat and then the dog saw the cat under the old red tree . ", 50)
	m := train(b, []string{text}, Default())
	score := m.Scorer()
	m.header.Config.MaxScore = 0
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		score(text)
	}
}
