package eval

import (
	"context"
	"math"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"
	"pretrain/tokenizer"
	"pretrain/train/loss"

	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"github.com/google/go-cmp/cmp"
)

// letters is a tokenizer of one token a byte, folded into a small vocabulary; "th" is one token. 0 ends a document.
type letters struct{ tokenizer.Tokenizer }

func (letters) EOS() uint32 { return eos }

func (letters) Encode(text string) ([]uint32, error) {
	var ids []uint32
	for i := 0; i < len(text); i++ {
		if strings.HasPrefix(text[i:], "th") {
			ids = append(ids, vocab-1)
			i++
			continue
		}
		ids = append(ids, 1+uint32(text[i])%(vocab-2))
	}
	return ids, nil
}

func (l letters) EncodeBatch(_ context.Context, texts []string) ([][]uint32, error) {
	ids := make([][]uint32, len(texts))
	for i, text := range texts {
		ids[i], _ = l.Encode(text)
	}
	return ids, nil
}

const window = 80

// scorer is a tiny model of random weights whose window holds two lengths of batches, and its parameters.
func scorer(t *testing.T) (*Scorer, model.Decoder, []*tensors.Tensor) {
	t.Helper()
	be := backendtest.CPU(t)
	n := model.NumericsFor(be, model.FP32)
	m := model.Config{VocabSize: vocab, DModel: 8, NumLayers: 1, NumHeads: 2, HeadDim: 4, DimModelBase: 8, MaxSeqLen: window, LogitSoftCap: 4}.Resolve()
	d := model.Decoder{Config: m, Numerics: n}
	s, err := NewScorer(be, d, loss.Head{Numerics: n, SoftCap: 4}, 100)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Finalize)
	var params []*tensors.Tensor
	for i, p := range m.Params() {
		params = append(params, backendtest.NormalTensor(uint64(i), p.Shape...))
	}
	return s, d, params
}

// plain is the model without batches or chunks: the logits of one sequence that fills the window.
type plain struct {
	*g.Exec
	params []*tensors.Tensor
}

