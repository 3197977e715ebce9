package eval

import (
	"strings"
	"testing"
)

func TestReadItems(t *testing.T) {
	items, err := ReadItems(strings.NewReader(`{"id":"a","task":"mc","query":"q","choices":["x","y"],"gold":1}

{"task":"gen","context":"c","target":"t","solution":"s"}
{"context":"c","target":" t"}
{"prompt":"p","test":"t","entry_point":"f","canonical_solution":"x"}
{"text":"some text","meta":{"ignored":1}}
`), "file")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range items {
		got = append(got, i.Task+"/"+i.ID+"/"+string(i.Kind()))
	}
	if want := "mc/a/choice gen/3/generation file/4/cloze file/5/code file/6/text"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", strings.Join(got, " "), want)
	}
	for text, want := range map[string]string{
		`{"text":"x"}` + "\n{":                  "line 2",
		`{"choices":["a"],"gold":1}`:            "gold: 1: want the number of one of the 1 choices",
		`{"choices":["a"],"gold":"A"}`:          "line 1",
		`{"context":"c","solution":"s"}`:        "want context and target",
		`{"entry_point":"f","prompt":"p"}`:      "prompt, test and entry_point",
		`{"txt":"a"}`:                           "want text; or",
		"{\"text\":\"\xff\"}":                   "line 1 is not UTF-8",
		`{"text":"` + strings.Repeat("x", 1000): "line 1",
	} {
		if _, err := ReadItems(strings.NewReader(text), "f"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want an error with %q", text, err, want)
		}
	}
}

func FuzzReadItems(f *testing.F) {
	f.Add(`{"query":"q","choices":["x","y"],"gold":1}` + "\n" + `{"text":"t"}`)
	f.Add(`{"context":"c","target":"t","solution":null,"split":"dev"}`)
	f.Fuzz(func(t *testing.T, text string) {
		items, err := ReadItems(strings.NewReader(text), "f")
		if err != nil {
			return
		}
		for _, i := range items {
			if err := i.check(); err != nil || i.Kind() == Choice && i.Gold >= len(i.Choices) {
				t.Errorf("accepted %+v: %v", i, err)
			}
		}
		tasks, err := Group(items)
		n := 0
		for _, task := range tasks {
			n += len(task.Items) + task.LeftOut
			for _, e := range task.Examples {
				n += len(e)
			}
		}
		if err == nil && n != len(items) {
			t.Errorf("%d items in the tasks of %d", n, len(items))
		}
	})
}

func TestGroup(t *testing.T) {
	tasks, err := Group([]Item{
		{ID: "1", Task: "a", Choices: []string{"x", ""}}, {ID: "2", Task: "a", Choices: []string{"x"}, Split: "dev", Subject: "s"},
		{ID: "3", Task: "b", Text: "t", Split: "dev"}, {ID: "4", Task: "a", Choices: []string{"x"}, Split: "test", Subject: "s"},
	})
	if err != nil || len(tasks) != 2 {
		t.Fatal(tasks, err)
	}
	a, b := tasks[0], tasks[1]
	if len(a.Items) != 1 || a.Items[0].ID != "4" || a.LeftOut != 1 || len(a.Examples["s"]) != 1 {
		t.Errorf("task a: %+v", a)
	}
	if len(b.Items) != 1 || len(b.Examples) != 0 { // a task of dev items only is measured on them
		t.Errorf("task b: %+v", b)
	}
	if _, err := Group([]Item{{Task: "a", Text: "t"}, {ID: "2", Task: "a", Context: "c", Target: "t"}}); err == nil || !strings.Contains(err.Error(), "item 2 is of kind cloze") {
		t.Errorf("two kinds in a task: %v", err)
	}
}
