package pipeline_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"pretrain/data"
	"pretrain/data/funnel"
	"pretrain/data/pipeline"
	"pretrain/data/prepare"
	"pretrain/data/shard"
	"pretrain/internal/vfs"
)

// byteTokenizer makes a token of each byte.
type byteTokenizer struct{}

func (byteTokenizer) Key() string { return "bytes" }
func (byteTokenizer) Build(context.Context, iter.Seq[string], func(int64)) ([]byte, error) {
	return []byte("bytes"), nil
}
func (t byteTokenizer) Open([]byte) (prepare.Encoder, error) { return t, nil }
func (byteTokenizer) Special(string) (id uint32, ok bool)    { return 0, false }
func (byteTokenizer) VocabSize() int                         { return 257 }
func (byteTokenizer) EOS() uint32                            { return 256 }
func (byteTokenizer) EncodeBatch(_ context.Context, texts []string) ([][]uint32, error) {
	out := make([][]uint32, len(texts))
	for i, s := range texts {
		for _, c := range []byte(s) {
			out[i] = append(out[i], uint32(c))
		}
	}
	return out, nil
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// zipped is content as zstd.
func zipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// story is a text that passes every rule, other for each number.
func story(i int) string {
	names := []string{"Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Henry"}
	return fmt.Sprintf(`In the year %d a man called %s went to the market with a basket of apples, and he came back with %d coins.
His neighbour %s, who had watched him from the window, asked him to tell the whole story of the journey in the evening.
They sat by the fire until midnight, and nobody in the village ever heard what it was that they had talked about number %d.`,
		1500+i, names[i%8], i*7+3, names[(i*3+1)%8], i*i)
}

func quoted(i int, text string) string {
	return fmt.Sprintf("{\"id\": \"d%d\", \"text\": %q}\n", i, text)
}

func run(t *testing.T, c pipeline.Config) *pipeline.Report {
	t.Helper()
	r, err := pipeline.Run(t.Context(), c, pipeline.Options{Tokenizer: byteTokenizer{}, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// reasons counts what was dropped, by reason.
func reasons(c *funnel.Counts) map[data.Reason]int64 {
	m := map[data.Reason]int64{}
	for _, s := range c.Steps {
		for _, d := range s.Dropped {
			m[d.Reason] += d.Documents
		}
	}
	return m
}

// Poison is dropped with its reason, wherever it lies, and the documents around it are kept.
func TestPoison(t *testing.T) {
	dir := t.TempDir()
	good := 0
	story := func() string { good++; return story(good) }
	deep := `{"text": "deep", "x": ` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}\n"
	poison := quoted(1, story()) +
		`{"text": "` + strings.Repeat("x", 100<<20) + "\"}\n" + // a line of 100 MB
		`{"text": "` + strings.Repeat("nul\\u0000", 50) + "\"}\n" +
		deep + "{\"text\": \"\xff\xfe\x80\x81 binary\"}\n" + `{"text": 7}` + "\n" + `[1, 2` + "\n" + `{"text": "   "}` + "\n" +
		quoted(2, story())
	put(t, filepath.Join(dir, "raw/poison.jsonl"), []byte(poison))
	put(t, filepath.Join(dir, "raw/bomb.jsonl.zst"), zipped(t, append([]byte(quoted(3, story())), bytes.Repeat([]byte("0"), 64<<20)...)))
	cut := zipped(t, []byte(quoted(4, "never seen, because the file is cut")))
	put(t, filepath.Join(dir, "raw/cut.jsonl.zst"), cut[:len(cut)-8])
	put(t, filepath.Join(dir, "raw/not.parquet"), []byte("no Parquet"))
	put(t, filepath.Join(dir, "raw/last.jsonl"), []byte(quoted(5, story())))
	c := pipeline.Default()
	c.Dedup.MinHash.Enabled = false // the stories are near-duplicates of each other
	c.Output, c.Sources = filepath.Join(dir, "out"), map[string]pipeline.Source{"raw": {Path: filepath.Join(dir, "raw")}}
	r := run(t, c)
	s := r.Sources[0]
	got := reasons(s.Counts)
	if left := s.Train.Documents + s.Validation.Documents; left < int64(good)-1 || left > int64(good) { // the bomb may take its own line along
		t.Errorf("%d documents are left, want %d; dropped: %v", left, good, got)
	}
	for reason, n := range map[data.Reason]int64{data.TooLong: 1, data.NULByte: 1, data.NotUTF8: 1, data.NoText: 1, data.Expansion: 1, data.Truncated: 1, data.Empty: 1} {
		if got[reason] != n {
			t.Errorf("%d dropped as %s, want %d", got[reason], reason, n)
		}
	}
	if got[data.BadRecord] != 3 { // deep JSON, half an array, no Parquet
		t.Errorf("%d dropped as %s, want 3", got[data.BadRecord], data.BadRecord)
	}
}

// The tokens of the shards are the bytes of the documents that are left; each document is found by the id it had, at its line.
func TestProvenance(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{}
	var lines strings.Builder
	for i := range 200 {
		lines.WriteString(quoted(i, story(i)))
		want[fmt.Sprintf("d%d a.jsonl:%d", i, i+1)] = story(i)
	}
	lines.WriteString(quoted(7, story(7))) // a duplicate
	put(t, filepath.Join(dir, "raw/a.jsonl"), []byte(lines.String()))
	c := pipeline.Default()
	c.Dedup.MinHash.Enabled = false // the stories are near-duplicates of each other
	c.Output, c.Sources = filepath.Join(dir, "out"), map[string]pipeline.Source{"raw": {Path: filepath.Join(dir, "raw")}}
	r := run(t, c)
	got := map[string]string{}
	for _, part := range []string{"train", "validation"} {
		s, err := shard.Open(vfs.OS, filepath.Join(c.Output, "shards", "raw", part))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Verify(t.Context()); err != nil || s.Documents() == 0 {
			t.Fatalf("%s: %d documents, %v", part, s.Documents(), err)
		}
		for i := range s.Documents() {
			doc, err := s.Doc(i)
			if err != nil {
				t.Fatal(err)
			}
			start, n, err := s.Span(i)
			if err != nil {
				t.Fatal(err)
			}
			tokens := make([]uint32, n)
			if err := s.Read(tokens, start); err != nil {
				t.Fatal(err)
			}
			var b []byte
			for _, x := range tokens[:n-1] {
				b = append(b, byte(x))
			}
			if tokens[n-1] != 256 || doc.Attributes.TextOf("lang") != "en" {
				t.Errorf("%s ends in token %d, attributes %v", doc.ID, tokens[n-1], doc.Attributes)
			}
			got[fmt.Sprintf("%s %s:%d", doc.ID, doc.Path, doc.Line)] = string(b)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("documents of the shards (-want +got):\n%s", diff)
	}
	if n := reasons(r.Sources[0].Counts)["dup_exact"]; n != 1 {
		t.Errorf("%d exact duplicates, want 1", n)
	}
	idx, err := os.ReadFile(filepath.Join(c.Output, "shards/raw/train.idx"))
	if err != nil || string(idx[:9]) != "MMIDIDX\x00\x00" || int64(binary.LittleEndian.Uint64(idx[18:])) != r.Sources[0].Train.Documents {
		t.Errorf("not an index of Megatron's: %q, %v", idx[:9], err)
	}
}
