package scaling

import (
	"math"

	"pretrain/model"
)

// Shape is a decoder and how it was found.
type Shape struct {
	Model model.Config
	// Preset is the name of the published shape it is, "" where none is near enough.
	Preset string
}

// nearPreset is how far the size of a published shape may be from the one wanted to be taken before one of our own.
const nearPreset = 0.1

// ShapeFor finds the decoder whose training FLOPs a token are nearest to flops; see [nearest].
func ShapeFor(flops float64, vocab, seqLen int) Shape {
	return nearest(flops, func(m model.Config) float64 { return m.FLOPsPerToken().Total() }, vocab, seqLen)
}

// shapeOf finds the decoder with about n parameters.
func shapeOf(n float64, counts Convention, vocab, seqLen int) Shape {
	return nearest(n, func(m model.Config) float64 { return float64(counts.Of(m)) }, vocab, seqLen)
}

// nearest finds the decoder whose size, FLOPs or parameters, is nearest to the one wanted: a preset within 10%, else one of our own
// after MiniCPM's rules.
//
// Heads are 64 wide, 128 from a width of 4096 on; the width is a multiple of 64, from 512 of 128, from 4096 of 1024, and the SwiGLU
// 2.5 times it, so that all matrices are cut evenly into the tiles of a tensor core and large ones by up to 8 devices. From a width of
// 4096 on queries share 8 key/value heads, as in Llama 2 70B: long caches cost more than they are worth there. Width over layers
// follows [aspect].
func nearest(want float64, size func(model.Config) float64, vocab, seqLen int) Shape {
	complete := func(m model.Config) model.Config {
		m.VocabSize, m.MaxSeqLen = vocab, seqLen
		return m.Resolve()
	}
	best, least := Shape{}, math.Log(1+nearPreset)
	for _, name := range model.PresetNames() {
		m := complete(model.Config{Preset: name})
		if d := math.Abs(math.Log(size(m) / want)); d < least {
			best, least = Shape{m, name}, d
		}
	}
	if best.Preset != "" {
		return best
	}
	least = math.Inf(1)
	for width := 64; width <= 32768; width += step(width) {
		c := model.Config{DModel: width, NumLayers: 1}
		if width >= 4096 {
			c.HeadDim, c.NumKVHeads = 128, 8
		}
		one := complete(c)
		c.NumLayers = 2
		two := complete(c)
		perLayer, params := size(two)-size(one), float64(two.Count().NonEmbedding-one.Count().NonEmbedding)
		first := size(one)
		for layers := 2; layers <= 192; layers++ {
			// The size is hit within some percent by many shapes; among them the one of the best proportions is wanted.
			d := math.Abs(math.Log((first + perLayer*float64(layers-1)) / want))
			off := math.Abs(math.Log(float64(width) / float64(layers) / aspect(params*float64(layers))))
			if score := d + 0.25*off; score < least {
				c.NumLayers = layers
				best, least = Shape{Model: c}, score
			}
		}
	}
	best.Model = complete(best.Model)
	return best
}

func step(width int) int {
	switch {
	case width < 512:
		return 64
	case width < 4096:
		return 128
	default:
		return 1024
	}
}

// aspect is the width over the layers that a model of n parameters besides the embedding should have: MiniCPM's wind-tunnel ladder
// goes from 40 at 9M to 58 at 2.4B (Table 8), and the power of n between these leads to 78 at 70B, where Llama 2 has 102.
func aspect(n float64) float64 { return 57.6 * math.Pow(n/2.44e9, 0.0656) }
