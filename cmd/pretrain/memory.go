package main

import (
	"fmt"
	"regexp"
	"strings"

	"pretrain/internal/backend/memory"
	"pretrain/model"
	"pretrain/train"
	"pretrain/train/loss"
)

// memoryError says of a device whose memory ran out what was needed and what to lower.
type memoryError struct {
	text string
	err  error
}

func (e memoryError) Error() string { return e.text }
func (e memoryError) Unwrap() error { return e.err }

var aboutCuDNN = regexp.MustCompile(`(?i)cudnn|fmha`)

// mend turns a backend's error that memory ran out, or that cuDNN does not do it, into one that says what to do; others it returns
// as they are.
func (j *job) mend(err error) error {
	asked, yes := memory.OutOfMemory(err)
	if !yes && aboutCuDNN.MatchString(fmt.Sprint(err)) {
		return fmt.Errorf("%w: `pretrain doctor` tries cuDNN's attention by itself; --set train.attention=decomposed does without it", err)
	}
	if !yes || j.decoder.NumLayers == 0 { // nothing was built yet
		return err
	}
	c, d := j.config, j.device.Devices[0]
	var b strings.Builder
	fmt.Fprintf(&b, "out of memory on %s", strings.TrimSpace(d.Description+" "+d.Kind))
	if d.MemoryBytes > 0 {
		fmt.Fprintf(&b, ", which has %s", gibibytes(d.MemoryBytes))
	}
	if asked > 0 {
		fmt.Fprintf(&b, ": %s were asked for at once", gibibytes(asked))
	}
	state := train.NewLayout(j.decoder.Config, c.Run.Optimizer).Bytes()
	fmt.Fprintf(&b, "\nweights and optimizer take %s, gradients %s; the rest is activations, of %d sequences of %d tokens at once",
		gibibytes(state), gibibytes(4*j.decoder.Count().Total), c.Derived.MicroBatch, j.decoder.MaxSeqLen)
	b.WriteString("\nto lower it, in this order (a run that was begun goes on with any but the last):")
	if micro := fewerSequences(c.Derived.MicroBatch, asked, d.MemoryBytes-state); micro > 0 {
		fmt.Fprintf(&b, "\n  --set batch.micro_batch=%d    fewer sequences at once (%d now): the same batch, in more parts", micro, c.Derived.MicroBatch)
	}
	switch now := c.Run.Train.Remat; now {
	case model.RematFull:
	case model.RematLayer:
		fmt.Fprintf(&b, "\n  --set train.remat=%s    keep the input of every √layers-th layer only (%s now): a quarter more time", model.RematFull, now)
	default:
		fmt.Fprintf(&b, "\n  --set train.remat=%s    keep the input of each layer only (%s now): a third more time", model.RematLayer, now)
	}
	if now := c.Run.Loss.ChunkTokens; j.decoder.Numerics.GPU() && (now == 0 || now > 512) {
		b.WriteString("\n  --set loss.chunk_tokens=512    fewer logits at once")
	} else if int64(now)*int64(j.decoder.VocabSize)*4 > loss.AutoChunkBytes {
		fmt.Fprintf(&b, "\n  --set loss.chunk_tokens=0    fewer logits at once (those of %d tokens now)", now)
	}
	b.WriteString("\n  a smaller model.max_seq_len, model.num_layers or model.d_model; an optimizer.kind with less state (lion, muon, sgd)")
	if free := d.MemoryBytes - state; d.MemoryBytes > 0 && free < 0 {
		b.WriteString("\nweights and optimizer alone do not fit: only the last helps, or a larger device")
	}
	return memoryError{b.String(), err}
}

// fewerSequences is the largest micro-batch that divides the one there is and with which what was asked for would fit, 0
// if there is none: activations grow with it. Where nothing is known it is the next smaller one.
func fewerSequences(now, asked, free int64) int64 {
	for m := now / 2; m > 0; m-- {
		fits := asked == 0 || free <= 0 || float64(asked)*float64(m)/float64(now) < 0.7*float64(free) // others need some, too
		if now%m == 0 && fits {
			return m
		}
	}
	return 0
}

func gibibytes(n int64) string {
	const mib = 1 << 20
	if n < 10<<30 {
		return fmt.Sprintf("%.4g MiB", float64(n)/mib)
	}
	return fmt.Sprintf("%.4g GiB", float64(n)/mib/1024)
}
