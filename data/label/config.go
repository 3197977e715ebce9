// Package label puts labels on documents: quality, educational value, topic, sensitive content. They come from a linear classifier over
// hashed word and character n-grams, in the manner of fastText (Joulin et al. 2016), that is trained here on labelled
// examples, or from a command of the user's. What is done with them is decided later: a label is an attribute.
package label

import (
	"math"
	"strings"

	"pretrain/data"
	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Features says what of a text the classifier sees. Start from [DefaultTraining].
//
// A token is a run of letters, marks and digits in lower case, one CJK character, or one other character that is no white space.
type Features struct {
	// WordNGrams is the longest n-gram of tokens that is a feature. Default 2, as for the quality classifier of DCLM.
	WordNGrams int `json:"word_ngrams"`
	// MinChars and MaxChars bound the character n-grams of each word, with a mark at its beginning and end. Default 0 and 0:
	// none, as fastText's supervised mode. They help with languages of many word forms, and cost as many features.
	MinChars int `json:"min_chars"`
	MaxChars int `json:"max_chars"`
	// Buckets is the number of weights that features are hashed to, for each label. Default 2^20: 4 MiB a label. A text
	// has thousands of features, so some share a weight; double it where labels are many and texts short.
	Buckets int `json:"buckets"`
	// MaxTokens bounds the tokens that are looked at, from the beginning of the text. Default 1024: what a text is about shows
	// there, and time is spent for nothing on the rest of a book.
	MaxTokens int `json:"max_tokens"`
}

// Training says how a classifier is fitted. Start from [DefaultTraining].
type Training struct {
	Features `json:"features"`
	// Epochs is how often each example is seen. Default 10.
	Epochs int `json:"epochs"`
	// LearningRate of AdaGrad. Default 0.1: of 0.05 to 0.5 the best or as good on three sets of 20,000 to 40,000 examples (docs/log.md).
	LearningRate float64 `json:"learning_rate"`
	// Holdout is the part of the examples that is kept out of training, to measure on. It is chosen by the hash of the text.
	// Default 10%.
	Holdout units.Fraction `json:"holdout"`
	// Seed of the order of the examples. Default 1.
	Seed uint64 `json:"seed"`
}

// DefaultTraining suits some thousand to some million examples of a few labels.
func DefaultTraining() Training {
	return Training{
		Features: Features{WordNGrams: 2, Buckets: 1 << 20, MaxTokens: 1024},
		Epochs:   10, LearningRate: 0.1, Holdout: 0.1, Seed: 1,
	}
}

const maxBuckets = 1 << 28

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (t Training) Validate() error {
	var p problem.List
	t.check(&p)
	p.Check(t.Epochs >= 1, "epochs", t.Epochs, "at least 1")
	p.Check(t.LearningRate > 0 && !math.IsInf(t.LearningRate, 0), "learning_rate", t.LearningRate, "more than 0")
	p.Check(t.Holdout >= 0 && t.Holdout < 1, "holdout", t.Holdout, "0%% to less than 100%%")
	return p.Err()
}

func (f Features) check(p *problem.List) {
	p.Check(f.WordNGrams >= 1 && f.WordNGrams <= 8, "word_ngrams", f.WordNGrams, "1 to 8")
	p.Check(f.MinChars >= 0 && f.MinChars <= f.MaxChars && f.MaxChars <= 16 && (f.MinChars > 0 || f.MaxChars == 0),
		"min_chars", f.MinChars, "1 to max_chars (%d), which is at most 16; or 0 for both", f.MaxChars)
	p.Check(f.Buckets >= 1 && f.Buckets <= maxBuckets, "buckets", f.Buckets, "1 to %d", maxBuckets)
	p.Check(f.MaxTokens >= 1, "max_tokens", f.MaxTokens, "at least 1")
}

// Classifier is a classifier as a step of the pipeline.
type Classifier struct {
	// Name of the label: the attribute is label.NAME, the reason of what is dropped label_NAME.
	Name string `yaml:"name" json:"name"`
	// Model is the file that `pretrain data train-classifier` wrote.
	Model string `yaml:"model" json:"model"`
	// Value is the label value whose probability becomes the attribute, "1" or "toxic". Default none: the attribute is the most
	// probable value itself, and label.NAME.p its probability; nothing is dropped.
	Value string `yaml:"value" json:"value"`
	// Mode is tag, or filter: documents outside Min and Max are dropped. Default tag: a threshold is chosen better once the
	// distribution is known.
	Mode data.Mode `yaml:"mode" json:"mode"`
	// Min is the lowest probability of documents that stay. Default 0%.
	Min units.Fraction `yaml:"min" json:"min"`
	// Max is the highest probability of documents that stay. Default 0%, which means 100%.
	Max units.Fraction `yaml:"max" json:"max"`
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Classifier) Validate() error {
	var p problem.List
	p.Check(isName(c.Name), "name", c.Name, "lower-case letters, digits and underscores")
	p.Check(c.Model != "", "model", c.Model, "a file that `pretrain data train-classifier` wrote")
	p.Check(c.Mode == "" || c.Mode.Valid(), "mode", c.Mode, "off, filter or tag")
	p.Check(c.Mode != data.Filter || c.Value != "", "value", c.Value, "the label value that min and max are about, since mode is filter")
	p.Check(c.Min >= 0 && c.Min <= c.highest() && c.Max >= 0 && c.Max <= 1, "min", c.Min, "0%% to max (%v)", c.highest())
	return p.Err()
}

// highest is Max with its default filled in.
func (c Classifier) highest() units.Fraction {
	if c.Max == 0 {
		return 1
	}
	return c.Max
}

// isName reports whether a name can be part of an attribute's name and of a reason.
func isName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
