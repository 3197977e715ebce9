package mix

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"pretrain/data/pack"
	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Config is the data section of a run: what there is and how much of it is seen when. Start from [Default].
type Config struct {
	// Sources by name. A source's order hangs on its name and content, never on the other sources.
	Sources map[string]Source `yaml:"sources"`
	// Scheme is a preset that writes the stages. Default none: Stages say it all; with a scheme there must be none.
	Scheme Scheme `yaml:"scheme"`
	// LateQuality and EarlyQuality are the numbers of the schemes of those names.
	LateQuality  LateQuality  `yaml:"late_quality"`
	EarlyQuality EarlyQuality `yaml:"early_quality"`
	// Mix weighs the sources of a stage that gives no weights itself, or of a quality class under a scheme. Default natural.
	Mix Rule `yaml:"mix"`
	// Stages in order, without gaps. Default: one, the whole run, of all sources.
	Stages []Stage `yaml:"stages"`
	// CodeMath makes the share of code and math grow with the model. Default off.
	CodeMath CodeMath `yaml:"code_math"`
	// MaxEpochs bounds how often a source is read. Default 4: up to four epochs repeated data is worth nearly as much
	// as new (Muennighoff et al., "Scaling Data-Constrained Language Models", NeurIPS 2023).
	MaxEpochs float64 `yaml:"max_epochs"`
	// Pack is concat or best_fit; see package pack. Default concat.
	Pack Packing `yaml:"pack"`
	// Template writes conversations: minicpm, chatml or none. Default minicpm.
	Template pack.Template `yaml:"template"`
	// MaskBoundary leaves out the loss of a document's first token. Default false; see [pack.Options].
	MaskBoundary bool `yaml:"mask_boundary"`
}

// Source is one body of documents.
type Source struct {
	// Path is where it lies: prepared shards, or raw files that are prepared on first use.
	Path string `yaml:"path"`
	// Files limit a folder of raw files to those that match one of these patterns, such as code-*.jsonl.zst; with a slash they
	// are of the path within it. Default: every file of a known kind.
	Files []string `yaml:"files"`
	// Quality is the class the schemes go by: ordinary, high or sft. Default ordinary.
	Quality Quality `yaml:"quality"`
	// Format is text, or chat for conversations. Default text.
	Format Format `yaml:"format"`
	// Loss is all, or assistant to train on the assistant's words only, in a source of format chat. Default all.
	Loss Loss `yaml:"loss"`
	// Domain is text, code or math; only code_math goes by it. Default text.
	Domain Domain `yaml:"domain"`
	// Weight is the source's weight among those of its class under `mix: explicit` and a scheme. Default 1.
	Weight float64 `yaml:"weight"`
	// MaxEpochs bounds how often it is read. Default: the data section's max_epochs.
	MaxEpochs float64 `yaml:"max_epochs"`
	// Pack is concat or best_fit. Default: the data section's pack.
	Pack Packing `yaml:"pack"`
	// Fields are the names of a raw record's fields.
	Fields Fields `yaml:"fields"`
}

// Fields are the keys of a raw JSONL record, or columns of a Parquet file. Defaults text, id, messages.
type Fields struct {
	Text     string `yaml:"text"`
	ID       string `yaml:"id"`
	Messages string `yaml:"messages"`
}

// Stage is a stretch of the run with one mixture.
type Stage struct {
	// Name appears in plans and metrics. Default: "stage 1" and so on.
	Name string `yaml:"name"`
	// At is where the stage begins: a length ("20Btok", "90%", "1000 steps") or a phase of the schedule ("decay"). Default:
	// where the stage before ends. It falls on a step; tokens give the first step that begins at or after them.
	At Start `yaml:"at"`
	// Until is where it ends. Default: where the next begins, for the last one the end of the run.
	Until units.Length `yaml:"until"`
	// Mix is each source's weight; only the ratios count. They are shares of tokens. Default: Config.Mix over Sources.
	Mix map[string]float64 `yaml:"mix"`
	// Sources are those that Config.Mix weighs. Default all.
	Sources []string `yaml:"sources"`
	// SeqLen is the length of the stage's sequences: the run's, or a divisor of it for a stage of shorter ones. Each row of
	// the run's length is then cut in equal parts, so a step keeps its tokens and no document is seen more or less often. Each
	// length is one more compilation of the step; four different ones at most. Default: the run's.
	SeqLen int `yaml:"seq_len"`
}

