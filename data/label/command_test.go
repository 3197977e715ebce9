package label

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/data"
)

// TestMain is also the labeller of the tests: the test's binary, started again.
func TestMain(m *testing.M) {
	if mode := os.Getenv("LABELLER"); mode != "" {
		labeller(mode)
		return
	}
	os.Exit(m.Run())
}

func labeller(mode string) {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	for n := 0; in.Scan(); n++ {
		var d struct{ ID, Text string }
		if err := json.Unmarshal(in.Bytes(), &d); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		switch {
		case mode == "dies" && n == 3:
			fmt.Fprintln(os.Stderr, "out of luck")
			os.Exit(7)
		case mode == "garbage":
			fmt.Println("hello")
		case mode == "order":
			fmt.Println(`{"id":"other","n":1}`)
		case mode == "name":
			fmt.Println(`{"Bad Name":1}`)
		default:
			fmt.Printf("{\"id\":%q,\"length\":%d,\"kind\":\"t\"}\n", d.ID, len(d.Text))
		}
	}
}

func label(t *testing.T, mode string, n int) ([]data.Document, error) {
	t.Helper()
	t.Setenv("LABELLER", mode)
	docs := make([]data.Document, n)
	pointers := make([]*data.Document, n)
	for i := range docs {
		docs[i] = data.Document{ID: fmt.Sprint(i), Text: strings.Repeat("<&>", i)}
		pointers[i] = &docs[i]
	}
	l, err := Command{Argv: []string{os.Args[0]}}.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Label(pointers); err != nil {
		l.Close()
		return nil, err
	}
	return docs, l.Close()
}

func TestCommand(t *testing.T) {
	docs, err := label(t, "good", 2*BatchSize+10)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range docs {
		want := data.Tags{{Name: "label.length", Value: float64(3 * i)}, {Name: "label.kind", Text: "t"}}
		if diff := cmp.Diff(want, d.Tags); diff != "" {
			t.Fatalf("document %d: %s", i, diff)
		}
	}
	for mode, want := range map[string]string{
		"dies":    "it ended before it had labelled all documents; its last words: out of luck",
		"garbage": `for document "0" it wrote "hello"`,
		"order":   "another document's id",
		"name":    `label "Bad Name"`,
	} {
		if _, err := label(t, mode, 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", mode, err, want)
		}
	}
	if _, err := (Command{Argv: []string{"no-such-program"}}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("a program that is not there: %v", err)
	}
	if err := (Command{}).Validate(); err == nil || !strings.Contains(err.Error(), "argv") {
		t.Errorf("no program: %v", err)
	}
}

func FuzzApply(f *testing.F) {
	f.Add(`{"id":"1","a":2,"b":"c"}`)
	f.Fuzz(func(t *testing.T, line string) {
		d := data.Document{ID: "1"}
		apply([]byte(line), &d)
		for _, a := range d.Tags {
			if !strings.HasPrefix(a.Name, "label.") {
				t.Errorf("attribute %q", a.Name)
			}
		}
	})
}
