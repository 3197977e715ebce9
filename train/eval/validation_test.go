package eval

import (
	"context"
	"errors"
	"math"
	"testing"

	"pretrain/data/pack"
	"pretrain/internal/backendtest"
	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"

	"github.com/gomlx/gomlx/core/tensors"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// documents is a corpus in memory.
type documents [][]uint32

func (d documents) Docs() int { return len(d) }

func (d documents) Offset(doc int) int64 {
	n := 0
	for _, tokens := range d[:doc] {
		n += len(tokens)
	}
	return int64(n)
}

func (d documents) Read(dst []uint32, doc, offset int) error {
	if offset+len(dst) > len(d[doc]) {
		return errors.New("read beyond the document")
	}
	copy(dst, d[doc][offset:])
	return nil
}

const eos, vocab, seqLen = 0, 13, 8

// wantStream is the text as one sequence, and the document of each token: 0 for the EOS before the first.
func (d documents) wantStream() (tokens []uint32, document []int) {
	tokens, document = []uint32{eos}, []int{0}
	for i, doc := range d {
		for _, token := range doc {
			tokens, document = append(tokens, token), append(document, i+1)
		}
	}
	return tokens, document
}

// ReadMask counts the odd tokens.
func (d documents) ReadMask(dst []bool, doc, offset int) error {
	for i := range dst {
		dst[i] = d[doc][offset+i]%2 == 1
	}
	return nil
}

// A mask takes the other targets out of every window, and nothing else.
func TestMaskLimitsTheLoss(t *testing.T) {
	docs := documents{{1, 2, 3}, {}, {4, 5, 6, 7, 8, 9, 11}}
	all, some := Set{Corpus: docs, EOS: eos}.stream(), Set{Corpus: docs, EOS: eos, Mask: docs}.stream()
	a, b := pack.NewRow(4), pack.NewRow(4)
	counted := 0
	for start := int64(0); start < all.length-1; start += 4 {
		if err := errors.Join(all.read(a, start), some.read(b, start)); err != nil {
			t.Fatal(err)
		}
		for i, w := range a.Loss {
			if a.Tokens[i+1]%2 == 0 {
				w = 0
			}
			if b.Loss[i] != w {
				t.Errorf("window at %d: target %d, token %d, has loss %g, want %g", start, i, b.Tokens[i+1], b.Loss[i], w)
			}
			counted += int(b.Loss[i])
		}
		a.Loss, b.Loss = nil, nil
		if diff := cmp.Diff(a, b); diff != "" {
			t.Error(diff)
		}
		a, b = pack.NewRow(4), pack.NewRow(4)
	}
	if counted != 6 {
		t.Errorf("%d targets counted, want the 6 odd ones", counted)
	}
}

// TestWindowsCoverTheStream: whatever the documents, empty ones among them, the windows predict each token of the stream
// once, from the tokens before it, and mark where documents begin.
func TestWindowsCoverTheStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var docs documents
		for i, n := range rapid.SliceOfN(rapid.IntRange(0, 20), 0, 8).Draw(t, "lengths") {
			doc := make([]uint32, n)
			for j := range doc {
				doc[j] = uint32(100*(i+1) + j)
			}
			docs = append(docs, doc)
		}
		T := rapid.IntRange(1, 10).Draw(t, "window")
		s := Set{Corpus: docs, EOS: eos}.stream()
		want, document := docs.wantStream()
		if s.length != int64(len(want)) {
			t.Fatalf("a stream of %d tokens, want %d", s.length, len(want))
		}
		predicted := make([]int, len(want))
		row := pack.NewRow(T) // one for all windows: nothing of the one before may stay
		for start := 0; start < len(want)-1; start += T {
			if err := s.read(row, int64(start)); err != nil {
				t.Fatal(err)
			}
			for i := range T {
				at := start + i
				if at >= len(want) {
					if row.Loss[i] != 0 || row.Segments[i] != 0 || row.Tokens[i] != eos {
						t.Fatalf("window at %d: padding %d has loss %g, segment %d, token %d", start, i, row.Loss[i], row.Segments[i], row.Tokens[i])
					}
					continue
				}
				if row.Tokens[i] != want[at] {
					t.Fatalf("window at %d: token %d is %d, want %d", start, i, row.Tokens[i], want[at])
				}
				if row.Loss[i] > 0 {
					predicted[at+1]++
					if row.Tokens[i+1] != want[at+1] {
						t.Fatalf("window at %d: target %d is %d, want %d", start, i, row.Tokens[i+1], want[at+1])
					}
				}
				if row.Segments[i] < 1 {
					t.Fatalf("window at %d: token %d has segment %d", start, i, row.Segments[i])
				}
				if i == 0 || document[at] != document[at-1] {
					if row.Positions[i] != 0 || i > 0 && row.Segments[i] == row.Segments[i-1] {
						t.Fatalf("window at %d: a document begins at %d, segments %v, positions %v", start, i, row.Segments, row.Positions)
					}
				} else if row.Positions[i] != row.Positions[i-1]+1 || row.Segments[i] != row.Segments[i-1] {
					t.Fatalf("window at %d: a document goes on at %d, segments %v, positions %v", start, i, row.Segments, row.Positions)
				}
			}
		}
		for at, n := range predicted[1:] {
			if n != 1 {
				t.Fatalf("token %d of the stream is predicted %d times", at+1, n)
			}
		}
	})
}

