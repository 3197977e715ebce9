package label

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Rates by hand: of six examples the attribute takes four for good, three of them rightly; one good one is missed.
func TestEvaluateAttribute(t *testing.T) {
	var examples []Example
	for _, e := range []struct {
		score float64
		label string
	}{{0.9, "good"}, {0.8, "good"}, {0.7, "bad"}, {0.6, "good"}, {0.4, "good"}, {0.1, "bad"}} {
		x := Example{Label: e.label}
		x.Attributes.SetNumber("label.q", e.score)
		examples = append(examples, x)
	}
	got, err := EvaluateAttribute(seq(examples), "label.q", "good", 0.5)
	if err != nil {
		t.Fatal(err)
	}
	want := []LabelScore{
		{"good", 4, 4, 0.75, 0.75, 0.75},
		{"not good", 2, 2, 0.5, 0.5, 0.5},
	}
	if diff := cmp.Diff(want, got.Labels); diff != "" {
		t.Error(diff)
	}
	// Of the eight pairs of a good and a bad one, six are in order: all but (0.6, 0.7) and (0.4, 0.7).
	if got.AUC != 0.75 || got.Accuracy != 4.0/6 || math.Abs(got.MacroF1-0.625) > 1e-12 {
		t.Errorf("AUC %v, accuracy %v, macro F1 %v", got.AUC, got.Accuracy, got.MacroF1)
	}
	if p := got.Curve[6]; p != (Point{0.7, 0.5, 2.0 / 3, 0.5}) {
		t.Errorf("at 0.7: %+v", p)
	}
	for want, call := range map[string]func() (*Evaluation, error){
		"no attribute label.x":      func() (*Evaluation, error) { return EvaluateAttribute(seq(examples), "label.x", "good", 0.5) },
		"name the label value":      func() (*Evaluation, error) { return EvaluateAttribute(seq(examples), "label.q", "", 0.5) },
		"there are no labelled exa": func() (*Evaluation, error) { return EvaluateAttribute(seq(nil), "label.q", "good", 0.5) },
	} {
		if _, err := call(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	for i := range examples {
		examples[i].Attributes.SetText("label.t", examples[i].Label)
	}
	if got, err := EvaluateAttribute(seq(examples), "label.t", "", 0); err != nil || got.Accuracy != 1 || got.Curve != nil {
		t.Errorf("a text: %+v, %v", got, err)
	}
}

// A model tells topics apart on examples it has not seen.
func TestEvaluate(t *testing.T) {
	examples := topics(1500, 5)
	m := train(t, examples, small())
	got, err := m.Evaluate(seq(topics(600, 6)), "law")
	if err != nil {
		t.Fatal(err)
	}
	if got.Accuracy < 0.9 || got.AUC < 0.95 || len(got.Curve) != 9 || got.Curve[0].Recall < got.Curve[8].Recall {
		t.Errorf("%+v", got)
	}
	if _, err := m.Evaluate(seq(examples), "poetry"); err == nil || !strings.Contains(err.Error(), "[code cooking law]") {
		t.Errorf("an unknown value: %v", err)
	}
}
