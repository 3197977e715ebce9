package trace

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pretrain/data"
	"pretrain/data/mix"
	"pretrain/data/shard"
	"pretrain/internal/prng"
	"pretrain/internal/vfs"

	"github.com/google/go-cmp/cmp"
)

type every int

func (n every) SequencesBefore(step int64) int64 { return step * int64(n) }
func (n every) SequencesAt(int64) int            { return int(n) }

// tracer has two sources of words: token i is "wI ". The chat's documents alternate between words that count and words that do
// not.
func tracer(t *testing.T) Tracer {
	t.Helper()
	tr := Tracer{Sources: map[string]Source{}, Decode: func(tokens []uint32) string {
		var b strings.Builder
		for _, token := range tokens {
			fmt.Fprintf(&b, "w%d ", token)
		}
		return b.String()
	}}
	available := map[string]mix.Available{}
	for name, docs := range map[string]int{"chat": 20, "web": 70} {
		prefix, template := filepath.Join(t.TempDir(), name), ""
		if name == "chat" {
			template = "chatml"
		}
		w, err := shard.Create(vfs.OS, prefix, shard.Options{VocabSize: 1000, Template: template})
		if err != nil {
			t.Fatal(err)
		}
		for d := range docs {
			tokens := make([]uint32, 3+d%9)
			var mask []bool
			for i := range tokens {
				tokens[i] = uint32(10*d + i)
				if name == "chat" {
					mask = append(mask, i%2 == 1)
				}
			}
			doc := shard.Doc{ID: fmt.Sprintf("%s%d", name, d), Path: name + ".jsonl", Line: int64(d) + 1, Attributes: data.Attributes{Language: "en"}}
			if err := w.Add(doc, tokens, mask); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Commit(); err != nil {
			t.Fatal(err)
		}
		r, err := shard.Open(vfs.OS, prefix)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		c, err := r.Corpus()
		if err != nil {
			t.Fatal(err)
		}
		s := Source{Corpus: c}
		if name == "chat" {
			s.Mask = c
		}
		tr.Sources[name], available[name] = s, mix.Available{Index: c, Hash: name}
	}
	c := mix.Default()
	c.Sources = map[string]mix.Source{"chat": {Path: "chat"}, "web": {Path: "web"}}
	c.Stages = []mix.Stage{{Mix: map[string]float64{"chat": 0.3, "web": 0.7}}}
	var err error
	if tr.Plan, err = mix.Expand(c, mix.Run{Key: prng.New(1), Steps: 12, SeqLen: 16, Batches: every(3)}, available); err != nil {
		t.Fatal(err)
	}
	return tr
}

// Each piece of every batch says the words of its document, and the document's own list of steps has it; and no more.
func TestBothWays(t *testing.T) {
	tr := tracer(t)
	forward, backward := map[string]int{}, map[string]int{}
	for step := range int64(12) {
		batch, err := tr.Sequences(step, 0, 99)
		if err != nil || len(batch) != 3 {
			t.Fatalf("%d sequences, %v", len(batch), err)
		}
		for i, s := range batch {
			n := 0
			for _, p := range s.Pieces {
				n += p.Length
				counted := p.Length
				if s.Source == "chat" {
					counted = (p.Offset+p.Length)/2 - p.Offset/2
				}
				var text strings.Builder
				for k := range p.Length {
					fmt.Fprintf(&text, "w%d ", 10*p.Number+p.Offset+k)
				}
				want := Piece{
					Document: Document{Source: s.Source, Number: p.Number, ID: fmt.Sprint(s.Source, p.Number), Path: s.Source + ".jsonl", Line: int64(p.Number) + 1,
						Attributes: data.Attributes{Language: "en"}, Tokens: 3 + p.Number%9},
					Offset: p.Offset, Length: p.Length, Counted: counted, Text: text.String(),
				}
				if diff := cmp.Diff(want, p); diff != "" {
					t.Fatal(diff)
				}
				forward[fmt.Sprintln(p.ID, step, i, p.Offset, p.Length, s.Epoch)]++
			}
			if s.Index != i || s.Tokens != n || n != 17 {
				t.Fatalf("%+v of %d tokens", s, n)
			}
		}
		part, err := tr.Sequences(step, 1, 1)
		if diff := cmp.Diff(batch[1:2], part); diff != "" || err != nil {
			t.Fatal(diff, err)
		}
	}
	for name, docs := range map[string]int{"chat": 20, "web": 70} {
		for d := range docs {
			found, err := tr.Find(fmt.Sprint(name, d), "")
			if err != nil || len(found) != 1 || found[0].Source != name || found[0].Number != d {
				t.Fatalf("%s%d: %+v, %v", name, d, found, err)
			}
			for _, at := range found[0].Seen {
				backward[fmt.Sprintln(found[0].ID, at.Step, at.Index, at.Segment.Offset, at.Segment.Len, at.Epoch)]++
			}
		}
	}
	if diff := cmp.Diff(forward, backward); diff != "" || len(forward) < 50 {
		t.Errorf("%d pieces seen; -step to document +document to step:\n%s", len(forward), diff)
	}
	for source, want := range map[string]int{"chat": 0, "web": 1, "": 1} {
		if found, err := tr.Find("web3", source); err != nil || len(found) != want {
			t.Errorf("web3 in source %q: %d, %v", source, len(found), err)
		}
	}
}
