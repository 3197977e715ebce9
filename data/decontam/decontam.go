// Package decontam finds documents that hold the questions of evaluation tasks, so that a model is not tested on what it was
// trained on.
package decontam

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"pretrain/data"
	"pretrain/data/ngram"
	"pretrain/data/read"
	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// Contaminated is the reason of documents that hold evaluation text.
const Contaminated data.Reason = "contaminated"

// Config says what evaluation text is and how much of it is too much. Start from [Default].
type Config struct {
	// Mode is what is done with a document that holds evaluation text. tag writes decontam.task and decontam.overlap. Default
	// filter; without tasks nothing is done.
	Mode data.Mode `yaml:"mode" json:"mode"`
	// Tasks are files or folders of evaluation items, one JSON object a line (.jsonl, also .gz and .zst), see [Load].
	Tasks []string `yaml:"tasks" json:"tasks"`
	// NGram is the number of consecutive words that are looked for; a CJK character counts as a word. Default 10 (Cosmopedia).
	// An item shorter than that is looked for as a whole.
	NGram int `yaml:"ngram" json:"ngram"`
	// MinWords is the length from which on an item is looked for. Default 10: what is shorter ("2 + 2 =", "Which of these is
	// true?") is everywhere. The question of a multiple choice that is shorter is looked for together with its right choice.
	MinWords int `yaml:"min_words" json:"min_words"`
	// Overlap is the part of an item's n-grams that a document must hold to be contaminated by it. Default 60%: a quotation
	// of half a question gives no answer, and a question with a typing error is still that question.
	Overlap units.Fraction `yaml:"overlap" json:"overlap"`
	// Run is the number of consecutive words, all of them in evaluation items, that contaminate whatever the overlap: a passage of a
	// reading task without its question, a part of a held-out text. Default 50 (the length of Lee et al. 2022); 0: none does.
	Run int `yaml:"run" json:"run"`
}

// Default looks for 10-grams, and drops at 60% of an item or 50 words in a row.
func Default() Config {
	return Config{Mode: data.Filter, NGram: 10, MinWords: 10, Overlap: 0.6, Run: 50}
}

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Mode.Valid(), "mode", c.Mode, "off, filter or tag")
	p.Check(c.NGram >= 1 && c.NGram <= ngram.Max, "ngram", c.NGram, "1 to %d", ngram.Max)
	p.Check(c.MinWords >= 1, "min_words", c.MinWords, "at least 1")
	p.Check(c.Overlap > 0 && c.Overlap <= 1, "overlap", c.Overlap, "more than 0%% and at most 100%%")
	p.Check(c.Run == 0 || c.Run >= c.NGram, "run", c.Run, "0, or at least ngram (%d)", c.NGram)
	return p.Err()
}

// Index knows the n-grams of all items. It is only read after Load, so any number of goroutines may share it.
type Index struct {
	c     Config
	key   string
	tasks []taskCount
	items []item
	// grams leads from an n-gram's hash to the last of its links; links of one n-gram form a chain.
	grams map[uint64]int32
	links []link
	// filter has a bit set for each n-gram: most n-grams of a document are in no item, and this tells so without a cache miss.
	filter []uint64
	// lengths are the item lengths below NGram that occur, each looked for by itself.
	lengths []int
}

// taskCount is a set of evaluation items.
type taskCount struct {
	name    string
	items   int
	skipped int // shorter than min_words, so not looked for
}

type item struct {
	task  int32
	id    string
	grams int32 // distinct ones
}

type link struct{ item, next int32 }

// record is one evaluation item of whatever kind. These are the fields that hold its text:
//
//	multiple choice  query, choices, gold   the query; with the right choice where the query is empty or a fragment
//	cloze, generation  context, target      the context and what completes it
//	code             prompt                 the prompt
//	language model   text                   all of it
type record struct {
	ID      json.RawMessage `json:"id"`
	Task    string          `json:"task"`
	Query   string          `json:"query"`
	Choices []string        `json:"choices"`
	Gold    json.RawMessage `json:"gold"`
	Context string          `json:"context"`
	Target  string          `json:"target"`
	Prompt  string          `json:"prompt"`
	Text    string          `json:"text"`
}

