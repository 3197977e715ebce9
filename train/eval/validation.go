// Package eval measures a model on text it was not trained on.
package eval

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strconv"

	"pretrain/data/pack"
	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
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
	// Stride is how far a window begins after the one before; only its last Stride targets count, so that each has at least
	// T−Stride tokens before it (the first window's all count). 0: T, windows side by side, the cheapest: the tokens at a
	// window's beginning then have little before them. With T/2 all have half a window, at twice the cost.
	Stride int
	// EOS stands before the first document, so that its first token has something before it, as in training.
	EOS uint32
	// TokenBytes is the length in bytes of each token's text; 0 for special tokens, which are predicted but are no text.
	TokenBytes []int32
	// TextBytes is the length of each document's original text, for a tokenizer whose tokens do not spell it (one that
	// normalises). Nil: TokenBytes add up to it, as they do with a byte-level one. With it the set is measured whole.
	TextBytes []int64
	// IDs are the documents' names. Nil: their numbers.
	IDs []string
}

// Result is a measurement.
type Result struct {
	// Loss is the mean cross-entropy in nats per token.
	Loss float64 `json:"loss"`
	// BPB is bits per byte of text: Σ nats / ln 2 / bytes. It does not depend on the tokenizer.
	BPB float64 `json:"bpb"`
	// CI is the bootstrap interval of BPB over documents: how far it would be off with other documents of the same kind. Nil
	// where there are fewer than two.
	CI     *Interval `json:"bpb_ci95,omitempty"`
	Tokens int64     `json:"tokens"`
	Bytes  int64     `json:"bytes"`
	// Documents are the measurements of the documents, or of what was read of them, in order.
	Documents []Document `json:"documents,omitempty"`
}

// Document is the measurement of one document: the unit of intervals and of comparisons between models.
type Document struct {
	ID     string  `json:"id"`
	Nats   float64 `json:"nats"` // the sum over its tokens
	Tokens int64   `json:"tokens"`
	Bytes  int64   `json:"bytes"`
}

// resultOf sums documents up.
func resultOf(documents []Document) Result {
	r := Result{Documents: documents, CI: interval(documents)}
	var nats float64
	for _, d := range documents {
		r.Tokens += d.Tokens
		r.Bytes += d.Bytes
		nats += d.Nats
	}
	r.Loss = nats / float64(r.Tokens)
	r.BPB = nats / math.Ln2 / float64(r.Bytes)
	return r
}

// interval is the bootstrap interval of the documents' bits per byte.
func interval(documents []Document) *Interval {
	bits, bytes := make([]float64, len(documents)), make([]float64, len(documents))
	for i, d := range documents {
		bits[i], bytes[i] = d.Nats/math.Ln2, float64(d.Bytes)
	}
	return Ratio(bits, bytes)
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
		total.Documents = append(total.Documents, r.Documents...)
		nats += r.Loss * float64(r.Tokens)
	}
	total.Loss = nats / float64(total.Tokens)
	total.BPB = nats / math.Ln2 / float64(total.Bytes)
	total.CI = interval(total.Documents)
	return total
}

// Evaluator is the compiled forward pass.
type Evaluator struct {
	decoder   model.Decoder
	params    []model.Param
	sequences int
	mesh      *mesh.Mesh
	exec      *g.Exec
}

// New prepares an evaluator that takes so many sequences at once; it compiles on first use.
func New(m *mesh.Mesh, decoder model.Decoder, head loss.Head, sequences int) (*Evaluator, error) {
	decoder, head.Spread = decoder.Across(m.Spread()), m.Spread()
	e := &Evaluator{decoder: decoder, params: decoder.Params(), sequences: sequences, mesh: m}
	inputs := []mesh.Value{{Rule: mesh.Batch}}
	if decoder.DocumentMask {
		inputs = slices.Repeat(inputs, 3)
	}
	for _, p := range e.params {
		inputs = append(inputs, mesh.Value{Shape: shapes.Make(dtypes.Float32, p.Shape...), Rule: mesh.RuleOf(p)})
	}
	var err error
	e.exec, err = m.Exec("evaluate", func(inputs []*g.Node) []*g.Node {
		tokens, rest := inputs[0], inputs[1:]
		in := model.Input{Tokens: g.SliceAxis(tokens, 1, g.AxisRange(0, -1))}
		if decoder.DocumentMask {
			in.Segments, in.Positions, rest = rest[0], rest[1], rest[2:]
		}
		w := model.NameWeights(e.params, rest)
		hidden, _ := decoder.Hidden(w, in)
		targets := g.Reshape(g.SliceAxis(tokens, 1, g.AxisRange(1)), -1)
		return []*g.Node{head.PerToken(hidden, w[decoder.OutputName()], targets)}
	}, inputs, []mesh.Value{{}})
	if err != nil {
		return nil, fmt.Errorf("prepare the evaluation: %w", err)
	}
	return e, nil
}

