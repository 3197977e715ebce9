package train

import (
	"fmt"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/internal/prng"
	"pretrain/model"
	"pretrain/train/feed"
	"pretrain/train/loss"
	"pretrain/train/mesh"
	"pretrain/train/optim"
	"pretrain/train/spike"
)

// BenchmarkStep times one training step of 4,096 tokens; tokens/s is what to look at.
func BenchmarkStep(b *testing.B) {
	be := backendtest.CPU(b)
	for _, shape := range []struct {
		name string
		model.Config
	}{
		{"quickstart", model.Config{DModel: 192, NumLayers: 4, VocabSize: 4096, MaxSeqLen: 256}},
		{"9m", model.Config{Preset: "9m", VocabSize: 8192, MaxSeqLen: 256}},
		{"30m", model.Config{Preset: "30m", VocabSize: 8192, MaxSeqLen: 256}},
	} {
		for _, precision := range []model.Precision{model.BF16, model.FP32} {
			for _, kind := range []optim.Kind{optim.AdamW, optim.Muon} {
				b.Run(fmt.Sprintf("%s/%s/%s", shape.name, precision, kind), func(b *testing.B) {
					m := shape.Config.Resolve()
					n := model.NumericsFor(be, precision)
					o := optim.Default()
					o.Kind = kind
					p, err := NewProgram(mesh.One(be), model.Decoder{Config: m, Numerics: n, Remat: model.RematNone}, loss.Head{Numerics: n}, o)
					if err != nil {
						b.Fatal(err)
					}
					defer p.Finalize()
					state, err := Init(mesh.One(be), p.Layout(), prng.New(1))
					if err != nil {
						b.Fatal(err)
					}
					batch := feed.NewBatch(4096/m.MaxSeqLen, m.MaxSeqLen)
					random := prng.New(2)
					for i := range batch.Tokens {
						batch.Tokens[i] = int32(random.Uint64At(uint64(i)) % uint64(m.VocabSize))
					}
					for i := range batch.Weights {
						batch.Weights[i] = 1.0 / 4096
					}
					step := func() {
						if _, err := p.Step(state, []*feed.Batch{batch}, 1e-3, spike.None); err != nil {
							b.Fatal(err)
						}
					}
					step() // compiles
					b.ResetTimer()
					for range b.N {
						step()
					}
					b.ReportMetric(4096*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
				})
			}
		}
	}
}