// LateQuality is MiniCPM's scheme (arXiv 2404.06395, §5): shares of the decay stage. The rest is ordinary data, and the
// stages before are only that. MiniCPM's own decay mix is about half pretraining data (its Fig. 11), hence the defaults.
type LateQuality struct {
	High units.Fraction `yaml:"high"` // default 30%
	SFT  units.Fraction `yaml:"sft"`  // default 20%
}

// EarlyQuality begins with mostly high-quality data and widens to ordinary data over the stable phase. The warm-up is like
// the first part of it, the decay like the last.
type EarlyQuality struct {
	First units.Fraction `yaml:"first"` // share of high-quality data at first, default 80%
	Last  units.Fraction `yaml:"last"`  // and at last, default 20%
	Widen Widening       `yaml:"widen"` // steps, or linear, which is 32 of them. Default steps
	Steps int            `yaml:"steps"` // number of equal parts of the stable phase under `widen: steps`. Default 4
}

// CodeMath scales the share of sources of domain code and math in each stage whose weights are not written out:
// share · (parameters / reference)^exponent, at most max, the other sources taking the rest in proportion. There is no
// published law for this; the defaults pass through MiniCPM-2.4B's stable stage (26% at 2.4e9) with a gentle slope.
type CodeMath struct {
	Enabled         bool           `yaml:"enabled"`          // default false
	Share           units.Fraction `yaml:"share"`            // default 26%
	ReferenceParams float64        `yaml:"reference_params"` // non-embedding parameters, default 2.4e9
	Exponent        float64        `yaml:"exponent"`         // default 0.1: a quarter more for a model ten times larger
	Max             units.Fraction `yaml:"max"`              // default 50%
}

type (
	// Quality is the class of a source that the schemes go by.
	Quality string
	// Format is what a source's documents are: texts or conversations.
	Format string
	// Loss is which of a source's tokens are learnt from.
	Loss string
	// Domain is what a source is about; see [CodeMath].
	Domain string
	// Packing is how documents become sequences; see package pack.
	Packing string
	// Scheme is a preset of stages; see [LateQuality] and [EarlyQuality].
	Scheme string
	// Widening is how [EarlyQuality] goes from its first share to its last.
	Widening string
)

// The spellings of these words in a config.
const (
	Ordinary Quality = "ordinary"
	High     Quality = "high"
	SFT      Quality = "sft"

	FormatText Format = "text"
	FormatChat Format = "chat"

	LossAll       Loss = "all"
	LossAssistant Loss = "assistant"

	DomainText Domain = "text"
	DomainCode Domain = "code"
	DomainMath Domain = "math"

	Concat  Packing = "concat"
	BestFit Packing = "best_fit"

	SchemeNone         Scheme = "none"
	SchemeLateQuality  Scheme = "late_quality"
	SchemeEarlyQuality Scheme = "early_quality"
	SchemeAllQuality   Scheme = "all_quality"

	WidenSteps  Widening = "steps"
	WidenLinear Widening = "linear"
)

// maxLengths bounds the shapes that a run's step is compiled for, some seconds to minutes each: 1k, 2k, 4k and one more.
const maxLengths = 4

// linearParts is how many steps stand for a line: at 32 no mixture is more than 1/64 of the way off.
const linearParts = 32

