// Package sensitive finds the words of lists that the user gives in texts, all at once (Aho and Corasick, 1975). Which words
// are not to be trained on is the user's to say, so there is no list here; for what no list can tell, train a classifier
// (labels).
package sensitive

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"pretrain/data"
	"pretrain/internal/problem"
)

// Config says which words are looked for and how many are too many.
type Config struct {
	// Mode is off, filter or tag. Default filter: without lists there is nothing to find. Tag records the attributes sensitive.hits
	// and sensitive.word, the first one found.
	Mode data.Mode `yaml:"mode"`
	// Lists are files with a word or phrase on each line; a line that begins with # is a comment. Upper and lower case of ASCII are
	// the same. A word in ASCII is found as a whole word only, one in Chinese anywhere. Default none.
	Lists []string `yaml:"lists"`
	// Allow are words of the lists that are not looked for: some are too common to mean anything, such as 性.
	Allow []string `yaml:"allow"`
	// MinHits is how many different words a document must have to be dropped. Default 2: most single words have an innocent use.
	MinHits int `yaml:"min_hits"`
}

// Default looks for nothing.
func Default() Config { return Config{Mode: data.Filter, MinHits: 2} }

// Validate reports every problem at once, as joined [problem.Problem] errors. It does not read the lists.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Mode.Valid(), "mode", c.Mode, "%s, %s or %s", data.Off, data.Filter, data.Tag)
	p.Check(c.MinHits >= 1, "min_hits", c.MinHits, "1 or more")
	return p.Err()
}

// Words is the reason of this package.
const Words data.Reason = "sensitive_words"

// Filter has the words of all lists. It is safe for concurrent use.
type Filter struct {
	config Config
	words  []string
	auto   *automaton
	key    string
}

// Load reads the lists. Errors name the file, and the line that is no word.
func Load(ctx context.Context, c Config) (*Filter, error) {
	f := &Filter{config: c}
	allow := map[string]bool{}
	for _, w := range c.Allow {
		allow[lower(w)] = true
	}
	for _, path := range c.Lists {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := f.read(path, allow); err != nil {
			return nil, fmt.Errorf("sensitive.lists: %w", err)
		}
	}
	slices.Sort(f.words)
	f.words = slices.Compact(f.words)
	f.auto = build(f.words)
	h := xxh3.New()
	fmt.Fprintln(h, c.Mode, c.MinHits)
	for _, w := range f.words {
		fmt.Fprintln(h, w)
	}
	f.key = fmt.Sprintf("%x", h.Sum128().Bytes())
	return f, nil
}

func (f *Filter) read(path string, allow map[string]bool) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		w := lower(strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff")))
		if w == "" || strings.HasPrefix(w, "#") || allow[w] {
			continue
		}
		if strings.ToValidUTF8(w, "") != w || len(w) > 200 {
			return fmt.Errorf("%s:%d: want a word in UTF-8, of 200 bytes at most", path, n)
		}
		f.words = append(f.words, w)
	}
	return lines.Err()
}

// Key identifies the words and what is done with them.
func (f *Filter) Key() string { return f.key }

// Step judges documents, all turns of a conversation.
func (f *Filter) Step() data.Factory {
	return func() data.Step {
		seen := map[int32]bool{}
		return data.StepFunc(func(d *data.Document) (data.Reason, string) {
			clear(seen)
			first := int32(-1)
			for text := range texts(d) {
				f.auto.find(text, func(word int32) {
					if first < 0 {
						first = word
					}
					seen[word] = true
				})
			}
			if first < 0 {
				return "", ""
			}
			if f.config.Mode == data.Tag {
				d.SetNumber("sensitive.hits", float64(len(seen)))
				d.SetText("sensitive.word", f.words[first])
				return "", ""
			}
			if len(seen) < f.config.MinHits {
				return "", ""
			}
			return Words, fmt.Sprintf("%d words, the first %q", len(seen), f.words[first])
		})
	}
}

// texts are the parts of a document.
func texts(d *data.Document) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if d.Text != "" && !yield(d.Text) {
			return
		}
		for _, m := range d.Messages {
			if !yield(m.Content) {
				return
			}
		}
	}
}

// lower lowers ASCII only, so that offsets stay.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