// text is what a contaminated document would hold of the item.
func (r *record) text(minWords int) string {
	switch {
	case r.Prompt != "":
		return r.Prompt
	case r.Context != "":
		return r.Context + " " + r.Target
	case r.Text != "":
		return r.Text
	}
	text := r.Query
	var gold int
	if ngram.Count(text) < minWords && json.Unmarshal(r.Gold, &gold) == nil && gold >= 0 && gold < len(r.Choices) {
		text += " " + r.Choices[gold]
	}
	return text
}

// maxItem bounds one line of a task file.
const maxItem = 16 << 20

// Load reads the items of c.Tasks and indexes their n-grams. An item is a JSON object with task and id, and its text as query, choices and
// gold (multiple choice), context and target (cloze, generation), prompt (code) or text (language modelling). Errors name
// the file and the line.
func Load(ctx context.Context, c Config) (*Index, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	x := &Index{c: c, grams: map[uint64]int32{}, filter: make([]uint64, filterBits/64)}
	hash := xxh3.New()
	settings, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	hash.Write(settings)
	names := map[string]int32{}
	l := loader{Index: x, shinglers: map[int]*ngram.Shingler{}}
	for _, path := range c.Tasks {
		files, err := read.ListFiles(ctx, path, "*.jsonl*")
		if err != nil {
			return nil, fmt.Errorf("tasks: %w", err)
		}
		for _, file := range files {
			for line, err := range read.Lines(ctx, file, maxItem) {
				if err != nil {
					return nil, fmt.Errorf("tasks: %w", err)
				}
				hash.Write(line.JSON)
				var r record
				if err := json.Unmarshal(line.JSON, &r); err != nil {
					return nil, fmt.Errorf("tasks: %w", line.Bad("not an evaluation item: %v", err))
				}
				if r.Task == "" {
					return nil, fmt.Errorf("tasks: %w", line.Bad("no field \"task\""))
				}
				task, ok := names[r.Task]
				if !ok {
					task = int32(len(x.tasks))
					names[r.Task] = task
					x.tasks = append(x.tasks, taskCount{name: r.Task})
				}
				l.add(task, strings.Trim(string(r.ID), `"`), r.text(c.MinWords))
			}
		}
	}
	slices.Sort(x.lengths)
	sum := hash.Sum128()
	x.key = fmt.Sprintf("%016x%016x", sum.Hi, sum.Lo)
	return x, nil
}

const filterBits = 1 << 26 // 8 MiB

// loader adds items to an Index.
type loader struct {
	*Index
	shinglers map[int]*ngram.Shingler
}

func (l *loader) add(task int32, id, text string) {
	words := ngram.Count(text)
	l.tasks[task].items++
	if words < l.c.MinWords {
		l.tasks[task].skipped++
		return
	}
	n := min(l.c.NGram, words)
	s := l.shinglers[n]
	if s == nil {
		s = ngram.New(n)
		l.shinglers[n] = s
		if n < l.c.NGram {
			l.lengths = append(l.lengths, n)
		}
	}
	number := int32(len(l.items))
	grams := s.Set(text)
	l.items = append(l.items, item{task: task, id: id, grams: int32(len(grams))})
	for g := range grams {
		next, ok := l.grams[g]
		if !ok {
			next = -1
		}
		l.grams[g] = int32(len(l.links))
		l.links = append(l.links, link{number, next})
		bit := g % filterBits
		l.filter[bit/64] |= 1 << (bit % 64)
	}
}

// Key identifies what the Index finds: a hash of the items and the settings.
func (x *Index) Key() string { return x.key }

