// Package funnel counts what becomes of documents on their way through the steps of a preparation: how many pass each step,
// why the others go, with samples of both, and how figures are distributed. Counts of parts add up to the counts of the whole,
// in any order, so each file is counted by itself.
package funnel

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"pretrain/data"
)

// MaxSamples is how many documents of each kind are kept to look at.
const MaxSamples = 20

// excerptBytes bounds the text of a sample: enough to see what it is.
const excerptBytes = 600

// Count is an amount of documents.
type Count struct {
	Documents int64 `json:"documents"`
	Bytes     int64 `json:"bytes"`
}

func (c *Count) add(o Count) {
	c.Documents += o.Documents
	c.Bytes += o.Bytes
}

// Counts is what a source, or a part of it, went through.
type Counts struct {
	Source string `json:"source"`
	// Steps in their order; the first one is the reading.
	Steps []*Step `json:"steps"`
	// Kept are samples of the documents that passed all steps.
	Kept Samples `json:"kept"`
	// Histograms of figures of the documents, by name, sorted.
	Histograms []*Histogram `json:"histograms,omitempty"`
	// Labels count the values of the documents' attributes that are words, by name, sorted.
	Labels []*Label `json:"labels,omitempty"`
}

// Step is the account of one step.
type Step struct {
	Name string `json:"name"`
	In   Count  `json:"in"`
	Out  Count  `json:"out"`
	// Changed is the number of documents whose text the step changed.
	Changed int64 `json:"changed,omitempty"`
	// Dropped by reason, sorted.
	Dropped []*Dropped `json:"dropped,omitempty"`
}

// Dropped are the documents that one step dropped for one reason.
type Dropped struct {
	Reason data.Reason `json:"reason"`
	Count
	Samples Samples `json:"samples"`
}

// Sample is a document to look at.
type Sample struct {
	ID     string `json:"id"`
	Path   string `json:"path"`
	Line   int64  `json:"line,omitempty"`
	Detail string `json:"detail,omitempty"`
	Text   string `json:"text,omitempty"` // its beginning
	// Order is a hash of where the document is. The samples are those with the lowest: a random choice that does not depend
	// on the order of reading.
	Order uint64 `json:"order"`
}

// Samples are the MaxSamples documents of the lowest Order, sorted.
type Samples []Sample

// wants reports whether a document of that order would be among the samples.
func (s Samples) wants(order uint64) bool {
	return len(s) < MaxSamples || order < s[len(s)-1].Order
}

func (s *Samples) add(x Sample) {
	if !s.wants(x.Order) {
		return
	}
	at, _ := slices.BinarySearchFunc(*s, x, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), strings.Compare(a.ID, b.ID))
	})
	*s = slices.Insert(*s, at, x)
	*s = (*s)[:min(len(*s), MaxSamples)]
}

// New is an account of a source with these steps.
func New(source string, steps ...string) *Counts {
	c := &Counts{Source: source}
	for _, name := range steps {
		c.Steps = append(c.Steps, &Step{Name: name})
	}
	return c
}

// Passed counts a document that came into step i with before bytes and passed it.
func (c *Counts) Passed(i int, before, after int64, changed bool) {
	s := c.Steps[i]
	s.In.add(Count{1, before})
	s.Out.add(Count{1, after})
	if changed {
		s.Changed++
	}
}

// Drop counts a document that step i dropped. d has the text that the step saw.
func (c *Counts) Drop(i int, d *data.Document, reason data.Reason, detail string) {
	s := c.Steps[i]
	n := Count{1, d.Bytes()}
	s.In.add(n)
	r := s.dropped(reason)
	r.Count.add(n)
	if order := orderOf(d.Path, d.Line, d.ID); r.Samples.wants(order) {
		r.Samples.add(sample(d, detail, order))
	}
}

// Unread counts a document that could not be read at all: what is known of it is in the drop.
func (c *Counts) Unread(d data.Drop, n int64) {
	s := c.Steps[0]
	s.In.Documents += n
	r := s.dropped(d.Reason)
	r.Documents += n
	r.Samples.add(Sample{Path: d.Path, Line: d.Line, Detail: d.Detail, Order: orderOf(d.Path, d.Line, "")})
}

