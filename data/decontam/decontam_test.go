package decontam

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pretrain/data"
)

const tasks = `{"id":"q-0","task":"quiz","query":"Which of the seven rivers of the valley runs dry in the summer of every second year?","choices":["a","b"],"gold":0}
{"id":"q-1","task":"quiz","query":"What is two plus two?","choices":["4","5"],"gold":0}
{"id":"z-0","task":"zh","query":"下列鸭品种中，产蛋量最高的品种是","choices":["高邮鸭","北京鸭"],"gold":1}
{"id":"w-0","task":"wino","query":"","choices":["Anna gave the book to Clara because she had read it.","Anna gave the book to Clara because she liked it."],"gold":1}
{"id":"c-0","task":"cloze","context":"He opened the door of the old mill and saw nothing but","target":" dust"}
{"id":"h-0","task":"code","prompt":"def add_all(numbers):\n    \"\"\"Return the sum of all numbers in the list, or zero if it is empty.\"\"\"\n"}
{"id":7,"task":"lm","text":"LONG"}
`

func index(t *testing.T, c Config) *Index {
	t.Helper()
	var long strings.Builder
	for i := range 200 {
		fmt.Fprintf(&long, "word%d ", i)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tasks.jsonl"), []byte(strings.Replace(tasks, "LONG", long.String(), 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Tasks = []string{dir}
	x, err := Load(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func words(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&b, "Word%d, ", i)
	}
	return b.String()
}

func TestStep(t *testing.T) {
	x := index(t, Default())
	step := x.Step()()
	for name, c := range map[string]struct{ text, want string }{
		"a question":                {"Quiz. Which of the seven rivers of the valley\nruns DRY in the summer of every second year? Nobody knows.", "quiz"},
		"most of a question":        {"of the seven rivers of the valley runs dry in the summer of every second month", "quiz"},
		"half a question":           {"which of the seven rivers of the valley runs dry in spring, and why", ""},
		"a short question":          {"What is two plus two? What is two plus two?", ""},
		"Chinese":                   {"题目：下列鸭品种中,产蛋量最高的品种是北京鸭。", "zh"},
		"other Chinese":             {"下列鸡品种中，产蛋量最低的品种是", ""},
		"the right answer":          {"He said: Anna gave the book to Clara because she liked it. So it was.", "wino"},
		"the wrong answer":          {"He said: Anna gave the book to Clara because she had read it. So it was.", ""},
		"a cloze":                   {"He opened the door of the old mill and saw nothing but dust", "cloze"},
		"code":                      {"x = 1\ndef add_all(numbers):\n  '''Return the sum of all numbers in the list, or zero if it is empty'''\n", "code"},
		"a passage of a long text":  {"So: " + words(80, 130) + " end", "lm"},
		"a quotation of a long one": {"So: " + words(80, 129) + " end", ""},
		"nothing":                   {"", ""},
	} {
		d := data.Document{Text: c.text}
		reason, detail := step.Apply(&d)
		if got := d.TextOf("decontam.task"); got != c.want || (reason == Contaminated) != (c.want != "") {
			t.Errorf("%s: %q (%s %s), want %q", name, got, reason, detail, c.want)
		}
	}
	d := data.Document{Messages: []data.Message{{Content: "hello"}, {Content: "He opened the door of the old mill and saw nothing but dust"}}}
	if reason, detail := step.Apply(&d); reason != Contaminated ||
		detail != `cloze, item c-0: 100% of its n-grams, 13 words in a row: "He opened the door of the old mill and saw"` {
		t.Errorf("a conversation: %s %s", reason, detail)
	}

	c := Default()
	c.Mode = data.Tag
	d.Tags = nil
	if reason, _ := index(t, c).Step()().Apply(&d); reason != "" || d.TextOf("decontam.task") != "cloze" {
		t.Errorf("tag mode: %s %v", reason, d.Tags)
	}
	if x.Key() == index(t, c).Key() || x.Key() == "" {
		t.Error("the key does not tell settings apart")
	}
	if got := fmt.Sprint(x.tasks); got != "[{quiz 2 1} {zh 1 0} {wino 1 0} {cloze 1 0} {code 1 0} {lm 1 0}]" {
		t.Errorf("tasks %v", got)
	}
}

func TestLoadErrors(t *testing.T) {
	for content, want := range map[string]string{
		"{\"task\":\"a\"}\n[1]":     "tasks.jsonl:2: not an evaluation item",
		"{\"query\":\"a\"}":         `tasks.jsonl:1: no field "task"`,
		"{\"task\":\"a\",\"id\":":   "tasks.jsonl:1: not an evaluation item",
		"{\"task\":\"a\",\"id\":3}": "",
	} {
		path := filepath.Join(t.TempDir(), "tasks.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		c := Default()
		c.Tasks = []string{path}
		_, err := Load(t.Context(), c)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", content, err, want)
		}
	}
	c := Default()
	c.Tasks = []string{filepath.Join(t.TempDir(), "none")}
	if _, err := Load(t.Context(), c); err == nil || !strings.Contains(err.Error(), "tasks: ") {
		t.Errorf("a missing folder: %v", err)
	}
	err := Config{Run: 1, NGram: 40}.Validate()
	for _, key := range []string{"mode", "ngram", "min_words", "overlap", "run"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%s is missing in %v", key, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(tasks, "some text")
	f.Fuzz(func(t *testing.T, content, text string) {
		path := filepath.Join(t.TempDir(), "tasks.jsonl")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		c := Default()
		c.NGram, c.MinWords, c.Run, c.Tasks = 3, 2, 3, []string{path}
		x, err := Load(t.Context(), c)
		if err != nil {
			return
		}
		d := data.Document{Text: text}
		x.Step()().Apply(&d)
	})
}