// Default is the Config of a run that names only its sources.
func Default() Config {
	return Config{
		Scheme:       SchemeNone,
		LateQuality:  LateQuality{High: 0.3, SFT: 0.2},
		EarlyQuality: EarlyQuality{First: 0.8, Last: 0.2, Widen: WidenSteps, Steps: 4},
		Mix:          Rule{Kind: Natural},
		CodeMath:     CodeMath{Share: 0.26, ReferenceParams: 2.4e9, Exponent: 0.1, Max: 0.5},
		MaxEpochs:    4,
		Pack:         Concat,
		Template:     pack.MiniCPM,
	}
}

// Resolved is the Config with every source's and stage's defaults written out, as `config show` prints it. Only the ends
// of stages, which hang on the run, are left as they are.
func (c Config) Resolved() Config {
	c.Sources, c.Stages = maps.Clone(c.Sources), slices.Clone(c.Stages)
	for name, s := range c.Sources {
		fill(&s.Quality, Ordinary)
		fill(&s.Format, FormatText)
		fill(&s.Loss, LossAll)
		fill(&s.Domain, DomainText)
		fill(&s.Weight, 1)
		fill(&s.MaxEpochs, c.MaxEpochs)
		fill(&s.Pack, c.Pack)
		fill(&s.Fields.Text, "text")
		fill(&s.Fields.ID, "id")
		fill(&s.Fields.Messages, "messages")
		c.Sources[name] = s
	}
	fill(&c.Scheme, SchemeNone)
	if len(c.Stages) == 0 && c.Scheme == SchemeNone {
		c.Stages = []Stage{{}}
	}
	for i := range c.Stages {
		fill(&c.Stages[i].Name, fmt.Sprintf("stage %d", i+1))
	}
	return c
}