// evaluator is a tiny model of random weights.
func evaluator(t *testing.T, sequences int, mask bool) (*Evaluator, []*tensors.Tensor) {
	t.Helper()
	be := backendtest.CPU(t)
	n := model.NumericsFor(be, model.FP32)
	m := model.Config{VocabSize: vocab, DModel: 8, NumLayers: 1, NumHeads: 2, HeadDim: 4, DimModelBase: 8, MaxSeqLen: seqLen, DocumentMask: mask}.Resolve()
	e, err := New(mesh.One(be), model.Decoder{Config: m, Numerics: n, Remat: model.RematNone}, loss.Head{Numerics: n}, sequences)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Finalize)
	e.exec.SetMaxCache(1) // every batch is of the one shape that is compiled, the last of a set, too: a second is an error
	var params []*tensors.Tensor
	for i, p := range m.Params() {
		params = append(params, backendtest.NormalTensor(uint64(i), p.Shape...))
	}
	return e, append(params, tensors.FromScalar(float32(0))) // a state has more after the parameters
}

func testSet(t *testing.T) Set {
	var docs documents
	for i, n := range []int{5, 0, 17, 1, 30, 8} {
		doc := make([]uint32, n)
		for j, token := range backendtest.Tokens(uint64(i), n, vocab-1) {
			doc[j] = uint32(token) + 1
		}
		if n > 0 {
			doc[n-1] = eos
		}
		docs = append(docs, doc)
	}
	s := Set{Corpus: docs, EOS: eos, TokenBytes: make([]int32, vocab)}
	for i := range s.TokenBytes {
		s.TokenBytes[i] = int32(i % 5) // EOS has none
	}
	return s
}

// direct measures some windows one at a time, by the text alone.
func direct(t *testing.T, e *Evaluator, params []*tensors.Tensor, s Set, windows []int) Result {
	t.Helper()
	want, document := s.Corpus.(documents).wantStream()
	var r Result
	nats := 0.0
	for _, w := range windows {
		b := feed.NewBatch(e.sequences, seqLen)
		count := 0
		for i := 0; i <= seqLen && w*seqLen+i < len(want); i++ {
			at := w*seqLen + i
			b.Tokens[i] = int32(want[at])
			if i > 0 {
				r.Bytes += int64(s.TokenBytes[want[at]])
				r.Tokens++
				count++
			}
			if i < seqLen {
				b.Segments[i] = int32(1 + document[at])
				if i > 0 && document[at] == document[at-1] {
					b.Positions[i] = b.Positions[i-1] + 1
				}
			}
		}
		losses, err := e.Nats(params, b)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range losses[:count] {
			nats += float64(l)
		}
	}
	r.Loss, r.BPB = nats/float64(r.Tokens), nats/math.Ln2/float64(r.Bytes)
	return r
}

func near(a, b Result) bool {
	return math.Abs(a.Loss-b.Loss) < 1e-5 && math.Abs(a.BPB-b.BPB) < 1e-5 && a.Tokens == b.Tokens && a.Bytes == b.Bytes
}

