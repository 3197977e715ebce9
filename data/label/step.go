package label

import (
	"fmt"
	"slices"
	"strings"

	"pretrain/data"
)

// Step labels documents, and drops those whose probability is outside c's bounds where c filters. A conversation is judged by all
// that is said in it. An error says that the model does not have the value c names.
func (m *Model) Step(c Classifier) (data.Factory, error) {
	value := -1
	if c.Value != "" {
		if value = slices.Index(m.Labels(), c.Value); value < 0 {
			return nil, fmt.Errorf("value: %q: the model %s has %s", c.Value, c.Model, strings.Join(m.Labels(), ", "))
		}
	}
	name, reason := "label."+c.Name, data.Reason("label_"+c.Name)
	return func() data.Step {
		p := m.Predictor()
		return data.StepFunc(func(d *data.Document) (data.Reason, string) {
			text := textOf(d)
			if value < 0 {
				best, probability := p.Best(text)
				d.SetText(name, best)
				d.SetNumber(name+".p", probability)
				return "", ""
			}
			probability := p.Probabilities(text)[value]
			d.SetNumber(name, probability)
			if c.Mode == data.Filter && (probability < float64(c.Min) || probability > float64(c.highest())) {
				return reason, fmt.Sprintf("%s is %s with probability %.3f; want %v to %v", c.Name, c.Value, probability, c.Min, c.highest())
			}
			return "", ""
		})
	}, nil
}

// textOf is what a label is about.
func textOf(d *data.Document) string {
	if len(d.Messages) == 0 {
		return d.Text
	}
	parts := make([]string, len(d.Messages))
	for i, m := range d.Messages {
		parts[i] = m.Content
	}
	return strings.Join(parts, "\n")
}
