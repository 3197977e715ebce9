// Package lang says which language a text is in. Where the script decides (Chinese, Japanese, Korean, Thai, …) its share of the
// letters does; English is told by its function words. For the rest of what is written in Latin, Cyrillic, Arabic or Devanagari
// letters lingua-go is asked, about the first kilobyte only: it reads a fifth to half of a megabyte a second, and would set the
// speed of the whole preparation.
package lang

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"pretrain/data"
	"pretrain/internal/problem"
)

// Config says which languages are told apart and which are kept.
type Config struct {
	// Mode is off, filter or tag. Filter drops documents in other languages than keep; both modes record what was found as the
	// attributes lang and lang.score, and as the document's language where the record gives none. Default tag.
	Mode data.Mode `yaml:"mode"`
	// Keep are ISO 639-1 codes, such as [zh, en]. Default none: under filter there must be some.
	Keep []string `yaml:"keep"`
	// MinScore is how sure a language must be, 0 to 1. Default 0.65, FineWeb's.
	MinScore float64 `yaml:"min_score"`
	// Candidates are the languages that lingua-go chooses among; fewer are faster and surer. Default the sixteen with the most text
	// on the web that share a script with others.
	Candidates []string `yaml:"candidates"`
}

// Default tags and drops nothing.
func Default() Config {
	return Config{Mode: data.Tag, MinScore: 0.65, Candidates: strings.Fields("en de fr es it pt nl pl cs sv tr vi id ru uk ar")}
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Mode.Valid(), "mode", c.Mode, "%s, %s or %s", data.Off, data.Filter, data.Tag)
	p.Check(linked || c.Mode == data.Off, "mode", c.Mode, "off: this program was built without lingua-go (tag nolingua)")
	p.Check(c.Mode != data.Filter || len(c.Keep) > 0, "keep", "[]", "the languages to keep, such as [zh, en], or mode: tag")
	p.Check(c.MinScore >= 0 && c.MinScore <= 1, "min_score", c.MinScore, "a part, 0 to 1")
	for i, code := range c.Candidates {
		p.Check(known(code), fmt.Sprintf("candidates[%d]", i), code, "the ISO 639-1 code of a language that lingua-go knows, such as de")
	}
	p.Check(len(c.Candidates) >= 2, "candidates", c.Candidates, "two languages or more")
	return p.Err()
}

// The reasons of this package.
const (
	OtherLanguage data.Reason = "other_language"
	Unsure        data.Reason = "language_unsure"
)

// Detector finds languages. It is safe for concurrent use.
type Detector struct {
	config Config
	lingua func() detector // made when first needed: its models are large
}

// detector is lingua-go's part: the language of a text, as its ISO 639-1 code, and how sure that is.
type detector func(text string) (code string, score float64)

// NewDetector prepares a detector; c must be valid.
func NewDetector(c Config) *Detector {
	return &Detector{c, sync.OnceValue(func() detector { return newLingua(c.Candidates) })}
}

// Detect is the language of a text, as its ISO 639-1 code, and how sure that is: the share of its script, or lingua-go's confidence.
// "" is a text without letters, or in a script that this package does not know.
func (x *Detector) Detect(text string) (code string, score float64) {
	s := shares(text)
	code, score = s.decide()
	switch {
	case code != "":
		return code, score
	case s.letters == 0:
		return "", 0
	case s.dominant() == latin:
		if english(text) {
			return "en", s.of(latin)
		}
	}
	return x.lingua()(beginning(text, linguaBytes))
}

// linguaBytes is how much text lingua-go reads.
const linguaBytes = 1 << 10

// beginning cuts a text to n bytes at most, at the end of a character.
func beginning(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// Step finds the language of documents.
func (x *Detector) Step() data.Step {
	return data.StepFunc(func(d *data.Document) (data.Reason, string) {
		text := d.Text
		if d.Messages != nil {
			text = beginning(d.Plain(), sampleBytes)
		}
		code, score := x.Detect(text)
		d.SetText("lang", code)
		d.SetNumber("lang.score", score)
		if d.Language == "" {
			d.Language = code
		}
		if x.config.Mode != data.Filter {
			return "", ""
		}
		detail := fmt.Sprintf("%s, %.2f", code, score)
		switch {
		case !slices.Contains(x.config.Keep, code):
			return OtherLanguage, detail
		case score < x.config.MinScore:
			return Unsure, detail
		}
		return "", ""
	})
}
