package generate

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/prng"
	"pretrain/model"

	"github.com/gomlx/gomlx/core/tensors"
)

// BenchmarkGenerate draws texts from the quickstart's model with random weights: 200 tokens from one prompt, one after the
// other, and answers of 8 tokens to one prompt of 40, many at once. It reports tokens/s.
func BenchmarkGenerate(b *testing.B) {
	be := backendtest.CPU(b)
	c := model.Config{VocabSize: 4096, DModel: 192, NumLayers: 4, MaxSeqLen: 256}.Resolve()
	var params []*tensors.Tensor
	for i, p := range c.Params() {
		params = append(params, backendtest.NormalTensor(uint64(i), p.Shape...))
	}
	for _, precision := range []model.Precision{model.FP32, model.BF16} {
		s, err := New(be, model.Decoder{Config: c, Numerics: model.NumericsFor(be, precision)})
		if err != nil {
			b.Fatal(err)
		}
		for _, run := range []struct {
			rows, prompt, tokens int
			sampling             Sampling
		}{
			{1, 40, 200, Sampling{}}, {1, 40, 200, Sampling{Temperature: 0.8, TopK: 40, TopP: 0.95}},
			{64, 40, 8, Sampling{Temperature: 1}}, {256, 40, 8, Sampling{Temperature: 1}}, {256, 40, 8, Sampling{Temperature: 1, TopP: 0.95}},
		} {
			prompt := make([]uint32, run.prompt)
			requests := make([]Request, run.rows)
			for i := range requests {
				requests[i] = Request{Prompt: prompt, MaxTokens: run.tokens, Sampling: run.sampling, Key: prng.New(1).SplitN(uint64(i))}
			}
			name := fmt.Sprintf("%s/%dx%d", precision, run.rows, run.tokens)
			if run.sampling.filtered() {
				name += "-filtered"
			}
			b.Run(name, func(b *testing.B) {
				run1 := func() {
					if _, err := s.Generate(context.Background(), params, requests); err != nil {
						b.Fatal(err)
					}
				}
				run1() // compile
				before := cpuSeconds()
				for b.Loop() {
					run1()
				}
				b.ReportMetric(float64(b.N*run.rows*run.tokens)/(cpuSeconds()-before), "tokens/cpu-s")
				b.ReportMetric(float64(b.N*run.rows*run.tokens)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
		s.Finalize()
	}
}

func cpuSeconds() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
