package quality

import (
	"fmt"
	"strings"

	"pretrain/data"
)

// The reasons of Gopher's rules, named as datatrove names them.
const (
	ShortDoc     data.Reason = "gopher_short_doc"
	LongDoc      data.Reason = "gopher_long_doc"
	BelowAverage data.Reason = "gopher_below_avg_threshold"
	AboveAverage data.Reason = "gopher_above_avg_threshold"
	ManyHashes   data.Reason = "gopher_too_many_hashes"
	ManyEllipses data.Reason = "gopher_too_many_ellipsis"
	ManyBullets  data.Reason = "gopher_too_many_bullets"
	EndEllipses  data.Reason = "gopher_too_many_end_ellipsis"
	BelowAlpha   data.Reason = "gopher_below_alpha_threshold"
	FewStopWords data.Reason = "gopher_enough_stop_words"
)

// How the rules differ where characters are counted instead of words.
const (
	charsOfWord    = 2   // a Chinese word is about two characters
	charLetterLoss = 0.1 // so much is taken off the least part of units with a letter
)

// gopher is a step.
type gopher struct {
	Gopher
	units Units
	words *Words
	stop  map[string]bool
	chars map[string]bool
	seen  map[string]bool
}

// Step judges documents, with words to cut them.
func (g Gopher) Step(units Units, w *Words) data.Step {
	return &gopher{g, units, w, setOf(g.StopWords), setOf(g.StopChars), map[string]bool{}}
}

func setOf(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, s := range list {
		m[s] = true
	}
	return m
}

// Apply judges one document.
func (g *gopher) Apply(d *data.Document) (data.Reason, string) {
	return verdicts{d: d, mode: g.Mode, name: "gopher"}.of(g.figures(d.Text))
}

// figures of a text, in datatrove's order.
func (g *gopher) figures(text string) []figure {
	list := g.words.of(text, g.units)
	char := g.words.units == Char
	factor, minLetters, stop := 1, g.MinLetters, g.stop
	if char {
		factor, minLetters, stop = charsOfWord, g.MinLetters-charLetterLoss, g.chars
	}
	words, chars, letters := 0, 0, 0
	clear(g.seen)
	for _, w := range list {
		if !w.symbol {
			words++
			chars += w.chars
		}
		if w.letter {
			letters++
			if w.end-w.start <= 8 && len(g.seen) < g.MinStopWords {
				if s := text[w.start:w.end]; stop[s] {
					g.seen[s] = true
				}
			}
		}
	}
	lines, bullets, ends := 0, 0, 0
	eachLine(text, func(line string) {
		lines++
		s := trim(line)
		if strings.HasPrefix(s, "-") || strings.HasPrefix(s, "•") {
			bullets++
		}
		if strings.HasSuffix(s, "...") || strings.HasSuffix(s, "…") {
			ends++
		}
	})
	n := len(list)
	mean := ratio(chars, words)
	return []figure{
		{"words", float64(words), words < g.MinWords*factor, ShortDoc},
		{"", 0, words > g.MaxWords*factor, LongDoc},
		{"mean_length", mean, !char && mean < g.MinMeanLength, BelowAverage},
		{"", 0, !char && mean > g.MaxMeanLength, AboveAverage},
		over("hashes", ratio(strings.Count(text, "#"), n), g.MaxSymbols, ManyHashes),
		over("ellipses", ratio(strings.Count(text, "...")+strings.Count(text, "…"), n), g.MaxSymbols, ManyEllipses),
		over("bullets", ratio(bullets, lines), g.MaxBullets, ManyBullets),
		over("end_ellipses", ratio(ends, lines), g.MaxEllipses, EndEllipses),
		{"letters", ratio(letters, n), ratio(letters, n) < minLetters, BelowAlpha},
		{"stop_words", float64(len(g.seen)), len(g.seen) < g.MinStopWords, FewStopWords},
	}
}

// figure is one thing measured, and what it means.
type figure struct {
	name   string // "": recorded by the figure before
	value  float64
	bad    bool
	reason data.Reason
}

func over(name string, value, limit float64, reason data.Reason) figure {
	return figure{name, value, value > limit, reason}
}

// verdicts turns figures into a verdict or attributes.
type verdicts struct {
	d    *data.Document
	mode data.Mode
	name string
}

func (v verdicts) of(figures []figure) (data.Reason, string) {
	for _, f := range figures {
		if v.mode == data.Filter {
			if f.bad {
				return f.reason, f.detail()
			}
			continue
		}
		if f.name != "" {
			v.d.SetNumber(v.name+"."+f.name, f.value)
		}
		if f.bad && v.d.TextOf(v.name) == "" {
			v.d.SetText(v.name, string(f.reason))
		}
	}
	return "", ""
}

// detail is the figure as the report shows it, "" for one that the reason says all about.
func (f figure) detail() string {
	if f.name == "" {
		return ""
	}
	return fmt.Sprintf("%s %.4g", f.name, f.value)
}
