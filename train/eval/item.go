package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// Kind says how an item is put to a model and what counts as right.
type Kind string

const (
	// Text is measured in nats per token and bits per byte.
	Text Kind = "text"
	// Choice has the answer that the model finds likeliest.
	Choice Kind = "choice"
	// Cloze has a text's last word, which greedy decoding must give exactly.
	Cloze Kind = "cloze"
	// Generation has an answer that is taken out of a text the model writes.
	Generation Kind = "generation"
	// Code has a program that the model writes and that is run.
	Code Kind = "code"
)

// Item is one line of a file of tasks. Its fields say of what kind it is; see [Item.Kind].
type Item struct {
	ID   string `json:"id"`
	Task string `json:"task"`
	// Split "dev" makes an item an example to show before others of its task and subject, unless the task has no others.
	Split   string `json:"split"`
	Subject string `json:"subject"`

	Text string `json:"text"`

	// Choice: of Choices, which follow Query, Gold is right. Without a query the choices are whole texts.
	Query   string   `json:"query"`
	Choices []string `json:"choices"`
	Gold    int      `json:"gold"`

	// Cloze and Generation: Target follows Context. Solution, which makes it Generation, is an answer with its reasoning.
	Context  string  `json:"context"`
	Target   string  `json:"target"`
	Solution *string `json:"solution"`

	// Code: what follows Prompt must pass Test, which calls the function named EntryPoint.
	Prompt            string `json:"prompt"`
	CanonicalSolution string `json:"canonical_solution"`
	Test              string `json:"test"`
	EntryPoint        string `json:"entry_point"`
}

// Kind is the item's kind by the fields it has.
func (i Item) Kind() Kind {
	switch {
	case len(i.Choices) > 0:
		return Choice
	case i.EntryPoint != "":
		return Code
	case i.Solution != nil:
		return Generation
	case i.Target != "":
		return Cloze
	}
	return Text
}

// check says what is wrong with an item.
func (i Item) check() error {
	switch i.Kind() {
	case Choice:
		if i.Gold < 0 || i.Gold >= len(i.Choices) {
			return fmt.Errorf("gold: %d: want the number of one of the %d choices, from 0", i.Gold, len(i.Choices))
		}
	case Code:
		if i.Prompt == "" || i.Test == "" {
			return errors.New("a code item wants prompt, test and entry_point")
		}
	case Generation, Cloze:
		if i.Context == "" || i.Target == "" {
			return errors.New("want context and target")
		}
	case Text:
		if i.Text == "" {
			return errors.New("want text; or query, choices and gold; or context and target; or prompt, test and entry_point")
		}
	}
	return nil
}

// maxLine bounds one line of a file of tasks: a document of lm-wikitext2 has 100 kB.
const maxLine = 64 << 20

// ReadItems reads JSON Lines: one item a line, blank lines left out. Errors name the line. An item without a task belongs to
// the task name; one without an id gets its line's number.
func ReadItems(r io.Reader, name string) ([]Item, error) {
	var items []Item
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if !utf8.Valid(line) { // encoding/json would replace invalid bytes silently
			return nil, fmt.Errorf("line %d is not UTF-8", n)
		}
		item := Item{ID: fmt.Sprint(n), Task: name}
		if err := json.Unmarshal(line, &item); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if err := item.check(); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		items = append(items, item)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return items, nil
}

// Task is the items of one task, all of one kind.
type Task struct {
	Name  string
	Kind  Kind
	Items []Item
	// Examples are those to show before an item of their subject.
	Examples map[string][]Item
	// LeftOut is how many items have an empty choice, which has no likelihood.
	LeftOut int
}

// Group sorts items by task, in order of appearance.
func Group(items []Item) ([]Task, error) {
	var tasks []Task
	byName := map[string]int{}
	for _, item := range items {
		at, ok := byName[item.Task]
		if !ok {
			at = len(tasks)
			byName[item.Task] = at
			tasks = append(tasks, Task{Name: item.Task, Kind: item.Kind(), Examples: map[string][]Item{}})
		}
		t := &tasks[at]
		if item.Kind() != t.Kind {
			return nil, fmt.Errorf("task %s: item %s is of kind %s, those before are %s", t.Name, item.ID, item.Kind(), t.Kind)
		}
		if slices.Contains(item.Choices, "") {
			t.LeftOut++
			continue
		}
		if item.Split == "dev" {
			t.Examples[item.Subject] = append(t.Examples[item.Subject], item)
		} else {
			t.Items = append(t.Items, item)
		}
	}
	for i := range tasks {
		if t := &tasks[i]; len(t.Items) == 0 { // its dev split is what there is to measure
			for _, item := range items {
				if item.Task == t.Name && !slices.Contains(item.Choices, "") {
					t.Items = append(t.Items, item)
				}
			}
			t.Examples = nil
		}
	}
	return tasks, nil
}
