package eval

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"pretrain/tokenizer"
)

// frame is what stands around a query whose task's items do not bring it along.
type frame struct{ before, after string }

// frames by task, where the rule of [Item.query] is not enough. They are lm-evaluation-harness's, and the Chinese ones CMMLU's.
var frames = map[string]frame{
	"mmlu":  {"Question: ", "\nAnswer:"},
	"aqua":  {"Question: ", "\nAnswer:"},
	"cmmlu": {"题目：", "\n答案："},
}

// query is the text before a choice: the item's, with the frame of its task. A query with a line "Question: …" that does not
// already ask for the answer is followed by "Answer:", as lm-evaluation-harness has it.
func (i Item) query() string {
	text := strings.TrimRightFunc(i.Query, unicode.IsSpace)
	f, ok := frames[i.Task]
	if asks := strings.HasPrefix(text, "Question:") || strings.Contains(text, "\nQuestion:"); !ok && asks && !strings.HasSuffix(text, "Answer:") {
		f.after = "\nAnswer:"
	}
	return f.before + text + f.after
}

// gap is what stands between a query and a choice: a space, but nothing in Chinese or without a query.
func gap(query, choice string) string {
	last, _ := utf8.DecodeLastRuneInString(query)
	first, _ := utf8.DecodeRuneInString(choice)
	if query == "" || wide(last) || wide(first) {
		return ""
	}
	return " "
}

// wide reports whether a character belongs to a script that has no spaces between words.
func wide(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana) || r >= 0x3000 && r <= 0x303f || r >= 0xff00 && r <= 0xffef
}

// example is an item with its answer, as it is shown before another.
func (i Item) example() string {
	switch i.Kind() {
	case Choice:
		q, c := i.query(), i.Choices[i.Gold]
		return q + gap(q, c) + c
	case Generation:
		return i.question() + " " + *i.Solution
	default:
		return i.Context + i.Target
	}
}

// question is a generation item's, framed as in GSM8K's few-shot prompt.
func (i Item) question() string { return "Question: " + i.Context + "\nAnswer:" }

// shots are the examples before an item, each followed by an empty line: the first n of its subject, or as many as there are.
func (t Task) shots(i Item, n int) (text string, count int) {
	var b strings.Builder
	examples := t.Examples[i.Subject]
	count = min(n, len(examples))
	for _, e := range examples[:count] {
		b.WriteString(e.example() + "\n\n")
	}
	return b.String(), count
}

// encoder turns texts into requests.
type encoder struct {
	tokenizer.Tokenizer
}

// request encodes a context and what follows it. The two are encoded as one text, as training saw it, and cut where the context's
// own encoding ends, with the context's last spaces on the far side: lm-evaluation-harness's rule. A document's end stands before,
// as in training.
func (e encoder) request(context, continuation string) (Request, error) {
	trimmed := strings.TrimRightFunc(context, unicode.IsSpace)
	continuation = context[len(trimmed):] + continuation
	whole, err := e.Encode(trimmed + continuation)
	if err != nil {
		return Request{}, err
	}
	head, err := e.Encode(trimmed)
	if err != nil {
		return Request{}, err
	}
	cut := len(head)
	if cut >= len(whole) { // a continuation that melts into the context's last token
		cut = len(whole) - 1
	}
	if cut < 0 {
		return Request{}, fmt.Errorf("%q has no tokens", continuation)
	}
	return Request{append([]uint32{e.EOS()}, whole[:cut]...), whole[cut:]}, nil
}
