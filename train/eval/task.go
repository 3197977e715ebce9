package eval

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"pretrain/tokenizer"

	"github.com/gomlx/gomlx/core/tensors"
)

// Metric names what is measured of an item. Its value is per item; a task's is their mean.
type Metric string

const (
	// Accuracy is 1 where the likeliest choice, by the sum of its log-likelihood, is right; in a cloze task where greedy
	// decoding gives the target exactly.
	Accuracy Metric = "acc"
	// AccuracyNorm takes the log-likelihood per character of the choice (lm-evaluation-harness's acc_norm): the plain sum
	// favours short choices.
	AccuracyNorm Metric = "acc_norm"
	// TargetNats is −log p(target) of a cloze item; exp of its mean is the task's perplexity.
	TargetNats Metric = "target_nats"
	// ExactMatch is 1 where the answer taken out of a generated text is the target.
	ExactMatch Metric = "exact_match"
	// PassAt1 is 1 where a generated program passes its test.
	PassAt1 Metric = "pass@1"
)

// LessIsBetter says which way a metric is good.
func (m Metric) LessIsBetter() bool { return m == TargetNats }

// ItemResult is what became of one item.
type ItemResult struct {
	ID      string             `json:"id"`
	Subject string             `json:"subject,omitempty"`
	Values  map[Metric]float64 `json:"values"`
	// LogLikelihoods are those of the choices, in nats.
	LogLikelihoods []float64 `json:"loglikelihoods,omitempty"`
	// Output is the text the model wrote, Answer what was taken out of it, or why there is none.
	Output string `json:"output,omitempty"`
	Answer string `json:"answer,omitempty"`
}

// TaskResult is the measurement of a task.
type TaskResult struct {
	Task string `json:"task"`
	Kind Kind   `json:"kind"`
	// Shots is the most examples that an item had before it.
	Shots   int                 `json:"shots"`
	Count   int                 `json:"count"`
	Metrics map[Metric]Estimate `json:"metrics"`
	// Cut is how many items lost the beginning of their context, as the model's window was too short.
	Cut int `json:"cut,omitempty"`
	// LeftOut is how many items could not be measured: one of their choices is empty, or longer than the model's window.
	LeftOut int          `json:"left_out,omitempty"`
	Items   []ItemResult `json:"items,omitempty"`
}

// newTaskResult sums items up.
func newTaskResult(t Task, shots int, items []ItemResult) TaskResult {
	r := TaskResult{Task: t.Name, Kind: t.Kind, Shots: shots, Count: len(items), LeftOut: t.LeftOut, Metrics: map[Metric]Estimate{}, Items: items}
	if len(items) == 0 {
		return r
	}
	for m := range items[0].Values {
		values := make([]float64, len(items))
		for i, item := range items {
			values[i] = item.Values[m]
		}
		if m == TargetNats {
			r.Metrics[m] = Mean(values)
		} else {
			r.Metrics[m] = share(values)
		}
	}
	return r
}

// Likelihood measures a task of choices or a cloze task by the log-likelihood of given texts; nothing is generated. Each item
// has up to shots solved items before it.
func (s *Scorer) Likelihood(ctx context.Context, params []*tensors.Tensor, tok tokenizer.Tokenizer, t Task, shots int, progress Progress) (TaskResult, error) {
	enc := encoder{tok}
	var requests []Request
	var kept []Item
	most := 0
	for _, item := range t.Items {
		first := len(requests)
		before, n := t.shots(item, shots)
		most = max(most, n)
		contexts, continuations := []string{before + item.Context}, []string{item.Target}
		if t.Kind == Choice {
			contexts, continuations = nil, nil
			for _, c := range item.Choices {
				contexts = append(contexts, before+item.query())
				continuations = append(continuations, gap(item.query(), c)+c)
			}
		}
		for i := range contexts {
			r, err := enc.request(contexts[i], continuations[i])
			if err != nil {
				return TaskResult{}, fmt.Errorf("task %s, item %s: %w", t.Name, item.ID, err)
			}
			requests = append(requests, r)
		}
		if slices.ContainsFunc(requests[first:], func(r Request) bool { return len(r.Continuation) > s.decoder.MaxSeqLen }) {
			requests = requests[:first]
			t.LeftOut++
			continue
		}
		kept = append(kept, item)
	}
	scores, err := s.Score(ctx, params, requests, progress)
	if err != nil {
		return TaskResult{}, fmt.Errorf("task %s: %w", t.Name, err)
	}
	items := make([]ItemResult, len(kept))
	cut := 0
	for i, item := range kept {
		own := scores[:max(1, len(item.Choices))]
		scores = scores[len(own):]
		if t.Kind == Choice {
			items[i] = choiceResult(item, own)
		} else {
			items[i] = ItemResult{Values: map[Metric]float64{Accuracy: indicator(own[0].Greedy), TargetNats: -own[0].LogLikelihood}}
		}
		items[i].ID, items[i].Subject = item.ID, item.Subject
		for _, s := range own {
			if s.Cut {
				cut++
				break
			}
		}
	}
	r := newTaskResult(t, most, items)
	r.Cut = cut
	return r, nil
}

// choiceResult judges the scores of an item's choices. Of equal ones the first counts as chosen.
func choiceResult(item Item, scores []Score) ItemResult {
	r := ItemResult{LogLikelihoods: make([]float64, len(scores))}
	best, bestNorm := 0, 0
	perCharacter := func(i int) float64 {
		return scores[i].LogLikelihood / float64(utf8.RuneCountInString(item.Choices[i]))
	}
	for i, s := range scores {
		r.LogLikelihoods[i] = s.LogLikelihood
		if s.LogLikelihood > scores[best].LogLikelihood {
			best = i
		}
		if perCharacter(i) > perCharacter(bestNorm) {
			bestNorm = i
		}
	}
	r.Values = map[Metric]float64{Accuracy: indicator(best == item.Gold), AccuracyNorm: indicator(bestNorm == item.Gold)}
	return r
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