// Hit says which item a document holds most of.
type Hit struct {
	Task    string
	Item    string  // its id
	Overlap float64 // part of the item's n-grams that the document holds
	Run     int     // longest stretch of consecutive words that are all in items
	Text    string  // the first n-gram in question
}

// scanner looks for items in documents. One goroutine uses it at a time.
type scanner struct {
	*Index
	shinglers []*ngram.Shingler // of NGram, then of each shorter length
	seen      map[uint64]struct{}
	counts    map[int32]int32 // n-grams of each item that were seen
	firsts    map[int32]place // where the first of them is
}

type place struct{ word, n int }

func (x *Index) scanner() *scanner {
	s := &scanner{Index: x, seen: map[uint64]struct{}{}, counts: map[int32]int32{}, firsts: map[int32]place{}}
	for _, n := range append([]int{x.c.NGram}, x.lengths...) {
		s.shinglers = append(s.shinglers, ngram.New(n))
	}
	return s
}

// scan returns what contaminates a text, nil if nothing does.
func (s *scanner) scan(text string) *Hit {
	clear(s.seen)
	clear(s.counts)
	clear(s.firsts)
	longest, longestItem := 0, int32(-1)
	for i, shingler := range s.shinglers {
		n := s.c.NGram
		if i > 0 {
			n = s.lengths[i-1]
		}
		word, run := 0, 0
		shingler.Each(text, func(grams []uint64) {
			for j, g := range grams {
				if bit := g % filterBits; s.filter[bit/64]&(1<<(bit%64)) == 0 {
					run = 0
					continue
				}
				head, ok := s.grams[g]
				if !ok {
					run = 0
					continue
				}
				if run++; i == 0 && run > longest {
					longest, longestItem = run, s.links[head].item
				}
				if _, ok := s.seen[g]; ok {
					continue
				}
				s.seen[g] = struct{}{}
				for at := head; at >= 0; at = s.links[at].next {
					of := s.links[at].item
					if s.counts[of]++; s.counts[of] == 1 {
						s.firsts[of] = place{word + j, n}
					}
				}
			}
			word += len(grams)
		})
	}
	if longest > 0 {
		longest += s.c.NGram - 1 // in words
	}
	best, overlap := int32(-1), 0.0
	for of, count := range s.counts {
		// The lower item among equals, so that the order of the map does not show.
		if part := float64(count) / float64(s.items[of].grams); part > overlap || part == overlap && of < best {
			best, overlap = of, part
		}
	}
	switch {
	case best < 0:
		return nil
	case overlap >= float64(s.c.Overlap):
	case s.c.Run > 0 && longest >= s.c.Run:
		best = longestItem
		overlap = float64(s.counts[best]) / float64(s.items[best].grams)
	default:
		return nil
	}
	first := s.firsts[best]
	of := s.items[best]
	return &Hit{Task: s.tasks[of.task].name, Item: of.id, Overlap: overlap, Run: longest, Text: ngram.Span(text, first.word, first.n)}
}

// Step looks for evaluation text in documents and the turns of conversations. decontam.task names the task in any mode, so that
// hits can be counted by task.
func (x *Index) Step() data.Factory {
	return func() data.Step {
		s := x.scanner()
		return data.StepFunc(func(d *data.Document) (data.Reason, string) {
			hit := s.scan(d.Text)
			for i := 0; hit == nil && i < len(d.Messages); i++ {
				hit = s.scan(d.Messages[i].Content)
			}
			if hit == nil {
				return "", ""
			}
			d.SetText("decontam.task", hit.Task)
			d.SetNumber("decontam.overlap", hit.Overlap)
			if x.c.Mode == data.Tag {
				return "", ""
			}
			detail := fmt.Sprintf("%s, item %s: %.0f%% of its n-grams, %d words in a row: %q", hit.Task, hit.Item, 100*hit.Overlap, hit.Run, hit.Text)
			return Contaminated, detail
		})
	}
}
