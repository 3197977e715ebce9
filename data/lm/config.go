// Package lm is an n-gram language model that tells text like a reference set from text unlike it, by its perplexity (CCNet, Wenzek et
// al. 2019). It is cheap enough to run over everything and knows nothing of meaning: it finds menus, tables, broken encodings and
// word lists at one end, and text that the reference set has at the other.
//
// The model is interpolated modified Kneser–Ney (Chen and Goodman 1998, §3.2 and §4.1.3), the one that KenLM estimates. N-grams are known by
// 64-bit hashes, so no vocabulary is kept.
package lm

import (
	"pretrain/internal/problem"
)

// Units are what a model predicts.
type Units string

// The units.
const (
	// Word is a run of letters, marks and digits in lower case with every digit read as 0, one CJK character, or one other
	// character that is no white space.
	Word Units = "word"
	// Char is one character, as it stands.
	Char Units = "char"
)

// Config says how a model is trained and what of a text it scores. Start from [Default].
type Config struct {
	// Order is the longest n-gram. Default 5, as CCNet.
	Order int `yaml:"order" json:"order"`
	// Units is word or char. Default word, which takes a CJK character for a word.
	Units Units `yaml:"units" json:"units"`
	// MinCount is how often the reference set must have a word for it to be known. Default 2: the unknown word gets its
	// probability from those that occur once.
	MinCount int `yaml:"min_count" json:"min_count"`
	// MaxTrain bounds the units of the reference set that are trained on, from its beginning. Default 10,000,000, about 60 MB
	// of English: it takes some 40 bytes of memory for each different n-gram, 1 GiB in all.
	MaxTrain int `yaml:"max_train" json:"max_train"`
	// MaxScore bounds the units of a text that are scored, from its beginning. Default 1024; 0: all.
	MaxScore int `yaml:"max_score" json:"max_score"`
}

// Default is CCNet's order over words.
func Default() Config {
	return Config{Order: 5, Units: Word, MinCount: 2, MaxTrain: 10_000_000, MaxScore: 1024}
}

const maxOrder = 8

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Order >= 1 && c.Order <= maxOrder, "order", c.Order, "1 to %d", maxOrder)
	p.Check(c.Units == Word || c.Units == Char, "units", c.Units, "word or char")
	p.Check(c.MinCount >= 1, "min_count", c.MinCount, "at least 1")
	p.Check(c.MaxTrain >= 1 && c.MaxTrain < 1<<28, "max_train", c.MaxTrain, "1 to %d", 1<<28-1)
	p.Check(c.MaxScore >= 0, "max_score", c.MaxScore, "at least 0")
	return p.Err()
}
