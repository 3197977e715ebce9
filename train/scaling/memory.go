package scaling

import (
	"fmt"

	"pretrain/internal/units"
	"pretrain/model"
	"pretrain/train/loss"
	"pretrain/train/mesh"
)

// Memory of one device in bytes, estimated: AdamW with float32 weights, moments and gradients, bf16 arithmetic, each layer
// recomputed in the backward pass.
type Memory struct {
	Weights     float64 `json:"weights"`
	Optimizer   float64 `json:"optimizer"`
	Gradients   float64 `json:"gradients"`
	Gathered    float64 `json:"gathered"`    // bf16 copies of two layers, brought together for use and prefetch
	Activations float64 `json:"activations"` // the inputs of all layers, and all of one
	Logits      float64 `json:"logits"`      // of a chunk of tokens, with their gradient
	Reserved    float64 `json:"reserved"`    // the driver, the collectives' buffers, fragments
	Total       float64 `json:"total"`
}

// EstimateMemory is the memory of one device of the mesh with so many sequences at once.
func EstimateMemory(m model.Config, grid mesh.Config, sequences int) Memory {
	n, shards := float64(m.Count().Total), float64(grid.FSDP*grid.Tensor)
	layer := float64(m.Count().NonEmbedding) / float64(m.NumLayers)
	tokens := float64(sequences * m.MaxSeqLen)
	d, ff, tensor := float64(m.DModel), float64(m.DFF), float64(grid.Tensor)
	var e Memory
	e.Weights, e.Optimizer, e.Gradients = 4*n/shards, 8*n/shards, 4*n/shards
	e.Gathered = 2 * 2 * layer / tensor
	if grid.FSDP > 1 { // the embedding is brought together, too
		e.Gathered += 2 * float64(m.VocabSize) * d / tensor
	}
	// Of the layer that is being recomputed: norms, queries, keys, values, attention's output and its gradient, 10·d; gate, up, their
	// product and the gradients, 5·ff; two bytes each.
	e.Activations = 2*tokens*d*float64(m.NumLayers) + 2*tokens*(10*d+5*ff)/tensor
	e.Logits = 2 * min(loss.AutoChunkBytes, 4*tokens*float64(m.VocabSize))
	e.Reserved = 2e9 + 0.05*(e.Weights+e.Optimizer+e.Gradients+e.Gathered+e.Activations+e.Logits)
	e.Total = e.Weights + e.Optimizer + e.Gradients + e.Gathered + e.Activations + e.Logits + e.Reserved
	return e
}

// usable is the share of the memory of a device that a plan fills, as in pretrain plan.
const usable = 0.9

// devicesPerHost is how many share the fast links that tensor parallelism needs.
const devicesPerHost = 8

// FitMesh finds the mesh that fits bytes of memory with the least talk between devices: the smallest tensor axis, within a host, then
// the smallest fsdp axis; and with it the most sequences at once on each device, up to most. All devices are used.
func FitMesh(m model.Config, devices int, bytes float64, most int) (mesh.Config, int, Memory, error) {
	for tensor := 1; tensor <= min(devicesPerHost, devices); tensor *= 2 {
		if devices%tensor != 0 || m.NumHeads%tensor != 0 || m.NumKVHeads%tensor != 0 {
			continue
		}
		for fsdp := 1; fsdp <= devices/tensor; fsdp++ {
			if devices/tensor%fsdp != 0 {
				continue
			}
			grid := mesh.Config{Data: devices / tensor / fsdp, FSDP: fsdp, Tensor: tensor}
			if EstimateMemory(m, grid, 1).Total > usable*bytes {
				continue
			}
			sequences := 1
			for sequences < most && EstimateMemory(m, grid, sequences*2).Total <= usable*bytes {
				sequences *= 2
			}
			return grid, sequences, EstimateMemory(m, grid, sequences), nil
		}
	}
	largest := EstimateMemory(m, mesh.Config{Data: 1, FSDP: devices, Tensor: 1}, 1)
	return mesh.Config{}, 0, Memory{}, fmt.Errorf("%d devices of %.0f GB do not hold a model of %s parameters with its state: cut over all of them it takes %.0f GB each", devices, bytes/1e9, units.Short(float64(m.Count().Total)), largest.Total/1e9)
}
