package label

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/zeebo/xxh3"

	"pretrain/internal/modelfile"
	"pretrain/internal/prng"
)

// Progress is how far a training is.
type Progress struct {
	Epoch    int // from 1; 0 while examples are read
	Examples int // seen in it
	Of       int // 0: not known yet
}

// Train fits a classifier. The features of all examples are kept in memory: 4 bytes for each n-gram of the first MaxTokens
// tokens. The same examples in the same order give the same model, whatever the number of cores. progress may be nil.
func Train(ctx context.Context, examples iter.Seq2[Example, error], t Training, progress func(Progress)) (*Model, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	set, err := collect(ctx, examples, t, progress)
	if err != nil {
		return nil, err
	}
	m, err := newModel(set.labels, t)
	if err != nil {
		return nil, err
	}
	m.header.Examples = len(set.train)
	if err := m.fit(ctx, set.train, progress); err != nil {
		return nil, err
	}
	m.header.Weights = modelfile.Hash(rawWeights(m.weights))
	if len(set.holdout) > 0 {
		s := newScores(set.labels)
		p := make([]float64, len(set.labels))
		for _, e := range set.holdout {
			m.forward(e.features, p)
			s.add(e.label, argmax(p))
		}
		s.settle()
		m.header.Holdout = s
	}
	return m, nil
}

// examples are texts as features, labels as numbers.
type example struct {
	features []uint32
	label    int
}

type exampleSet struct {
	labels         []string
	train, holdout []example
}

// collect extracts the features of all examples, on all cores.
func collect(ctx context.Context, examples iter.Seq2[Example, error], t Training, progress func(Progress)) (*exampleSet, error) {
	const batch = 256
	set := &exampleSet{}
	numbers := map[string]int{}
	var all []example
	var held []bool
	extractors := make([]extractor, runtime.GOMAXPROCS(0))
	for i := range extractors {
		extractors[i].f = t.Features
	}
	var texts []string
	flush := func() {
		first := len(all) - len(texts)
		var wg sync.WaitGroup
		for w := range extractors {
			wg.Go(func() {
				for i := w; i < len(texts); i += len(extractors) {
					all[first+i].features = slices.Clone(extractors[w].extract(texts[i]))
				}
			})
		}
		wg.Wait()
		texts = texts[:0]
		progress(Progress{Examples: len(all)})
	}
	for e, err := range examples {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		n, ok := numbers[e.Label]
		if !ok {
			n = len(numbers)
			numbers[e.Label] = n
		}
		all = append(all, example{label: n})
		held = append(held, float64(xxh3.HashString(e.Text))/(1<<64) < float64(t.Holdout))
		if texts = append(texts, e.Text); len(texts) == batch {
			flush()
		}
	}
	flush()
	if len(numbers) < 2 {
		return nil, fmt.Errorf("the examples have %d different labels (%s); at least 2 are needed", len(numbers), strings.Join(slices.Sorted(maps.Keys(numbers)), ", "))
	}
	set.labels = slices.Sorted(maps.Keys(numbers))
	sorted := make([]int, len(set.labels)) // number as found → number in order
	for i, name := range set.labels {
		sorted[numbers[name]] = i
	}
	for i, e := range all {
		e.label = sorted[e.label]
		if held[i] {
			set.holdout = append(set.holdout, e)
		} else {
			set.train = append(set.train, e)
		}
	}
	if len(set.train) == 0 {
		return nil, errors.New("no examples are left to train on: lower holdout")
	}
	return set, nil
}

// fit minimises the cross-entropy by AdaGrad (Duchi et al. 2011), one example at a time: frequent n-grams are soon slowed down, rare
// ones learn at full speed when they come.
func (m *Model) fit(ctx context.Context, examples []example, progress func(Progress)) error {
	k := len(m.header.Labels)
	rate := m.Training.LearningRate
	squares := make([]float32, len(m.weights))
	p := make([]float64, k)
	key := prng.New(m.Training.Seed).Split("label")
	update := func(at int, gradient float64) {
		s := float64(squares[at]) + gradient*gradient
		squares[at] = float32(s)
		if s > 0 {
			m.weights[at] -= float32(rate * gradient / math.Sqrt(s))
		}
	}
	for epoch := range m.Training.Epochs {
		order := prng.NewPermutation(key.SplitN(uint64(epoch)), uint64(len(examples)))
		for i := range examples {
			e := &examples[order.At(uint64(i))]
			m.forward(e.features, p)
			p[e.label]-- // the gradient by the logits
			x := scaleOf(e.features)
			for _, f := range e.features {
				for j, d := range p {
					update(int(f)*k+j, d*x)
				}
			}
			for j, d := range p {
				update(len(m.weights)-k+j, d)
			}
			if (i+1)%1024 == 0 || i+1 == len(examples) {
				if err := ctx.Err(); err != nil {
					return err
				}
				progress(Progress{Epoch: epoch + 1, Examples: i + 1, Of: len(examples)})
			}
		}
	}
	return nil
}
