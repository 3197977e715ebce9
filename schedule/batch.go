package schedule

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// BatchConfig is the batch section of a run: how many tokens each update trains on. Every batch is a whole number of
// micro-batches, whose shape never changes: only how many are accumulated does, so a ramp compiles nothing new.
type BatchConfig struct {
	// Tokens per update, at the end of any ramp, or "law": after each validation the batch grows to what [LawTokens] says of the
	// loss; checkpoints keep when it did, so that a resumed run and a branch see the same batches. Within 0.5% of a whole number of micro-batches it is rounded
	// to it, as three digits cannot name powers of two: 3.93Mtok is 960 sequences of 4096. No default: it depends on
	// the model (MiniCPM-2.4B: 3.93M; [LawTokens] for others).
	Tokens BatchSize `yaml:"tokens"`
	// MicroBatch is the number of sequences that go through the devices at once. 0 (default): the smallest batch of the run.
	// "auto": the largest that the devices' memory has room for, found by compiling the training programs before the run begins; a
	// run keeps what was found when it is resumed, as another number would round otherwise.
	MicroBatch MicroBatch `yaml:"micro_batch"`
	// Ramp holds smaller batches to begin with, stage by stage (MiniCPM-1.2B: 2M tokens, then 4M; Llama 3 doubles twice).
	Ramp []RampStage `yaml:"ramp"`
	// Linear grows the batch in equal increments (GPT-3, Megatron-LM). Not together with ramp. Default: none.
	Linear LinearRamp `yaml:"linear"`
	// Law bounds the batch where tokens is "law".
	Law LawRange `yaml:"law"`
	// LRScale "sqrt" multiplies the learning rate by √(batch / largest batch of the run), so that each doubling raises it
	// by √2 and peak_lr belongs to the largest batch ("Critical batch size revisited", 2505.23971, and OLMo-core). Default
	// "none".
	LRScale string `yaml:"lr_scale"`
}

// BatchSize is a number of tokens or [Law].
type BatchSize units.Tokens

// Law is the batch size that follows the validation loss.
const Law BatchSize = -1

// MicroBatch is a number of sequences or [Auto].
type MicroBatch int64

// Auto is the micro-batch that is found when the devices are known. A plan has the smallest batch of the run in its place.
const Auto MicroBatch = -1

// RampStage is a batch size that holds from the end of the stage before.
type RampStage struct {
	// Until is where the stage ends, counted from the start of the run; the first update that would begin there or
	// later has the next size. A fraction is of the run's tokens.
	Until units.Length `yaml:"until"`
	// Tokens per update.
	Tokens units.Tokens `yaml:"tokens"`
}

// maxSizes bounds a ramp: nobody tells more steps from a line, and each is a stage to look through.
const maxSizes = 4096

// LinearRamp is a staircase from From up to the full batch. Each of its sizes holds for the same number of tokens and the
// full batch is reached at Until.
type LinearRamp struct {
	// From is the first batch (GPT-3: 32k tokens).
	From units.Tokens `yaml:"from"`
	// Until is where the full batch is reached (GPT-3: 4–12B tokens of 300B). Not given: no ramp.
	Until units.Length `yaml:"until"`
	// Sizes is the number of different batch sizes, the full one among them. Default 8.
	Sizes int `yaml:"sizes"`
}

// LawRange bounds the batch size that follows the loss.
type LawRange struct {
	// Min is the batch until the first validation, and the smallest. Default 64k tokens, the law at a loss of 4.9.
	Min units.Tokens `yaml:"min"`
	// Max is the largest batch. Default 4M tokens, about MiniCPM-2.4B's.
	Max units.Tokens `yaml:"max"`
}

// DefaultBatch has no ramp. Tokens must be set.
func DefaultBatch() BatchConfig {
	return BatchConfig{
		Linear: LinearRamp{Sizes: 8}, Law: LawRange{Min: 65_536, Max: 4_194_304}, LRScale: "none",
	}
}

// LawTokens is MiniCPM's batch size for a loss in nats per token: 1.21e9 / loss^6.24 tokens (§3.2 of the paper, recomputed
// from its printed form). It is the batch that reaches a loss with the fewest tokens on a fixed number of devices, found
// on C4 with MiniCPM's vocabulary; another vocabulary has another loss per token.
func LawTokens(loss float64) float64 { return 1.21e9 / math.Pow(loss, 6.24) }

// Validate reports every problem that can be seen without the sequence length and the run's length, as joined
// problem.Problem errors. [NewPlan] reports the others.
func (c BatchConfig) Validate() error {
	var p problem.List
	law, linear := c.Tokens == Law, !c.Linear.Until.IsZero()
	p.Check(law || c.Tokens > 0, "tokens", c.Tokens, `tokens per update, such as "512ktok", or "law"`)
	p.Check(c.MicroBatch >= Auto, "micro_batch", c.MicroBatch, "a number of sequences, 0 for the smallest batch, or auto")
	p.Check(c.LRScale == "none" || c.LRScale == "sqrt", "lr_scale", c.LRScale, "none or sqrt")
	p.Check(len(c.Ramp) == 0 || !law && !linear, "ramp", fmt.Sprint(len(c.Ramp), " stages"), "no ramp beside linear or tokens: law")
	p.Check(!linear || !law, "linear.until", c.Linear.Until, "no ramp beside tokens: law")
	for i, s := range c.Ramp {
		p.Check(!s.Until.IsZero(), fmt.Sprintf("ramp[%d].until", i), "not given", "where the stage ends")
		p.Check(s.Tokens > 0, fmt.Sprintf("ramp[%d].tokens", i), s.Tokens, "more than 0")
	}
	if linear {
		p.Check(c.Linear.From > 0 && c.Linear.From <= units.Tokens(c.Tokens), "linear.from", c.Linear.From, "more than 0 and at most tokens %v", c.Tokens)
		p.Check(c.Linear.Sizes >= 2 && c.Linear.Sizes <= maxSizes, "linear.sizes", c.Linear.Sizes, "2 to %d", maxSizes)
	}
	if law {
		p.Check(c.Law.Min > 0, "law.min", c.Law.Min, "more than 0")
		p.Check(c.Law.Max >= c.Law.Min, "law.max", c.Law.Max, "at least law.min %v", c.Law.Min)
	}
	return p.Err()
}

func (b BatchSize) String() string {
	if b == Law {
		return "law"
	}
	return units.Tokens(b).String()
}

// MarshalText writes "law" or a token count with its unit.
func (b BatchSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads "law" or a token count with its unit.
func (b *BatchSize) UnmarshalText(text []byte) error {
	if strings.TrimSpace(string(text)) == "law" {
		*b = Law
		return nil
	}
	t, err := units.ParseTokens(string(text))
	if err != nil {
		return fmt.Errorf(`%w, or "law"`, err)
	}
	*b = BatchSize(t)
	return nil
}

func (m MicroBatch) String() string {
	if m == Auto {
		return "auto"
	}
	return strconv.FormatInt(int64(m), 10)
}

// UnmarshalText reads "auto" or a number that is not negative.
func (m *MicroBatch) UnmarshalText(text []byte) error {
	word := strings.TrimSpace(string(text))
	if word == "auto" {
		*m = Auto
		return nil
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(word, "_", ""), 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf(`got %q; want a number of sequences, 0 for the smallest batch, or "auto"`, word)
	}
	*m = MicroBatch(n)
	return nil
}