func fill[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Validate reports every problem at once, as joined [problem.Problem] errors. What hangs on the run and on the sources'
// sizes is checked by [Expand].
func (c Config) Validate() error {
	var p problem.List
	c = c.Resolved()
	p.Check(len(c.Sources) > 0, "sources", "none", "at least one source, such as {text: {path: DIR}}")
	for _, name := range slices.Sorted(maps.Keys(c.Sources)) {
		c.Sources[name].check(&p, "sources."+name+".", c)
	}
	oneOf(&p, "scheme", c.Scheme, SchemeNone, SchemeLateQuality, SchemeEarlyQuality, SchemeAllQuality)
	oneOf(&p, "pack", c.Pack, Concat, BestFit)
	oneOf(&p, "template", c.Template, pack.MiniCPM, pack.ChatML, pack.NoTemplate)
	p.Check(positive(c.MaxEpochs), "max_epochs", c.MaxEpochs, "more than 0")
	c.Mix.check(&p)
	if c.Scheme != SchemeNone {
		p.Check(len(c.Stages) == 0, "stages", fmt.Sprintf("%d stages", len(c.Stages)), "none beside scheme %s, which writes them", c.Scheme)
		c.checkScheme(&p)
	}
	if c.CodeMath.Enabled {
		p.Check(positive(c.CodeMath.ReferenceParams), "code_math.reference_params", c.CodeMath.ReferenceParams, "more than 0")
		p.Check(c.CodeMath.Share > 0 && c.CodeMath.Max >= c.CodeMath.Share && c.CodeMath.Max < 1, "code_math.max", c.CodeMath.Max,
			"share (%s) or more, share above 0, and less than 100%%", c.CodeMath.Share)
		p.Check(c.CodeMath.Exponent >= 0 && c.CodeMath.Exponent <= 1, "code_math.exponent", c.CodeMath.Exponent, "0 to 1")
	}
	lengths := map[int]bool{}
	for i, s := range c.Stages {
		key := fmt.Sprintf("stages[%d].", i)
		s.check(&p, key, c)
		if lengths[s.SeqLen] = true; len(lengths) > maxLengths {
			p.Check(false, key+"seq_len", s.SeqLen, "one of the lengths before it: the step is compiled for each, %d at most", maxLengths)
		}
	}
	return p.Err()
}

// check leaves out what the source inherits from c, which is reported once.
func (s Source) check(p *problem.List, key string, c Config) {
	p.Check(s.Path != "", key+"path", `""`, "the folder of the source's shards or raw files; or data.root, the folder of all sources")
	oneOf(p, key+"quality", s.Quality, Ordinary, High, SFT)
	oneOf(p, key+"format", s.Format, FormatText, FormatChat)
	oneOf(p, key+"loss", s.Loss, LossAll, LossAssistant)
	oneOf(p, key+"domain", s.Domain, DomainText, DomainCode, DomainMath)
	if s.Pack != c.Pack {
		oneOf(p, key+"pack", s.Pack, Concat, BestFit)
	}
	p.Check(s.Loss != LossAssistant || s.Format == FormatChat, key+"loss", s.Loss, "all: only format chat has an assistant")
	p.Check(positive(s.Weight), key+"weight", s.Weight, "more than 0")
	p.Check(s.MaxEpochs == c.MaxEpochs || positive(s.MaxEpochs), key+"max_epochs", s.MaxEpochs, "more than 0")
}

func (s Stage) check(p *problem.List, key string, c Config) {
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(s.Mix)) {
		w := s.Mix[name]
		p.Check(c.has(name), key+"mix."+name, w, "one of the sources: %s", c.names())
		p.Check(w >= 0 && !math.IsInf(w, 1), key+"mix."+name, w, "a weight of 0 or more")
		sum += w
	}
	p.Check(len(s.Mix) == 0 || sum > 0, key+"mix", sum, "weights that are not all 0")
	for _, name := range s.Sources {
		p.Check(c.has(name), key+"sources", name, "sources that there are: %s", c.names())
	}
	p.Check(len(s.Mix) == 0 || len(s.Sources) == 0, key+"sources", strings.Join(s.Sources, ", "), "nothing beside mix, which names its sources")
	p.Check(len(s.Mix) > 0 || c.Mix.Kind != Explicit, key+"mix", "none", "weights, or another rule than mix: explicit")
	p.Check(s.SeqLen >= 0, key+"seq_len", s.SeqLen, "a divisor of the run's sequence length")
}

func (c Config) checkScheme(p *problem.List) {
	for _, q := range schemeNeeds[c.Scheme] {
		found := false
		for _, s := range c.Sources {
			found = found || s.Quality == q || q == High && c.Scheme == SchemeLateQuality && s.Quality == SFT
		}
		p.Check(found, "scheme", c.Scheme, "a source of quality %s beside it, or another scheme", q)
	}
	l, e := c.LateQuality, c.EarlyQuality
	switch c.Scheme {
	case SchemeLateQuality:
		p.Check(l.High+l.SFT > 0 && l.High+l.SFT <= 1, "late_quality", l.High+l.SFT, "high and sft that add up to more than 0 and at most 100%%")
	case SchemeEarlyQuality:
		p.Check(e.First >= e.Last, "early_quality.first", e.First, "last (%s) or more; it widens towards ordinary data", e.Last)
		oneOf(p, "early_quality.widen", e.Widen, WidenSteps, WidenLinear)
		p.Check(e.Steps >= 1, "early_quality.steps", e.Steps, "at least 1")
	}
}

func (c Config) has(name string) bool { _, ok := c.Sources[name]; return ok }

func (c Config) names() string { return strings.Join(slices.Sorted(maps.Keys(c.Sources)), ", ") }

func positive(x float64) bool { return x > 0 && !math.IsInf(x, 1) }

func oneOf[T ~string](p *problem.List, key string, got T, want ...T) {
	words := make([]string, len(want))
	for i, w := range want {
		words[i] = string(w)
	}
	p.Check(slices.Contains(want, got), key, strconv.Quote(string(got)), "%s", strings.Join(words, ", "))
}