func TestValidate(t *testing.T) {
	s := testSet(t)
	total := s.Corpus.Offset(s.Corpus.Docs()) // 61 tokens: 8 windows, the last of 5 targets
	wantBytes := int64(0)
	for _, doc := range s.Corpus.(documents) {
		for _, token := range doc {
			wantBytes += int64(s.TokenBytes[token])
		}
	}
	for _, mask := range []bool{false, true} {
		e, params := evaluator(t, 3, mask)
		progress := int64(0)
		full, err := e.Validate(context.Background(), params, s, 0, func(n int64) { progress += n })
		if err != nil {
			t.Fatal(err)
		}
		if full.Tokens != total || full.Bytes != wantBytes || progress != total {
			t.Errorf("mask %v: %d tokens and %d bytes, told %d; the text has %d and %d", mask, full.Tokens, full.Bytes, progress, total, wantBytes)
		}
		if want := direct(t, e, params, s, []int{0, 1, 2, 3, 4, 5, 6, 7}); !near(full, want) {
			t.Errorf("mask %v: %+v, want %+v", mask, full, want)
		}
		if !mask {
			plain := full
			masked, params := evaluator(t, 3, true)
			if other, err := masked.Validate(context.Background(), params, s, 0, nil); err != nil || other.Loss == plain.Loss {
				t.Errorf("the document mask changes nothing: %+v, %v", other, err)
			}
		}
		// About 20 tokens are three of the eight windows, spread evenly and the same each time.
		part, err := e.Validate(context.Background(), params, s, 20, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := direct(t, e, params, s, []int{0, 2, 5}); !near(part, want) {
			t.Errorf("mask %v: 20 tokens give %+v, want windows 0, 2, 5: %+v", mask, part, want)
		}
		again, err := e.Validate(context.Background(), params, s, 20, nil)
		if diff := cmp.Diff(part, again); diff != "" || err != nil {
			t.Errorf("mask %v: the second time %v %s", mask, err, diff)
		}
		if more, err := e.Validate(context.Background(), params, s, 1000, nil); err != nil || !near(more, full) {
			t.Errorf("mask %v: more tokens than there are give %+v, %v; want %+v", mask, more, err, full)
		}
	}
}

// TestStride: with windows that overlap each token is still predicted once, and has T−stride tokens or more before it, which
// makes each loss that of the window it is counted in.
func TestStride(t *testing.T) {
	s := testSet(t)
	want, _ := s.Corpus.(documents).wantStream()
	e, params := evaluator(t, 3, false)
	for _, stride := range []int{3, 5, seqLen} {
		s.Stride = stride
		got, err := e.Validate(context.Background(), params, s, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		nats := 0.0
		for target := 1; target < len(want); target++ {
			start := 0
			for start+seqLen < target { // the first window that reaches it
				start += stride
			}
			b := feed.NewBatch(3, seqLen)
			for i := range min(seqLen+1, len(want)-start) {
				b.Tokens[i] = int32(want[start+i])
			}
			losses, err := e.Nats(params, b)
			if err != nil {
				t.Fatal(err)
			}
			nats += float64(losses[target-start-1])
		}
		if got.Tokens != int64(len(want)-1) || math.Abs(got.Loss-nats/float64(got.Tokens)) > 1e-5 {
			t.Errorf("stride %d: %d tokens at %g, want %d at %g", stride, got.Tokens, got.Loss, len(want)-1, nats/float64(len(want)-1))
		}
	}
	s.Stride = seqLen + 1
	if _, err := e.Validate(context.Background(), params, s, 0, nil); err == nil {
		t.Error("windows with gaps between them were measured")
	}
}

// TestDocuments: the documents' measurements add up to the whole, and text bytes given are the ones that count.
func TestDocuments(t *testing.T) {
	e, params := evaluator(t, 3, false)
	set, err := TextSet(context.Background(), letters{}, Task{Name: "t", Kind: Text, Items: []Item{{ID: "a", Text: "some thing"}, {ID: "b", Text: "is here to read"}}})
	if err != nil {
		t.Fatal(err)
	}
	set.TokenBytes = make([]int32, vocab) // as of a tokenizer whose tokens are not the text
	r, err := e.Validate(context.Background(), params, set, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Documents) != 2 || r.Documents[0].ID != "a" || r.Documents[0].Bytes != 10 || r.Documents[1].Bytes != 15 || r.Documents[0].Tokens != 10 || r.Documents[1].Tokens != 16 {
		t.Fatalf("documents: %+v", r.Documents)
	}
	if sum := r.Documents[0].Nats + r.Documents[1].Nats; math.Abs(sum/26-r.Loss) > 1e-9 || math.Abs(sum/math.Ln2/25-r.BPB) > 1e-9 || r.CI == nil {
		t.Errorf("%+v is not the sum of its documents", r)
	}
}

// TestUniformModel: with no weights the loss is ln V whatever the text.
func TestUniformModel(t *testing.T) {
	e, params := evaluator(t, 2, false)
	for i := range params {
		params[i] = tensors.FromShape(params[i].Shape())
	}
	r, err := e.Validate(context.Background(), params, testSet(t), 0, nil)
	if err != nil || math.Abs(r.Loss-math.Log(vocab)) > 1e-6 {
		t.Errorf("loss %g, %v; want ln %d", r.Loss, err, vocab)
	}
	if want := r.Loss * float64(r.Tokens) / math.Ln2 / float64(r.Bytes); math.Abs(r.BPB-want) > 1e-9 {
		t.Errorf("%g bits per byte, want %g", r.BPB, want)
	}
}

func TestValidateErrors(t *testing.T) {
	e, params := evaluator(t, 2, false)
	s := testSet(t)
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := e.Validate(ctx, params, s, 0, func(int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled after the first batch: %v", err)
	}
	for name, corpus := range map[string]pack.Corpus{"no documents": documents{}, "empty documents": documents{{}, {}}, "only special tokens": documents{{eos}, {eos}}} {
		s.Corpus = corpus
		if r, err := e.Validate(context.Background(), params, s, 0, nil); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	s.Corpus = short{testSet(t).Corpus.(documents)}
	if _, err := e.Validate(context.Background(), params, s, 0, nil); err == nil {
		t.Error("a corpus that cannot be read was measured")
	}
}

// short is a corpus whose reads fail.
type short struct{ documents }

func (short) Read([]uint32, int, int) error { return errors.New("truncated") }