func newPlain(t *testing.T, d model.Decoder, params []*tensors.Tensor) plain {
	t.Helper()
	exec, err := g.NewExec(backendtest.CPU(t), func(inputs []*g.Node) *g.Node {
		w := model.NameWeights(d.Params(), inputs[1:])
		h, _ := d.Hidden(w, model.Input{Tokens: inputs[0]})
		return d.Logits(w, h)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(exec.Finalize)
	return plain{exec, params}
}

// score scores one request by the logits: a causal model does not see what comes after.
func (p plain) score(t *testing.T, r Request) Score {
	t.Helper()
	tokens := append(append([]uint32(nil), r.Context...), r.Continuation...)
	tokens = tokens[max(0, len(tokens)-window-1):]
	input := make([]int32, window)
	for i := range len(tokens) - 1 {
		input[i] = int32(tokens[i])
	}
	args := []any{tensors.FromFlatDataAndDimensions(input, 1, window)}
	for _, p := range p.params {
		args = append(args, p)
	}
	out, err := p.Call(args...)
	if err != nil {
		t.Fatal(err)
	}
	logits, _ := tensors.CopyFlatData[float32](out[0])
	s := Score{Greedy: true, Cut: len(r.Context)+len(r.Continuation) > window+1}
	for i := len(tokens) - len(r.Continuation); i < len(tokens); i++ {
		row := logits[(i-1)*vocab : i*vocab]
		sum, best := 0.0, 0
		for v, l := range row {
			sum += math.Exp(float64(l))
			if l > row[best] {
				best = v
			}
		}
		s.LogLikelihood += float64(row[tokens[i]]) - math.Log(sum)
		s.Greedy = s.Greedy && best == int(tokens[i])
	}
	return s
}

// TestScore: requests of all lengths, batched and padded, score as each does alone.
func TestScore(t *testing.T) {
	s, d, params := scorer(t)
	oracle := newPlain(t, d, params)
	var requests []Request
	for i, n := range []int{2, 90, 5, 33, 31, 70, 2, 34, 81, 12, 3} {
		tokens := backendtest.Tokens(uint64(i), n, vocab)
		all := make([]uint32, n)
		for j, v := range tokens {
			all[j] = uint32(v)
		}
		cut := n - 1 - i%min(3, n-1)
		requests = append(requests, Request{all[:cut], all[cut:]})
	}
	// One whose continuation is what the model finds likeliest.
	for v := range uint32(vocab) {
		requests = append(requests, Request{[]uint32{3, 4}, []uint32{v}})
	}
	var done, total int64
	got, err := s.Score(context.Background(), params, requests, func(d, of int64) { done, total = d, of })
	if err != nil {
		t.Fatal(err)
	}
	greedy := 0
	for i, r := range requests {
		want := oracle.score(t, r)
		if math.Abs(got[i].LogLikelihood-want.LogLikelihood) > 1e-4 || got[i].Greedy != want.Greedy || got[i].Cut != want.Cut {
			t.Errorf("request %d of %d and %d tokens: %+v, alone %+v", i, len(r.Context), len(r.Continuation), got[i], want)
		}
		if i >= len(requests)-vocab && got[i].Greedy {
			greedy++
		}
	}
	if greedy != 1 {
		t.Errorf("%d of the %d possible next tokens are the likeliest", greedy, vocab)
	}
	if done != total || total == 0 {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	for name, bad := range map[string]Request{
		"no context": {nil, []uint32{1}}, "no continuation": {[]uint32{1}, nil}, "too long": {[]uint32{1}, make([]uint32, window+1)},
	} {
		if _, err := s.Score(context.Background(), params, []Request{bad}, nil); err == nil {
			t.Errorf("%s: scored", name)
		}
	}
}

// TestLikelihood: a task's records are those of its requests, made by hand.
func TestLikelihood(t *testing.T) {
	s, d, params := scorer(t)
	oracle := newPlain(t, d, params)
	items := []Item{
		{ID: "dev", Task: "t", Split: "dev", Query: "a?", Choices: []string{"yes", "no"}, Gold: 1},
		{ID: "1", Task: "t", Query: "b?", Choices: []string{"yes", "no"}, Gold: 0},
		{ID: "2", Task: "t", Query: "c?", Choices: []string{"maybe", "no"}, Gold: 1},
	}
	tasks, err := Group(items)
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.Likelihood(context.Background(), params, letters{}, tasks[0], 3, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Count != 2 || got.Shots != 1 {
		t.Errorf("%d items with %d shots, want 2 with the 1 there is", got.Count, got.Shots)
	}
	acc := 0.0
	for i, item := range items[1:] {
		var lls []float64
		for _, c := range item.Choices {
			context, _ := letters{}.Encode("a? no\n\n" + item.Query)
			continuation, _ := letters{}.Encode(" " + c)
			lls = append(lls, oracle.score(t, Request{append([]uint32{eos}, context...), continuation}).LogLikelihood)
		}
		for j, ll := range lls {
			if math.Abs(got.Items[i].LogLikelihoods[j]-ll) > 1e-4 {
				t.Errorf("item %d choice %d: %g, want %g", i, j, got.Items[i].LogLikelihoods[j], ll)
			}
		}
		right := (lls[1] > lls[0]) == (item.Gold == 1)
		norm := (lls[1]/float64(len(item.Choices[1])) > lls[0]/float64(len(item.Choices[0]))) == (item.Gold == 1)
		want := map[Metric]float64{Accuracy: indicator(right), AccuracyNorm: indicator(norm)}
		if diff := cmp.Diff(want, got.Items[i].Values); diff != "" {
			t.Errorf("item %d: %s", i, diff)
		}
		acc += indicator(right) / 2
	}
	if got.Metrics[Accuracy].Value != acc {
		t.Errorf("accuracy %g, want %g", got.Metrics[Accuracy].Value, acc)
	}

	// What does not fit into the window is left out and counted.
	long := tasks[0]
	long.Items = append(long.Items[:2:2], Item{ID: "3", Query: "d?", Choices: []string{strings.Repeat("x", window+1), "no"}})
	if r, err := s.Likelihood(context.Background(), params, letters{}, long, 0, nil); err != nil || r.Count != 2 || r.LeftOut != 1 {
		t.Errorf("a choice longer than the window: %d items, %d left out, %v", r.Count, r.LeftOut, err)
	}

	cloze, err := Group([]Item{{ID: "1", Task: "c", Context: "one two", Target: " three"}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Likelihood(context.Background(), params, letters{}, cloze[0], 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	context, _ := letters{}.Encode("one two")
	continuation, _ := letters{}.Encode(" three")
	want := oracle.score(t, Request{append([]uint32{eos}, context...), continuation})
	if v := r.Items[0].Values; math.Abs(v[TargetNats]+want.LogLikelihood) > 1e-4 || v[Accuracy] != indicator(want.Greedy) {
		t.Errorf("cloze: %v, want %+v", v, want)
	}
}

// TestRequest: the two parts are one text's tokens, cut where the context's end.
func TestRequest(t *testing.T) {
	enc := func(s string) []uint32 { ids, _ := letters{}.Encode(s); return ids }
	for _, c := range []struct{ context, continuation, head, tail string }{
		{"ab", " cd", "ab", " cd"},
		{"ab ", "cd", "ab", " cd"},         // the space belongs to the word after it
		{"ab\n", "cd", "ab", "\ncd"},       // any space does
		{"", "cd", "", "cd"},               // nothing before but the end of a document
		{"bat", "h", "ba", "th"},           // a token across the border is the continuation's, as it is the last
		{"bat", "he one", "bath", "e one"}, // … and else is cut at the context's number of tokens
	} {
		got, err := encoder{letters{}}.request(c.context, c.continuation)
		want := Request{append([]uint32{eos}, enc(c.head)...), enc(c.tail)}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q + %q: %v %s", c.context, c.continuation, err, diff)
		}
	}
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		item Item
		want string
	}{
		{Item{Task: "mmlu", Query: "Why?", Choices: []string{"so"}}, "Question: Why?\nAnswer: so"},
		{Item{Task: "cmmlu", Query: "为什么", Choices: []string{"因为"}}, "题目：为什么\n答案：因为"},
		{Item{Task: "piqa", Query: "Question: Why?\n", Choices: []string{"so"}}, "Question: Why?\nAnswer: so"},
		{Item{Task: "boolq", Query: "Passage: x.\nQuestion: why?", Choices: []string{"no"}}, "Passage: x.\nQuestion: why?\nAnswer: no"},
		{Item{Task: "siqa", Query: "Question: why?\nChoices:\nA. x\nAnswer:", Choices: []string{"A"}}, "Question: why?\nChoices:\nA. x\nAnswer: A"},
		{Item{Task: "copa", Query: "It rained, therefore", Choices: []string{"wet."}}, "It rained, therefore wet."},
		{Item{Task: "c3", Query: "问：什么?\n答：", Choices: []string{"水"}}, "问：什么?\n答：水"},
		{Item{Task: "winogrande", Choices: []string{"A whole text."}}, "A whole text."},
	} {
		if got := c.item.example(); got != c.want {
			t.Errorf("%s: %q, want %q", c.item.Task, got, c.want)
		}
	}
}
