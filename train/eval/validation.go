// Package eval measures a model on text it was not trained on.
package eval

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"pretrain/data/pack"
	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"

	"github.com/gomlx/compute"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Set is held-out text, read as one stream of tokens in windows of the model's length: every token is predicted once,
// from what stands before it in its window.
type Set struct {
	// Corpus has the documents; each ends with EOS.
	Corpus pack.Corpus
	// Mask limits the measurement to the tokens it names, as training is limited to them (`loss: assistant`). Nil: all.
	Mask pack.Mask
	// EOS stands before the first document, so that its first token has something before it, as in training.
	EOS uint32
	// TokenBytes is the length in bytes of each token's text; 0 for special tokens, which are predicted but are no text.
	TokenBytes []int32
}

// Result is a measurement.
type Result struct {
	// Loss is the mean cross-entropy in nats per token.
	Loss float64 `json:"loss"`
	// BPB is bits per byte of text: Σ nats / ln 2 / bytes. It does not depend on the tokenizer.
	BPB    float64 `json:"bpb"`
	Tokens int64   `json:"tokens"`
	Bytes  int64   `json:"bytes"`
}

// Sources are the measurements of a run's sources, by name.
type Sources map[string]Result

// Total is all sources' text as one. It adds up in the order of the names: a sum of floats depends on the order, and the same
// measurement must give the same number.
func (s Sources) Total() Result {
	var total Result
	var nats float64
	for _, name := range slices.Sorted(maps.Keys(s)) {
		r := s[name]
		total.Tokens += r.Tokens
		total.Bytes += r.Bytes
		nats += r.Loss * float64(r.Tokens)
	}
	total.Loss = nats / float64(total.Tokens)
	total.BPB = nats / math.Ln2 / float64(total.Bytes)
	return total
}

// Evaluator is the compiled forward pass.
type Evaluator struct {
	decoder   model.Decoder
	params    []model.Param
	sequences int
	exec      *g.Exec
}

// New prepares an evaluator that takes so many sequences at once; it compiles on first use.
func New(backend compute.Backend, decoder model.Decoder, head loss.Head, sequences int) (*Evaluator, error) {
	e := &Evaluator{decoder: decoder, params: decoder.Params(), sequences: sequences}
	var err error
	e.exec, err = g.NewExec(backend, func(inputs []*g.Node) *g.Node {
		tokens, rest := inputs[0], inputs[1:]
		in := model.Input{Tokens: g.SliceAxis(tokens, 1, g.AxisRange(0, -1))}
		if decoder.DocumentMask {
			in.Segments, in.Positions, rest = rest[0], rest[1], rest[2:]
		}
		w := make(model.Weights, len(e.params))
		for i, p := range e.params {
			w[p.Name] = rest[i]
		}
		hidden, _ := decoder.Hidden(w, in)
		targets := g.Reshape(g.SliceAxis(tokens, 1, g.AxisRange(1)), -1)
		return head.PerToken(hidden, w[decoder.OutputName()], targets)
	})
	if err != nil {
		return nil, fmt.Errorf("prepare the evaluation: %w", err)
	}
	return e, nil
}

// Finalize frees the compiled program.
func (e *Evaluator) Finalize() { e.exec.Finalize() }

// Nats returns the cross-entropy of each target of a batch of the evaluator's size, [B·T]. params are the parameters in
// the order of the model's Params.
func (e *Evaluator) Nats(params []*tensors.Tensor, b *feed.Batch) ([]float32, error) {
	args := []any{tensors.FromFlatDataAndDimensions(b.Tokens, b.Sequences, b.SeqLen+1)}
	if e.decoder.DocumentMask {
		args = append(args,
			tensors.FromFlatDataAndDimensions(b.Segments, b.Sequences, b.SeqLen),
			tensors.FromFlatDataAndDimensions(b.Positions, b.Sequences, b.SeqLen))
	}
	for _, p := range params[:len(e.params)] {
		args = append(args, p)
	}
	out, err := e.exec.Call(args...)
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	defer out[0].MustFinalizeAll()
	return tensors.CopyFlatData[float32](out[0])
}

