package dedup

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"pretrain/data"
)

// outcome is what the four phases make of a corpus.
type outcome struct {
	stats   Stats
	reasons [][]data.Reason // by file and index
	details [][]string
	docs    [][]data.Document // afterwards
	files   map[string]string // content of everything that Cluster wrote
}

// phases does all phases over the files of a corpus, with workers goroutines where there is something to share.
func phases(t failer, c Config, workers int, corpus ...[]data.Document) outcome {
	t.Helper()
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "dedup")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	folder := func(name string, n int) string {
		path := filepath.Join(dir, fmt.Sprintf("%s-%d", name, n))
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Error(err)
		}
		return path
	}
	parallel := func(n int, each func(i int) error) {
		var wg sync.WaitGroup
		next := make(chan int)
		for range workers {
			wg.Go(func() {
				for i := range next {
					if err := each(i); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i := range n {
			next <- i
		}
		close(next)
		wg.Wait()
	}
	signed, matched := make([]string, len(corpus)), make([]string, c.Parts())
	parallel(len(corpus), func(file int) error {
		signed[file] = folder("signed", file)
		s, err := NewSigner(signed[file], uint32(file), c)
		if err != nil {
			return err
		}
		for i := range corpus[file] {
			if err := s.Add(uint32(i), &corpus[file][i]); err != nil {
				return err
			}
		}
		return s.Close()
	})
	parallel(c.Parts(), func(part int) error {
		matched[part] = folder("matched", part)
		return c.Match(ctx, part, signed, matched[part])
	})
	out := folder("out", 0)
	stats, err := c.Cluster(ctx, signed, matched, out)
	if err != nil {
		t.Fatal(err)
	}
	o := outcome{stats: stats, files: map[string]string{}}
	for file, docs := range corpus {
		v, err := OpenVerdicts(out, uint32(file))
		if err != nil {
			t.Fatal(err)
		}
		after := slices.Clone(docs)
		reasons, details := make([]data.Reason, len(docs)), make([]string, len(docs))
		for i := range after {
			after[i].Tags = slices.Clone(after[i].Tags)
			reasons[i], details[i] = v.Apply(uint32(i), &after[i])
		}
		o.docs, o.reasons, o.details = append(o.docs, after), append(o.reasons, reasons), append(o.details, details)
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(out, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		o.files[e.Name()] = string(b)
	}
	return o
}

func docs(texts ...string) []data.Document {
	var out []data.Document
	for i, text := range texts {
		out = append(out, data.Document{ID: fmt.Sprint(i), Source: "s", Text: text})
	}
	return out
}

// The first of equal texts stays, or the best; white space and case do not count, punctuation does.
func TestExact(t *testing.T) {
	c := Default()
	c.MinHash.Enabled = false
	a := docs("Hello,  World\n", "hello world", "x", "hello, world")
	b := docs("\thello,\nworld", "X ", "另一个")
	got := phases(t, c, 1, a, b)
	want := [][]data.Reason{{"", "", "", Exact}, {Exact, Exact, ""}}
	if diff := cmp.Diff(want, got.reasons); diff != "" {
		t.Error(diff)
	}
	if d := got.details[1][0]; d != "as s:0 (cluster 1, similarity 1.00)" {
		t.Errorf("detail %q", d)
	}
	if got.stats.Exact != 3 || got.stats.Clusters != 2 || got.stats.Documents != 7 {
		t.Errorf("stats %+v", got.stats)
	}

	c.Keep = "quality"
	b[0].SetNumber("quality", 0.5)
	a[3].SetNumber("quality", 0.25)
	got = phases(t, c, 1, a, b)
	want = [][]data.Reason{{Exact, "", "", Exact}, {"", Exact, ""}}
	if diff := cmp.Diff(want, got.reasons); diff != "" {
		t.Errorf("kept by quality: %s", diff)
	}

	c.Scope = Source
	for i := range b {
		b[i].Source = "other"
	}
	got = phases(t, c, 1, a, b)
	want = [][]data.Reason{{Exact, "", "", ""}, {"", "", ""}} // the better of the two within s
	if diff := cmp.Diff(want, got.reasons); diff != "" {
		t.Errorf("within sources: %s", diff)
	}

	c = Default()
	c.Mode = data.Tag
	got = phases(t, c, 1, a)
	if diff := cmp.Diff([][]data.Reason{{"", "", "", ""}}, got.reasons); diff != "" {
		t.Errorf("tag mode: %s", diff)
	}
	kept, _ := got.docs[0][0].Number("dedup.kept")
	dropped, ok := got.docs[0][3].Number("dedup.kept")
	if kept != 1 || dropped != 0 || !ok {
		t.Errorf("tag mode: kept %v, dropped %v", kept, dropped)
	}
}

// A conversation is what its messages say.
func TestConversations(t *testing.T) {
	talk := func(answer string) data.Document {
		return data.Document{ID: answer, Source: "s", Messages: []data.Message{{Role: "user", Content: "Why?"}, {Role: "assistant", Content: answer}}}
	}
	got := phases(t, Default(), 1, []data.Document{talk("Because."), talk("because."), talk("No idea.")})
	if diff := cmp.Diff([][]data.Reason{{"", Exact, ""}}, got.reasons); diff != "" {
		t.Error(diff)
	}
	long := func(answer string) data.Document {
		d := talk(answer)
		prompt := ""
		for i := range 400 {
			prompt += fmt.Sprintf("rule%d ", i)
		}
		d.Messages = append([]data.Message{{Role: "system", Content: prompt}}, d.Messages...)
		return d
	}
	for chat, want := range map[bool]data.Reason{false: "", true: Near} {
		c := Default()
		c.MinHash.Chat = chat
		got := phases(t, c, 1, []data.Document{long("Because."), long("No idea.")})
		if diff := cmp.Diff([][]data.Reason{{"", want}}, got.reasons); diff != "" {
			t.Errorf("minhash.chat %v: %s", chat, diff)
		}
	}
}

// Whatever the corpus, the phases drop what a direct reading of the definitions drops: all pairs that share a band, connected
// components, the best of each kept.
func TestAgainstAllPairs(t *testing.T) {
	checks := flag.Lookup("rapid.checks") // each makes some fifty files
	before := checks.Value.String()
	if err := checks.Value.Set("25"); err != nil {
		t.Fatal(err)
	}
	defer checks.Value.Set(before)
	rapid.Check(t, func(t *rapid.T) {
		c := Default()
		c.Keep = rapid.SampledFrom([]string{"", "q"}).Draw(t, "keep")
		c.Exact = rapid.Bool().Draw(t, "exact")
		c.MinHash.Bands, c.MinHash.Rows = rapid.IntRange(1, 4).Draw(t, "bands"), rapid.IntRange(1, 3).Draw(t, "rows")
		c.MinHash.NGram = rapid.IntRange(1, 3).Draw(t, "n")
		word := rapid.SampledFrom([]string{"a", "B", "c1", "été", "漢", "字", ",", "\n"})
		var corpus [][]data.Document
		var all []data.Document
		for range rapid.IntRange(1, 3).Draw(t, "files") {
			var file []data.Document
			for range rapid.IntRange(0, 6).Draw(t, "docs") {
				d := data.Document{ID: fmt.Sprint(len(all)), Source: "s", Text: strings.Join(rapid.SliceOfN(word, 0, 12).Draw(t, "text"), " ")}
				d.SetNumber("q", float64(rapid.IntRange(0, 2).Draw(t, "quality")))
				file, all = append(file, d), append(all, d)
			}
			corpus = append(corpus, file)
		}
		var got []data.Reason
		for _, r := range phases(t, c, 2, corpus...).reasons {
			got = append(got, r...)
		}
		if want := allPairs(c, all); !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	})
}

func allPairs(c Config, all []data.Document) []data.Reason {
	h := NewHasher(c.MinHash)
	n := len(all)
	signatures := make([][]uint64, n)
	exact := func(i, j int) bool {
		return c.Exact && bytes.Equal(normalise(nil, all[i].Text), normalise(nil, all[j].Text))
	}
	for i := range all {
		signatures[i] = slices.Clone(h.Signature(all[i].Text))
	}
	near := func(i, j int) bool {
		for b := range c.MinHash.Bands {
			from, to := b*c.MinHash.Rows, (b+1)*c.MinHash.Rows
			if len(signatures[i]) > 0 && len(signatures[j]) > 0 && slices.Equal(signatures[i][from:to], signatures[j][from:to]) {
				return true
			}
		}
		return false
	}
	beats := func(i, j int) bool {
		a, _ := all[i].Number(c.Keep)
		b, _ := all[j].Number(c.Keep)
		return a > b || a == b && i < j
	}
	reasons := make([]data.Reason, n)
	for i := range all {
		// the component of i
		reached, queue := map[int]bool{i: true}, []int{i}
		for len(queue) > 0 {
			k := queue[0]
			queue = queue[1:]
			for j := range all {
				if !reached[j] && (exact(k, j) || near(k, j)) {
					reached[j] = true
					queue = append(queue, j)
				}
			}
		}
		for j := range reached {
			if beats(j, i) && reasons[i] == "" {
				reasons[i] = Near
			}
			if beats(j, i) && exact(i, j) {
				reasons[i] = Exact
			}
		}
	}
	return reasons
}

// The same bytes come out with 1, 2 and 16 workers.
func TestSameBytes(t *testing.T) {
	var corpus [][]data.Document
	for f := range 6 {
		var texts []string
		for i := range 40 {
			text := prose(400, uint64(f*40+i)/3)
			if i%2 == 0 {
				text += "\n" + strings.Repeat("one more paragraph, ", 8) + "\n"
			}
			texts = append(texts, text)
		}
		corpus = append(corpus, docs(texts...))
	}
	c := Default()
	c.Paragraph.Enabled = true
	want := phases(t, c, 1, corpus...)
	if want.stats.Exact+want.stats.Near < 100 || want.stats.Paragraphs == 0 {
		t.Fatalf("too little to compare: %+v", want.stats)
	}
	for _, workers := range []int{2, 16} {
		if diff := cmp.Diff(want.files, phases(t, c, workers, corpus...).files); diff != "" {
			t.Errorf("%d workers: %s", workers, diff)
		}
	}
}

// Where there are more runs than are merged at a time, they are merged in passes.
func TestManyRuns(t *testing.T) {
	dir, sortDir := t.TempDir(), t.TempDir()
	s := newSorter(sortDir, 0)
	s.limit = 3
	var want []record
	for i := range 3*maxFanIn*2 + 100 {
		r := record{key: keyOf(xxh3.Hash128Seed(nil, uint64(i%700)), nearKey), id: uint64(i), sub: uint32(i % 5), score: float32(i)}
		want = append(want, r)
		if err := s.add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(want, func(a, b record) int { return a.compare(&b) })
	runs, err := runsOf([]string{sortDir})
	if err != nil || len(runs) <= 2*maxFanIn {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	var got []record
	for r, err := range allParts(t.Context(), runs, dir) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if !slices.Equal(got, want) {
		t.Error("not the records in order")
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Of a paragraph that several documents have, the one in the best document that stays is left.
func TestParagraphs(t *testing.T) {
	long := func(s string) string { return strings.Repeat(s+" ", 30) }
	c := Default()
	c.MinHash.Enabled = false
	c.Paragraph.Enabled = true
	texts := []string{
		"short\n" + long("shared") + "\nshort\n" + long("mine"),
		long("other") + "\n" + long("shared") + "\nshort\n" + long("shared"),
		long("shared") + "\n" + long("other"),
		long("other") + "\n" + long("shared") + "\nshort\n" + long("shared"),
	}
	got := phases(t, c, 1, docs(texts...))
	if diff := cmp.Diff([][]data.Reason{{"", "", Paragraphs, Exact}}, got.reasons); diff != "" {
		t.Error(diff)
	}
	if got.docs[0][0].Text != texts[0] {
		t.Error("the first document lost something")
	}
	if want := long("other") + "\nshort\n"; got.docs[0][1].Text != want {
		t.Errorf("the second document: %q, want %q", got.docs[0][1].Text, want)
	}
	if got.stats.Paragraphs != 4 {
		t.Errorf("%d paragraphs cut, want 4", got.stats.Paragraphs)
	}
	// A better document keeps what a worse one would have kept by its place.
	d := docs(texts...)
	for i := range d {
		d[i].SetNumber("q", float64(i))
	}
	c.Keep = "q"
	got = phases(t, c, 1, d)
	if diff := cmp.Diff([][]data.Reason{{"", Exact, Paragraphs, ""}}, got.reasons); diff != "" {
		t.Error(diff)
	}
	if got.docs[0][0].Text != "short\nshort\n"+long("mine") {
		t.Errorf("the first document: %q", got.docs[0][0].Text)
	}
}

// Paragraphs joined are the text, whatever the text.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"a", " ", "\n", "\n\n", "bc", "\t", "\r\n"})).Draw(t, "text"), "")
		for _, split := range []Split{Line, Block} {
			var got strings.Builder
			for p := range (Paragraph{Split: split}).split(text) {
				got.WriteString(p)
			}
			if got.String() != text {
				t.Fatalf("%s: %q became %q", split, text, got.String())
			}
		}
	})
	var got []string
	for p := range (Paragraph{Split: Block}).split("a\nb\n\n \nc\n\nd") {
		got = append(got, p)
	}
	if diff := cmp.Diff([]string{"a\nb\n\n \n", "c\n\n", "d"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	err := Config{}.Validate()
	for _, key := range []string{"mode", "scope", "memory", "minhash.ngram", "minhash.bands", "paragraph.split", "paragraph.min_chars"} {
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is missing in %v", key, err)
		}
	}
	var back Config
	c := Default()
	c.MinHash.Threshold = 0.25
	if b, err := json.Marshal(c); err != nil || json.Unmarshal(b, &back) != nil || back != c {
		t.Errorf("as JSON and back: %+v, want %+v (%v)", back, c, err)
	}
}

// What was damaged is told so, with the file; nothing panics.
func TestDamage(t *testing.T) {
	c := Default()
	dir, out := t.TempDir(), t.TempDir()
	s, err := NewSigner(dir, 0, c)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range docs(prose(300, 1), prose(300, 1), prose(300, 2)) {
		if err := s.Add(uint32(i), &d); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Add(7, &data.Document{}); err == nil {
		t.Error("a gap in the numbers was taken")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := runPath(dir, 0)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, headerSize - 1, headerSize, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		var err error
		for part := range c.Parts() {
			if err = c.Match(t.Context(), part, []string{dir}, out); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func FuzzRun(f *testing.F) {
	f.Add([]byte{1}, 0)
	f.Add(make([]byte, headerSize+2*recordSize), 3)
	f.Fuzz(func(t *testing.T, b []byte, part int) {
		path := filepath.Join(t.TempDir(), "run")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, err := range mergePass(t.Context(), []string{path}, part&(parts-1)) {
			if n++; err != nil {
				break
			}
		}
		if n > len(b)/recordSize+1 {
			t.Errorf("%d records of %d bytes", n, len(b))
		}
	})
}

func FuzzVerdicts(f *testing.F) {
	c, _ := json.Marshal(Default())
	f.Add(string(c)+"\n{\"index\":1,\"cut\":[0,2]}\n", "a\nb\nc")
	f.Add(string(c)+"\n{\"index\":1}\n{\"index\":1}\n", "")
	f.Fuzz(func(t *testing.T, file, text string) {
		v, err := readVerdicts(strings.NewReader(file))
		if err != nil {
			return
		}
		for i := range uint32(3) {
			d := data.Document{Text: text}
			if v.Apply(i, &d); len(d.Text) > len(text) {
				t.Errorf("%q grew to %q", text, d.Text)
			}
		}
	})
}

// failer is a testing.T or a rapid.T.
type failer interface {
	Helper()
	Error(args ...any)
	Fatal(args ...any)
}
