package label

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/zeebo/xxh3"

	"pretrain/internal/atomicfile"
	"pretrain/internal/modelfile"
	"pretrain/internal/problem"
	"pretrain/internal/vfs"
)

// Model is a trained classifier. It is only read, so any number of goroutines may share it; each needs a [Predictor].
type Model struct {
	header
	weights []float32 // [bucket][label], then one bias a label
}

// header is the part of a model's file that is JSON.
type header struct {
	Version  int      `json:"version"`
	Labels   []string `json:"labels"` // sorted
	Training Training `json:"training"`
	Examples int      `json:"examples"`          // trained on
	Holdout  *Scores  `json:"holdout,omitempty"` // measured on the examples kept out; nil if there were none
	// Weights is the XXH3 of the weights, 128 bits.
	Weights string `json:"weights"`
}

var format = modelfile.Format{Name: "label model", Version: 1, Maker: "pretrain data train-classifier"}

const maxWeights = 1 << 28 // 1 GiB

func newModel(labels []string, t Training) (*Model, error) {
	if n := (t.Buckets + 1) * len(labels); n > maxWeights {
		return nil, fmt.Errorf("%d labels of %d buckets make %d weights, more than %d: lower buckets", len(labels), t.Buckets, n, maxWeights)
	}
	return &Model{header{Version: format.Version, Labels: labels, Training: t}, make([]float32, (t.Buckets+1)*len(labels))}, nil
}

// Key identifies the model: what it predicts follows from it.
func (m *Model) Key() string {
	h := xxh3.New()
	fmt.Fprintf(h, "%q %+v %s", m.header.Labels, m.Training.Features, m.header.Weights)
	return fmt.Sprintf("%016x", h.Sum64())
}

// Labels are the values it chooses from, sorted.
func (m *Model) Labels() []string { return m.header.Labels }

// Holdout is how well it did on examples it was not trained on; nil if there were none.
func (m *Model) Holdout() *Scores { return m.header.Holdout }

// Examples is the number of examples it was trained on.
func (m *Model) Examples() int { return m.header.Examples }

// Predictor predicts with a Model. One goroutine uses it at a time.
type Predictor struct {
	m             *Model
	extractor     extractor
	probabilities []float64
}

// Predictor makes a Predictor.
func (m *Model) Predictor() *Predictor {
	return &Predictor{m: m, extractor: extractor{f: m.Training.Features}, probabilities: make([]float64, len(m.header.Labels))}
}

// Probabilities of the labels, in the order of [Model.Labels]. A text without tokens gets the bias only. The slice is used again.
func (p *Predictor) Probabilities(text string) []float64 {
	p.m.forward(p.extractor.extract(text), p.probabilities)
	return p.probabilities
}

// Best is the most probable label and its probability.
func (p *Predictor) Best(text string) (string, float64) {
	best := argmax(p.Probabilities(text))
	return p.m.header.Labels[best], p.probabilities[best]
}

func argmax(x []float64) int {
	best := 0
	for i := range x {
		if x[i] > x[best] {
			best = i
		}
	}
	return best
}

// forward is softmax(bias + Σ weight of feature / √features).
func (m *Model) forward(features []uint32, out []float64) {
	k := len(out)
	clear(out)
	if k == 2 { // the usual case, without the inner loop
		var a, b float64
		for _, f := range features {
			w := m.weights[2*int(f) : 2*int(f)+2]
			a += float64(w[0])
			b += float64(w[1])
		}
		out[0], out[1] = a, b
	} else {
		for _, f := range features {
			for i, w := range m.weights[int(f)*k : int(f)*k+k] {
				out[i] += float64(w)
			}
		}
	}
	x := scaleOf(features)
	bias := m.weights[len(m.weights)-k:]
	highest := math.Inf(-1)
	for i := range out {
		out[i] = out[i]*x + float64(bias[i])
		highest = max(highest, out[i])
	}
	sum := 0.0
	for i := range out {
		out[i] = math.Exp(out[i] - highest)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
}

// scaleOf makes a vector of counts of features about one long, so that the length of a text does not matter.
func scaleOf(features []uint32) float64 {
	if len(features) == 0 {
		return 0
	}
	return 1 / math.Sqrt(float64(len(features)))
}

// Save writes the model to a file, at once or not at all.
func (m *Model) Save(path string) error {
	return atomicfile.WriteFile(vfs.OS, path, m.write)
}

func (m *Model) write(w io.Writer) error { return format.Write(w, m.header, rawWeights(m.weights)) }

func rawWeights(weights []float32) []byte {
	b := make([]byte, 0, 4*len(weights))
	for _, v := range weights {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// Load reads a model that [Model.Save] wrote. Errors name the file.
func Load(path string) (*Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := readModel(f)
	if err != nil {
		return nil, fmt.Errorf("label model %s: %w", path, err)
	}
	return m, nil
}

func readModel(r io.Reader) (*Model, error) {
	m := &Model{}
	body, err := format.Read(r, &m.header)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var p problem.List
	m.Training.check(&p)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("damaged header: %w", err)
	}
	if len(m.header.Labels) < 2 || (m.Training.Buckets+1)*len(m.header.Labels) > maxWeights {
		return nil, fmt.Errorf("damaged header: %d labels", len(m.header.Labels))
	}
	size := 4 * (m.Training.Buckets + 1) * len(m.header.Labels)
	raw, err := io.ReadAll(io.LimitReader(body, int64(size)))
	if err != nil {
		return nil, fmt.Errorf("damaged weights: %w", err)
	}
	if len(raw) != size || modelfile.Hash(raw) != m.header.Weights {
		return nil, errors.New("damaged weights: their hash is not the one in the header")
	}
	m.weights = make([]float32, size/4)
	for i := range m.weights {
		m.weights[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return m, nil
}
