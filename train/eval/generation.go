package eval

import (
	"context"
	"fmt"

	"pretrain/internal/prng"
	"pretrain/model/generate"
	"pretrain/tokenizer"
	"pretrain/train/eval/sandbox"

	"github.com/gomlx/gomlx/core/tensors"
)

// Writer has a model write answers.
type Writer struct {
	Generator *generate.Generator
	Params    []*tensors.Tensor
	Tokenizer tokenizer.Tokenizer
	// MaxTokens is the most of an answer.
	MaxTokens int
}

// prompt is what an item's answer follows: a document's end, as in training, then the text.
func (w Writer) prompt(text string) ([]uint32, error) {
	ids, err := w.Tokenizer.Encode(text)
	return append([]uint32{w.Tokenizer.EOS()}, ids...), err
}

// ask is the text before an item's answer.
func (t Task) ask(i Item, shots int) (text string, count int) {
	before, n := t.shots(i, shots)
	switch t.Kind {
	case Code:
		return before + i.Prompt, n
	case Generation:
		return before + i.question(), n
	}
	return before + i.Context, n
}

// Generate measures a task of generation, cloze or code, by greedy decoding. Programs are run in the sandbox, where the caller must have
// been allowed to run them. progress counts items.
func (w Writer) Generate(ctx context.Context, t Task, shots int, progress Progress) (TaskResult, error) {
	items := make([]ItemResult, len(t.Items))
	most := 0
	for first := 0; first < len(t.Items); {
		chunk := t.Items[first:min(first+w.Generator.MaxBatch(), len(t.Items))]
		requests := make([]generate.Request, len(chunk))
		for i, item := range chunk {
			text, n := t.ask(item, shots)
			most = max(most, n)
			prompt, err := w.prompt(text)
			if err != nil {
				return TaskResult{}, fmt.Errorf("task %s, item %s: %w", t.Name, item.ID, err)
			}
			requests[i] = generate.Request{Prompt: prompt, MaxTokens: w.MaxTokens, Stop: []uint32{w.Tokenizer.EOS()}}
		}
		outputs, err := w.Generator.Generate(ctx, w.Params, requests)
		if err != nil {
			return TaskResult{}, fmt.Errorf("task %s: %w", t.Name, err)
		}
		for i, item := range chunk {
			if items[first+i], err = judge(ctx, item, w.Tokenizer.Decode(outputs[i])); err != nil {
				return TaskResult{}, fmt.Errorf("task %s, item %s: %w", t.Name, item.ID, err)
			}
		}
		first += len(chunk)
		if progress != nil {
			progress(int64(first), int64(len(t.Items)))
		}
	}
	return newTaskResult(t, most, items), nil
}

// judge says what became of an item whose answer the model wrote.
func judge(ctx context.Context, item Item, text string) (ItemResult, error) {
	r := ItemResult{ID: item.ID, Subject: item.Subject, Output: text}
	if item.Kind() == Code {
		r.Output = cutAt(text, codeStops)
		program := item.Prompt + r.Output + "\n" + item.Test + "\ncheck(" + item.EntryPoint + ")\n"
		outcome, err := sandbox.Run(ctx, program, sandbox.Default())
		r.Answer, r.Values = outcome.Detail, map[Metric]float64{PassAt1: indicator(outcome.Passed)}
		return r, err
	}
	r.Output = cutAt(text, answerStops)
	r.Answer, r.Values = ExtractAnswer(text), map[Metric]float64{ExactMatch: indicator(item.passes(text))}
	return r, nil
}

// Draws samples an item's answer at temperature 1, the model's own distribution: which of n draws, from number first on, pass. It is
// a draw function for [PassUntil.Run].
func (w Writer) Draws(t Task, item Item, shots int, temperature float64, key prng.Key) (func(ctx context.Context, first, n int) ([]bool, error), error) {
	text, _ := t.ask(item, shots)
	prompt, err := w.prompt(text)
	if err != nil {
		return nil, fmt.Errorf("task %s, item %s: %w", t.Name, item.ID, err)
	}
	tokens := w.MaxTokens
	if t.Kind == Cloze { // no more than decides: the target and one token after it
		target, err := w.Tokenizer.Encode(item.Target)
		if err != nil {
			return nil, err
		}
		tokens = len(target) + 1
	}
	return func(ctx context.Context, first, n int) ([]bool, error) {
		requests := make([]generate.Request, n)
		for i := range requests {
			requests[i] = generate.Request{
				Prompt: prompt, MaxTokens: tokens, Stop: []uint32{w.Tokenizer.EOS()}, Key: key.SplitN(uint64(first + i)),
				Sampling: generate.Sampling{Temperature: temperature},
			}
		}
		outputs, err := w.Generator.Generate(ctx, w.Params, requests)
		if err != nil {
			return nil, fmt.Errorf("task %s, item %s: %w", t.Name, item.ID, err)
		}
		passed := make([]bool, n)
		for i, ids := range outputs {
			passed[i] = item.passes(w.Tokenizer.Decode(ids))
		}
		return passed, nil
	}, nil
}