// Keep offers a document that passed all steps as a sample.
func (c *Counts) Keep(d *data.Document) {
	if order := orderOf(d.Path, d.Line, d.ID); c.Kept.wants(order) {
		c.Kept.add(sample(d, "", order))
	}
}

// Observe adds a figure to the histogram of that name.
func (c *Counts) Observe(name string, value float64) { c.histogram(name).Add(value) }

// Note counts a document with an attribute that is a word.
func (c *Counts) Note(name, value string) { c.label(name).add(value, 1) }

func (c *Counts) label(name string) *Label {
	at, ok := slices.BinarySearchFunc(c.Labels, name, func(l *Label, name string) int { return strings.Compare(l.Name, name) })
	if !ok {
		c.Labels = slices.Insert(c.Labels, at, &Label{Name: name})
	}
	return c.Labels[at]
}

func (c *Counts) histogram(name string) *Histogram {
	at, ok := slices.BinarySearchFunc(c.Histograms, name, func(h *Histogram, name string) int { return strings.Compare(h.Name, name) })
	if !ok {
		c.Histograms = slices.Insert(c.Histograms, at, &Histogram{Name: name})
	}
	return c.Histograms[at]
}

func (s *Step) dropped(reason data.Reason) *Dropped {
	at, ok := slices.BinarySearchFunc(s.Dropped, reason, func(d *Dropped, r data.Reason) int { return cmp.Compare(d.Reason, r) })
	if !ok {
		s.Dropped = slices.Insert(s.Dropped, at, &Dropped{Reason: reason})
	}
	return s.Dropped[at]
}

// Add adds the counts of another part of the same source; steps that c does not have follow its own.
func (c *Counts) Add(o *Counts) {
	for _, from := range o.Steps {
		at := slices.IndexFunc(c.Steps, func(s *Step) bool { return s.Name == from.Name })
		if at < 0 {
			at = len(c.Steps)
			c.Steps = append(c.Steps, &Step{Name: from.Name})
		}
		to := c.Steps[at]
		to.In.add(from.In)
		to.Out.add(from.Out)
		to.Changed += from.Changed
		for _, d := range from.Dropped {
			r := to.dropped(d.Reason)
			r.Count.add(d.Count)
			for _, x := range d.Samples {
				r.Samples.add(x)
			}
		}
	}
	for _, x := range o.Kept {
		c.Kept.add(x)
	}
	for _, h := range o.Histograms {
		c.histogram(h.Name).merge(h)
	}
	for _, l := range o.Labels {
		for _, v := range l.Values {
			c.label(l.Name).add(v.Value, v.Documents)
		}
	}
}

func orderOf(path string, line int64, id string) uint64 {
	return xxh3.HashStringSeed(path, xxh3.HashStringSeed(id, uint64(line)))
}

func sample(d *data.Document, detail string, order uint64) Sample {
	text := d.Text
	for i := 0; i < len(d.Messages) && len(text) < excerptBytes; i++ {
		text += d.Messages[i].Role + ": " + d.Messages[i].Content + "\n"
	}
	return Sample{ID: d.ID, Path: d.Path, Line: d.Line, Detail: detail, Text: excerpt(text), Order: order}
}

// excerpt is a copy of the beginning of a text, so that the whole can be let go.
func excerpt(text string) string {
	if len(text) <= excerptBytes {
		return strings.Clone(text)
	}
	end := excerptBytes
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// Reasons lists why documents were dropped, the most frequent first: "12 too_long, 3 empty".
func (s *Step) Reasons() string {
	list := slices.SortedStableFunc(slices.Values(s.Dropped), func(a, b *Dropped) int { return cmp.Compare(b.Documents, a.Documents) })
	parts := make([]string, len(list))
	for i, d := range list {
		parts[i] = fmt.Sprintf("%d %s", d.Documents, d.Reason)
	}
	return strings.Join(parts, ", ")
}
