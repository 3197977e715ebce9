package label

// Scores says how well predicted labels agree with true ones.
type Scores struct {
	Examples int     `json:"examples"`
	Accuracy float64 `json:"accuracy"`
	// MacroF1 is the mean of the labels' F1.
	MacroF1 float64      `json:"macro_f1"`
	Labels  []LabelScore `json:"labels"`
	// Confusion[i][j] counts examples of label i that were taken for label j.
	Confusion [][]int `json:"confusion"`
}

// LabelScore says how well one label is recognised. What cannot be said (no such prediction, no such example) is 0.
type LabelScore struct {
	Label     string  `json:"label"`
	Examples  int     `json:"examples"`  // that have it
	Predicted int     `json:"predicted"` // that got it
	Precision float64 `json:"precision"` // part of the predicted that have it
	Recall    float64 `json:"recall"`    // part of those that have it that got it
	F1        float64 `json:"f1"`        // harmonic mean of the two
}

func newScores(labels []string) *Scores {
	s := &Scores{Labels: make([]LabelScore, len(labels)), Confusion: make([][]int, len(labels))}
	for i, name := range labels {
		s.Labels[i].Label, s.Confusion[i] = name, make([]int, len(labels))
	}
	return s
}

func (s *Scores) add(is, predicted int) {
	s.Examples++
	s.Confusion[is][predicted]++
	s.Labels[is].Examples++
	s.Labels[predicted].Predicted++
}

// settle computes the rates from the counts.
func (s *Scores) settle() {
	right := 0
	for i := range s.Labels {
		l, hit := &s.Labels[i], s.Confusion[i][i]
		right += hit
		l.Precision, l.Recall = ratio(hit, l.Predicted), ratio(hit, l.Examples)
		l.F1 = ratio(2*hit, l.Predicted+l.Examples)
		s.MacroF1 += l.F1 / float64(len(s.Labels))
	}
	s.Accuracy = ratio(right, s.Examples)
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
