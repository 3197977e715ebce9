package eval

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"pretrain/model"
	"pretrain/train/loss"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Request asks how likely a continuation is after a context. Both have at least one token.
type Request struct{ Context, Continuation []uint32 }

// Score is the answer to a request.
type Score struct {
	// LogLikelihood is the sum of the continuation's log probabilities, in nats.
	LogLikelihood float64
	// Greedy says that each token of the continuation is the likeliest at its place.
	Greedy bool
	// Cut says that the beginning of the context did not fit into the model's window.
	Cut bool
}

// shortest is the smallest length that requests are padded to.
const shortest = 32

// Scorer answers requests in batches of like length.
type Scorer struct {
	decoder model.Decoder
	params  []model.Param
	lengths []int // that requests are padded to, ascending: each is a program to compile
	tokens  int   // in a batch
	exec    *g.Exec
}

// NewScorer prepares a scorer whose batches have about so many tokens, padding included. It compiles a program for each
// length that comes up: 32, 64, 128, … tokens, up to the model's window.
func NewScorer(backend compute.Backend, decoder model.Decoder, head loss.Head, tokens int) (*Scorer, error) {
	decoder.DocumentMask = false // a sequence is one text; what is after it is padding, which it does not see
	s := &Scorer{decoder: decoder, params: decoder.Params(), tokens: tokens}
	for n := shortest; n < decoder.MaxSeqLen; n *= 2 {
		s.lengths = append(s.lengths, n)
	}
	s.lengths = append(s.lengths, decoder.MaxSeqLen)
	var err error
	s.exec, err = g.NewExec(backend, func(inputs []*g.Node) []*g.Node {
		tokens, w := inputs[0], model.NameWeights(s.params, inputs[1:]) // tokens [B, T+1]
		hidden, _ := decoder.Hidden(w, model.Input{Tokens: g.SliceAxis(tokens, 1, g.AxisRange(0, -1))})
		targets := g.Reshape(g.SliceAxis(tokens, 1, g.AxisRange(1)), -1)
		nats, best := head.Greedy(hidden, w[decoder.OutputName()], targets)
		return []*g.Node{nats, g.ConvertDType(g.Equal(best, targets), dtypes.Int32)}
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the scoring of texts: %w", err)
	}
	return s, nil
}

// Finalize frees the compiled programs.
func (s *Scorer) Finalize() { s.exec.Finalize() }

// sequence is a request as the model sees it: of the last tokens the model's window has room for, the first is only input.
type sequence struct {
	request int
	tokens  []uint32
	targets int // the last so many tokens are the continuation
}

// inputs is how many tokens go through the model.
func (q sequence) inputs() int64 { return int64(len(q.tokens) - 1) }

// Progress is told how many tokens of how many are done, padding left out. It may be nil.
type Progress func(done, total int64)

// Score answers requests, in their order.
func (s *Scorer) Score(ctx context.Context, params []*tensors.Tensor, requests []Request, progress Progress) ([]Score, error) {
	scores := make([]Score, len(requests))
	var done, total int64
	sequences := make([]sequence, len(requests))
	for i, r := range requests {
		q := sequence{request: i, tokens: slices.Concat(r.Context, r.Continuation), targets: len(r.Continuation)}
		if len(r.Context) == 0 || len(r.Continuation) == 0 {
			return nil, fmt.Errorf("request %d: want a context and a continuation of at least one token each", i)
		}
		if over := len(q.tokens) - s.decoder.MaxSeqLen - 1; over > 0 {
			if over >= len(r.Context) {
				return nil, fmt.Errorf("request %d: a continuation of %d tokens does not fit into the model's window of %d", i, q.targets, s.decoder.MaxSeqLen)
			}
			q.tokens, scores[i].Cut = q.tokens[over:], true
		}
		sequences[i] = q
		total += q.inputs()
	}
	slices.SortStableFunc(sequences, func(a, b sequence) int { return cmp.Compare(len(a.tokens), len(b.tokens)) })
	for len(sequences) > 0 {
		at, _ := slices.BinarySearch(s.lengths, len(sequences[0].tokens)-1)
		seqLen := s.lengths[at]
		size := max(1, s.tokens/seqLen)
		n := 0
		for n < min(size, len(sequences)) && len(sequences[n].tokens)-1 <= seqLen {
			n++
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := s.batch(params, sequences[:n], size, seqLen, scores); err != nil {
			return nil, err
		}
		for _, q := range sequences[:n] {
			done += q.inputs()
		}
		if progress != nil {
			progress(done, total)
		}
		sequences = sequences[n:]
	}
	return scores, nil
}

// batch scores sequences as one batch [size, seqLen].
func (s *Scorer) batch(params []*tensors.Tensor, sequences []sequence, size, seqLen int, scores []Score) error {
	tokens := make([]int32, size*(seqLen+1))
	for i, q := range sequences {
		for j, token := range q.tokens {
			tokens[i*(seqLen+1)+j] = int32(token)
		}
	}
	args := []any{tensors.FromFlatDataAndDimensions(tokens, size, seqLen+1)}
	for _, p := range params[:len(s.params)] {
		args = append(args, p)
	}
	out, err := s.exec.Call(args...)
	if err != nil {
		return fmt.Errorf("score texts: %w", err)
	}
	nats, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return fmt.Errorf("score texts: %w", err)
	}
	greedy, err := tensors.CopyFlatData[int32](out[1])
	if err != nil {
		return fmt.Errorf("score texts: %w", err)
	}
	for _, t := range out {
		t.MustFinalizeAll()
	}
	for i, q := range sequences {
		score := &scores[q.request]
		score.Greedy = true
		end := i*seqLen + len(q.tokens) - 1
		for at := end - q.targets; at < end; at++ {
			score.LogLikelihood -= float64(nats[at])
			score.Greedy = score.Greedy && greedy[at] != 0
		}
	}
	return nil
}
