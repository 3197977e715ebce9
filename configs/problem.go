package configs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pretrain/internal/problem"
)

// Error is every problem of a configuration, in one value. It means bad input, not a failure of the program: the command
// exits with code 2 on it. Reach it by [errors.As].
type Error struct {
	// Name of the configuration, as given.
	Name string
	// Problems in the order of the file; never empty.
	Problems []Problem
}

// Problem is one thing wrong: where, with which key, and what would be right.
type Problem struct {
	// Origin is where the value was given; of kind Default if it was not.
	Origin Origin
	// Key is the full path, such as "schedule.peak_lr"; "" for a problem of the file as a whole.
	Key string
	// Message says what was given and what is wanted.
	Message string
	// Source is the line of the file, "" if there is none. The caret goes below column Origin.Column.
	Source string
}

func (e *Error) Error() string {
	var b strings.Builder
	if n := len(e.Problems); n > 1 {
		fmt.Fprintf(&b, "config %s has %d problems:\n\n", e.Name, n)
	}
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(p.String())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// String is the problem with its place, its line and a caret, ending in a newline.
func (p Problem) String() string {
	parts := []string{p.Origin.place(), p.Key, p.Message}
	text := strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ") + "\n"
	if p.Source != "" && p.Origin.Line > 0 {
		prefix := fmt.Sprintf("%6d | ", p.Origin.Line)
		line, column := around(p.Source, p.Origin.Column)
		text += prefix + line + "\n" + strings.Repeat(" ", len(prefix)-2) + "| " + caret(line, column) + "\n"
	}
	return text
}

// What is shown of a value and of a line, in characters: the file may be no configuration at all, but a corpus.
const (
	mostOfValue = 200
	mostOfLine  = 200
)

// shortened is the beginning of a text that is too long to show.
func shortened(text string) string {
	if r := []rune(text); len(r) > mostOfValue {
		return string(r[:mostOfValue]) + "…"
	}
	return text
}

// around is the part of a long line that has the column, and the column in it.
func around(line string, column int) (string, int) {
	r := []rune(line)
	from := 0
	if len(r) > mostOfLine {
		from = min(max(0, column-mostOfLine/2), len(r)-mostOfLine)
		r = r[from : from+mostOfLine]
	}
	return string(r), column - from
}

// caret is a ^ below the rune at column, with the line's own tabs so that they line up.
func caret(line string, column int) string {
	var b strings.Builder
	for i, r := range []rune(line) {
		if i >= column-1 {
			break
		}
		if r != '\t' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String() + "^"
}

// problems collects; the zero value is ready.
type problems struct{ list []Problem }

func (ps *problems) add(p Problem) { ps.list = append(ps.list, p) }

// has reports whether key, something below it or something above it already has a problem: a check that would build on
// it says nothing new.
func (ps *problems) has(keys ...string) bool {
	return slices.ContainsFunc(ps.list, func(p Problem) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return within(k, p.Key) || within(p.Key, k) })
	})
}

// within reports whether key is parent or lies below it.
func within(key, parent string) bool {
	return strings.HasPrefix(key, parent) && (len(key) == len(parent) || parent != "" && strings.ContainsRune(".[", rune(key[len(parent)])))
}

// err is the collected problems as an *Error, nil if there is none.
func (ps *problems) err(name string) error {
	if len(ps.list) == 0 {
		return nil
	}
	slices.SortStableFunc(ps.list, func(a, b Problem) int {
		if at, bt := a.Origin, b.Origin; at.Kind == bt.Kind && at.Kind == FromFile {
			return cmp.Or(strings.Compare(at.Name, bt.Name), cmp.Compare(at.Line, bt.Line), cmp.Compare(at.Column, bt.Column))
		}
		rank := []int{FromFile: 0, FromSet: 1, FromPreset: 2, FromFormula: 2, FromDefault: 2} // what has no place comes last
		return cmp.Or(cmp.Compare(rank[a.Origin.Kind], rank[b.Origin.Kind]), cmp.Compare(a.Origin.Line, b.Origin.Line))
	})
	return &Error{Name: name, Problems: ps.list}
}

// eachProblem calls f for every problem.Problem that a Validate joined, and for every other error as a problem of no key.
func eachProblem(err error, f func(problem.Problem)) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			eachProblem(e, f)
		}
		return
	}
	var p problem.Problem
	if !errors.As(err, &p) {
		p = problem.Problem{Want: err.Error()}
	}
	f(p)
}