// Finalize frees the compiled program.
func (e *Evaluator) Finalize() { e.exec.Finalize() }

// Nats returns the cross-entropy of each target of a batch of the evaluator's size, [B·T]. params begin with the parameters
// in the order of the model's Params, on each device of the mesh in turn: a training state's tensors.
func (e *Evaluator) Nats(params []*tensors.Tensor, b *feed.Batch) ([]float32, error) {
	var args []any
	each := len(params) / e.mesh.Devices()
	for d := range e.mesh.Devices() {
		from, to := e.mesh.Rows(d, b.Sequences)
		rows := func(x []int32, width int) any {
			return tensors.FromFlatDataAndDimensions(x[from*width:to*width], to-from, width)
		}
		args = append(args, rows(b.Tokens, b.SeqLen+1))
		if e.decoder.DocumentMask {
			args = append(args, rows(b.Segments, b.SeqLen), rows(b.Positions, b.SeqLen))
		}
		for _, p := range params[d*each : d*each+len(e.params)] {
			args = append(args, p)
		}
	}
	out, err := e.exec.Call(args...)
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	defer func() {
		for _, t := range out {
			t.MustFinalizeAll()
		}
	}()
	return tensors.CopyFlatData[float32](out[0])
}

// Validate measures the model on about so many tokens of the set, taken in whole windows spread evenly over it, the same
// ones each time; 0 is all of it. progress, if not nil, is told the tokens of each batch.
func (e *Evaluator) Validate(ctx context.Context, params []*tensors.Tensor, set Set, tokens int64, progress func(tokens int64)) (Result, error) {
	measured := make([]Document, set.Corpus.Docs())
	stream := set.stream()
	for b, err := range set.Batches(ctx, e.sequences, e.decoder.MaxSeqLen, tokens) {
		if err != nil {
			return Result{}, err
		}
		losses, err := e.Nats(params, b.Batch)
		if err != nil {
			return Result{}, err
		}
		done := int64(0)
		for i, start := range b.Starts {
			doc := stream.find(start)
			for t := range int64(b.SeqLen) {
				at := int64(i*b.SeqLen) + t
				if b.Weights[at] == 0 {
					continue
				}
				for set.Corpus.Offset(doc+1) <= start+t { // the target is token start+t of the corpus
					doc++
				}
				d := &measured[doc]
				d.Nats += float64(losses[at])
				d.Bytes += int64(set.TokenBytes[b.Tokens[at+int64(i)+1]])
				d.Tokens++
				done++
			}
		}
		if progress != nil {
			progress(done)
		}
	}
	for i := range measured {
		if measured[i].ID = strconv.Itoa(i); set.IDs != nil {
			measured[i].ID = set.IDs[i]
		}
		if set.TextBytes != nil {
			measured[i].Bytes = set.TextBytes[i]
		}
	}
	r := resultOf(slices.DeleteFunc(measured, func(d Document) bool { return d.Tokens == 0 }))
	if r.Bytes == 0 {
		return r, errors.New("the validation set holds no text")
	}
	return r, nil
}

// Windows are a batch of a set's windows and where each begins in the stream. Weights are 1 where a target counts.
type Windows struct {
	*feed.Batch
	Starts []int64
}

// Batches are about so many tokens of the set (0: all) in batches of windows of seqLen, spread evenly over it, the same ones each
// time. The last batch may have fewer windows than it has room for.
func (s Set) Batches(ctx context.Context, sequences, seqLen int, tokens int64) iter.Seq2[Windows, error] {
	return func(yield func(Windows, error) bool) {
		stream, stride := s.stream(), int64(s.Stride)
		if stride == 0 {
			stride = int64(seqLen)
		}
		if stride < 0 || stride > int64(seqLen) {
			yield(Windows{}, fmt.Errorf("stride of %d tokens: want 1 to %d, the model's window", stride, seqLen))
			return
		}
		windows := 1 + max(0, stream.length-1-int64(seqLen)+stride-1)/stride
		count := windows
		if tokens > 0 && s.TextBytes == nil {
			count = min(windows, (tokens+stride-1)/stride)
		}
		for first := int64(0); first < count; first += int64(sequences) {
			if err := ctx.Err(); err != nil {
				yield(Windows{}, err)
				return
			}
			b := Windows{feed.NewBatch(sequences, seqLen), make([]int64, min(int64(sequences), count-first))}
			row := pack.NewRow(seqLen)
			for i := range b.Starts {
				window := (first + int64(i)) * windows / count
				b.Starts[i] = window * stride
				if err := stream.read(row, b.Starts[i]); err != nil {
					yield(Windows{}, err)
					return
				}
				if window > 0 {
					clear(row.Loss[:int64(seqLen)-stride])
				}
				b.Set(i, row)
			}
			if !yield(b, nil) {
				return
			}
		}
	}
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
