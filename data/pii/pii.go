// Package pii finds private data in text and masks it: e-mail addresses, phone numbers, identity and card numbers, IP addresses,
// and keys and tokens in code. What has a checksum is checked, so that a number that only looks like one stays.
package pii

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"pretrain/data"
	"pretrain/internal/problem"
)

// Mode says what becomes of private data.
type Mode string

// The modes.
const (
	Off  Mode = "off"
	Mask Mode = "mask" // it is replaced
	Tag  Mode = "tag"  // it is counted in the attributes pii.KIND, and stays
)

// Kind is a sort of private data.
type Kind string

// The kinds.
const (
	Email Kind = "email"
	Phone Kind = "phone" // Chinese mobile numbers, and numbers with a country code
	ID    Kind = "id"    // Chinese resident identity numbers, US social security numbers
	Card  Kind = "card"  // bank cards
	IP    Kind = "ip"    // public IPv4 and IPv6 addresses
	Key   Kind = "key"   // private keys, access keys, tokens
)

// Kinds are all of them.
var Kinds = []Kind{Email, Phone, ID, Card, IP, Key}

// Config says what is looked for. Start from [Default].
type Config struct {
	// Mode is off, mask or tag. Default mask.
	Mode Mode `yaml:"mode"`
	// Kinds are those looked for, among email, phone, id, card, ip and key. Default all.
	Kinds []Kind `yaml:"kinds"`
	// Masks replace what is found, by kind. Default "[EMAIL]", "[PHONE]" and so on: a word that a model can learn and a reader
	// recognises.
	Masks map[Kind]string `yaml:"masks"`
}

// Default masks everything.
func Default() Config {
	c := Config{Mode: Mask, Kinds: Kinds, Masks: map[Kind]string{}}
	for _, k := range Kinds {
		c.Masks[k] = "[" + strings.ToUpper(string(k)) + "]"
	}
	return c
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Mode == Off || c.Mode == Mask || c.Mode == Tag, "mode", c.Mode, "%s, %s or %s", Off, Mask, Tag)
	for _, k := range c.Kinds {
		p.Check(slices.Contains(Kinds, k), "kinds", k, "kinds among %v", Kinds)
	}
	for _, k := range slices.Sorted(maps.Keys(c.Masks)) {
		p.Check(slices.Contains(Kinds, k), "masks."+string(k), k, "a kind among %v", Kinds)
	}
	return p.Err()
}

// Step masks or counts the private data of documents, all turns of a conversation. It can be shared.
func (c Config) Step() data.Step {
	return data.StepFunc(func(d *data.Document) (data.Reason, string) {
		var counts [6]int
		d.Text = c.mend(d.Text, &counts)
		for i := range d.Messages {
			d.Messages[i].Content = c.mend(d.Messages[i].Content, &counts)
		}
		for i, n := range counts {
			if n > 0 {
				d.SetNumber("pii."+string(Kinds[i]), float64(n))
			}
		}
		return "", ""
	})
}

// mend counts what is found in a text and, under mask, replaces it.
func (c Config) mend(text string, counts *[6]int) string {
	found := slices.DeleteFunc(Find(text), func(s Span) bool { return !slices.Contains(c.Kinds, s.Kind) })
	if len(found) == 0 {
		return text
	}
	var b strings.Builder
	at := 0
	for _, s := range found {
		counts[slices.Index(Kinds, s.Kind)]++
		b.WriteString(text[at:s.Start])
		b.WriteString(c.Masks[s.Kind])
		at = s.End
	}
	if c.Mode != Mask {
		return text
	}
	b.WriteString(text[at:])
	return b.String()
}

// Span is private data at text[Start:End].
type Span struct {
	Kind       Kind
	Start, End int
}

// Find lists the private data of a text in order, without overlap.
func Find(text string) []Span {
	var found []Span
	found = emails(text, found)
	found = numbers(text, found)
	found = addresses6(text, found)
	found = keys(text, found)
	if len(found) < 2 {
		return found
	}
	slices.SortFunc(found, func(a, b Span) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(b.End, a.End))
	})
	kept := found[:1]
	for _, s := range found[1:] {
		if s.Start >= kept[len(kept)-1].End {
			kept = append(kept, s)
		}
	}
	return kept
}