// Validate measures the model on about so many tokens of the set, taken in whole windows spread evenly over it, the same
// ones each time; 0 is all of it. progress, if not nil, is told the tokens of each batch.
func (e *Evaluator) Validate(ctx context.Context, params []*tensors.Tensor, set Set, tokens int64, progress func(tokens int64)) (Result, error) {
	stream := set.stream()
	seqLen := int64(e.decoder.MaxSeqLen)
	windows := (stream.length - 1 + seqLen - 1) / seqLen
	count := windows
	if tokens > 0 {
		count = min(windows, (tokens+seqLen-1)/seqLen)
	}
	var r Result
	var nats float64
	for first := int64(0); first < count; first += int64(e.sequences) {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		b := feed.NewBatch(e.sequences, int(seqLen))
		row := pack.NewRow(int(seqLen))
		for i := range min(int64(e.sequences), count-first) {
			window := (first + i) * windows / count
			if err := stream.read(row, window*seqLen); err != nil {
				return r, err
			}
			b.Set(int(i), row)
		}
		losses, err := e.Nats(params, b)
		if err != nil {
			return r, err
		}
		done := int64(0)
		for i, w := range b.Weights {
			if w == 0 {
				continue
			}
			nats += float64(losses[i])
			target := b.Tokens[i+i/int(seqLen)+1]
			r.Bytes += int64(set.TokenBytes[target])
			done++
		}
		r.Tokens += done
		if progress != nil {
			progress(done)
		}
	}
	if r.Bytes == 0 {
		return r, fmt.Errorf("the validation set holds no text")
	}
	r.Loss = nats / float64(r.Tokens)
	r.BPB = nats / math.Ln2 / float64(r.Bytes)
	return r, nil
}

// stream is a set as one sequence of tokens: EOS, then all documents.
type stream struct {
	Set
	length int64
}

func (s Set) stream() stream { return stream{s, s.Corpus.Offset(s.Corpus.Docs()) + 1} }

// read fills a row with the T+1 tokens from position start on. Past the end is padding without loss.
func (s stream) read(row *pack.Row, start int64) error {
	clear(row.Loss)
	clear(row.Segments)
	clear(row.Positions)
	for i := range row.Tokens {
		row.Tokens[i] = s.EOS
	}
	end := min(start+int64(len(row.Tokens)), s.length)
	at, segment := start, int32(1)
	if start == 0 {
		row.Segments[0] = segment
		at, segment = 1, 2
	}
	for i := range end - start - 1 {
		row.Loss[i] = 1
	}
	for doc := s.find(at - 1); at < end; doc++ {
		from, to := s.Corpus.Offset(doc)+1, min(s.Corpus.Offset(doc+1)+1, end)
		if to <= at {
			continue
		}
		if err := s.Corpus.Read(row.Tokens[at-start:to-start], doc, int(at-from)); err != nil {
			return err
		}
		if err := s.limit(row.Loss, start, doc, at, to, int(at-from)); err != nil {
			return err
		}
		for p := at; p < to && p-start < int64(len(row.Segments)); p++ {
			row.Segments[p-start], row.Positions[p-start] = segment, int32(p-at)
		}
		at, segment = to, segment+1
	}
	return nil
}

// limit takes the loss off the targets at positions [at, to) that the mask does not name: the tokens of doc from offset on.
func (s stream) limit(loss []float32, start int64, doc int, at, to int64, offset int) error {
	if s.Mask == nil {
		return nil
	}
	counts := make([]bool, to-at)
	if err := s.Mask.ReadMask(counts, doc, offset); err != nil {
		return err
	}
	for i, counted := range counts {
		if target := at + int64(i) - start - 1; target >= 0 && !counted {
			loss[target] = 0
		}
	}
	return nil
}

// find is the document that holds a token of the corpus.
func (s stream) find(token int64) int {
	lo, hi := 0, s.Corpus.Docs()-1
	for lo < hi {
		mid := (lo + hi + 1) / 2
		if s.Corpus.Offset(mid) <= token {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}
