package label

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// Evaluation says how well a labeller does on labelled examples, and what a threshold on it would do.
type Evaluation struct {
	Scores
	// Value is the label value that the curve is about: documents that have it are to be found. "" where there is no curve.
	Value string `json:"value,omitempty"`
	// AUC is the probability that an example with Value has a higher score than one without (the area under the ROC curve).
	AUC float64 `json:"auc,omitempty"`
	// Curve is what thresholds on the score choose.
	Curve []Point `json:"curve,omitempty"`
}

// Point is what is chosen by a score of at least Threshold.
type Point struct {
	Threshold float64 `json:"threshold"`
	Chosen    float64 `json:"chosen"`    // part of the examples
	Precision float64 `json:"precision"` // part of the chosen that have the value
	Recall    float64 `json:"recall"`    // part of those with the value that are chosen
}

// Evaluate compares the model's predictions with the labels of examples. value, "" for none, is what the curve is about.
func (m *Model) Evaluate(examples iter.Seq2[Example, error], value string) (*Evaluation, error) {
	at := slices.Index(m.Labels(), value)
	if value != "" && at < 0 {
		return nil, fmt.Errorf("value %q: the model has %v", value, m.Labels())
	}
	p := m.Predictor()
	var t tally
	for e, err := range examples {
		if err != nil {
			return nil, err
		}
		probabilities := p.Probabilities(e.Text)
		score := 0.0
		if at >= 0 {
			score = probabilities[at]
		}
		t.add(e.Label, m.Labels()[argmax(probabilities)], value, score)
	}
	return t.evaluate(value)
}

// EvaluateAttribute compares an attribute that documents carry already with their labels. A text is compared as it is. Where
// the attribute is a number, documents with at least threshold count as having the label value, the others as not having it.
func EvaluateAttribute(examples iter.Seq2[Example, error], attribute, value string, threshold float64) (*Evaluation, error) {
	var t tally
	n := 0
	for e, err := range examples {
		if n++; err != nil {
			return nil, err
		}
		if text := e.Attributes.TextOf(attribute); text != "" {
			t.add(e.Label, text, "", 0)
			continue
		}
		score, ok := e.Attributes.Number(attribute)
		if !ok {
			return nil, fmt.Errorf("example %d has no attribute %s: label the sample first, with mode tag", n, attribute)
		}
		if value == "" {
			return nil, fmt.Errorf("attribute %s is a number: name the label value that high numbers stand for", attribute)
		}
		is, predicted := value, value
		if e.Label != value {
			is = "not " + value
		}
		if score < threshold {
			predicted = "not " + value
		}
		t.add(is, predicted, value, score)
	}
	return t.evaluate(value)
}

// tally collects what was predicted.
type tally struct {
	is, predicted []string
	scores        []scored
}

type scored struct {
	score    float64
	positive bool
}

func (t *tally) add(is, predicted, value string, score float64) {
	t.is, t.predicted = append(t.is, is), append(t.predicted, predicted)
	if value != "" {
		t.scores = append(t.scores, scored{score, is == value})
	}
}

func (t *tally) evaluate(value string) (*Evaluation, error) {
	if len(t.is) == 0 {
		return nil, errors.New("there are no labelled examples")
	}
	names := map[string]int{}
	for i := range t.is {
		names[t.is[i]], names[t.predicted[i]] = 0, 0
	}
	labels := slices.Sorted(maps.Keys(names))
	for i, name := range labels {
		names[name] = i
	}
	s := newScores(labels)
	for i := range t.is {
		s.add(names[t.is[i]], names[t.predicted[i]])
	}
	s.settle()
	e := &Evaluation{Scores: *s}
	if len(t.scores) > 0 {
		e.Value = value
		e.AUC, e.Curve = curve(t.scores)
	}
	return e, nil
}

// curve returns the area under the ROC curve and what nine thresholds choose.
func curve(scores []scored) (auc float64, points []Point) {
	slices.SortFunc(scores, func(a, b scored) int { return cmp.Compare(a.score, b.score) })
	positives := 0
	for _, s := range scores {
		if s.positive {
			positives++
		}
	}
	// Mann and Whitney's U by ranks, the mean rank among equals.
	ranks := 0.0
	for i := 0; i < len(scores); {
		j := i
		for j < len(scores) && scores[j].score == scores[i].score {
			j++
		}
		for _, s := range scores[i:j] {
			if s.positive {
				ranks += float64(i+j+1) / 2
			}
		}
		i = j
	}
	if negatives := len(scores) - positives; positives > 0 && negatives > 0 {
		auc = (ranks - float64(positives*(positives+1))/2) / float64(positives) / float64(negatives)
	}
	for tenth := 1; tenth <= 9; tenth++ {
		threshold := float64(tenth) / 10
		from, _ := slices.BinarySearchFunc(scores, threshold, func(s scored, t float64) int { return cmp.Compare(s.score, t) })
		hits := 0
		for _, s := range scores[from:] {
			if s.positive {
				hits++
			}
		}
		chosen := len(scores) - from
		points = append(points, Point{threshold, ratio(chosen, len(scores)), ratio(hits, chosen), ratio(hits, positives)})
	}
	return auc, points
}
