package read

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"

	"pretrain/data"
)

func put(t testing.TB, path string, content []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func gz(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

type parquetRow struct {
	ID       int64         `parquet:"id"`
	Text     *string       `parquet:"text,optional"`
	Lang     string        `parquet:"language"`
	Messages []parquetTurn `parquet:"messages,list"`
	Unused   float64       `parquet:"score"`
}

type parquetTurn struct {
	Role    string `parquet:"role"`
	Content string `parquet:"content"`
}

func parquetFileOf[T any](t testing.TB, rows []T) []byte {
	var out bytes.Buffer
	// Small pages, so that rows and repeated values cross them; several row groups.
	w := parquet.NewGenericWriter[T](&out, parquet.PageBufferSize(200), parquet.MaxRowsPerRowGroup(70), parquet.Compression(&parquet.Zstd))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func readAll(t testing.TB, spec Spec) ([]data.Document, Report, error) {
	t.Helper()
	s, err := Open(t.Context(), spec)
	if err != nil {
		return nil, Report{}, err
	}
	var docs []data.Document
	var r Report
	for d, err := range s.Documents(t.Context(), &r) {
		if err != nil {
			return docs, r, err
		}
		docs = append(docs, d)
	}
	return docs, r, nil
}

// Every format of a mixed folder, in the order of paths.
func TestFolder(t *testing.T) {
	dir := t.TempDir()
	lines := []byte("\xef\xbb\xbf{\"id\":\"x1\",\"text\":\"eins\",\"lang\":\"de\",\"license\":\"MIT\"}\r\n\n" +
		"{\"text\":\"\\u4e8c\",\"id\":7,\"language\":\"zh\",\"extra\":{\"a\":[1]}}\n" +
		`{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}]}`)
	put(t, dir+"/b/lines.jsonl", lines)
	put(t, dir+"/b/lines.jsonl.gz", append(gz(t, lines[:60]), gz(t, lines[60:])...)) // two members
	put(t, dir+"/b/lines.jsonl.zst", zst(t, lines))
	put(t, dir+"/a.go", []byte("package a\n"))
	put(t, dir+"/z.MD.gz", gz(t, []byte("\xef\xbb\xbf# title")))
	put(t, dir+"/.git/config.txt", []byte("hidden"))
	put(t, dir+"/.hidden.txt", []byte("hidden"))
	put(t, dir+"/image.png", []byte("\x89PNG"))
	put(t, dir+"/empty.txt", nil)
	text := "drei"
	put(t, dir+"/c.parquet", parquetFileOf(t, []parquetRow{{ID: 3, Text: &text, Lang: "de"}}))
	if err := os.Symlink(filepath.Join(dir, "a.go"), filepath.Join(dir, "link.go")); err != nil {
		t.Fatal(err)
	}
	turns := []data.Message{{Role: "user", Content: "hi"}, {Role: "assistant", Content: "ho"}}
	want := []data.Document{{ID: "a.go", Text: "package a\n", Path: "a.go"}}
	for _, path := range []string{"b/lines.jsonl", "b/lines.jsonl.gz", "b/lines.jsonl.zst"} {
		want = append(want,
			data.Document{ID: "x1", Text: "eins", Path: path, Line: 1, Attributes: data.Attributes{Language: "de", License: "MIT"}},
			data.Document{ID: "7", Text: "二", Path: path, Line: 3, Attributes: data.Attributes{Language: "zh"}},
			data.Document{ID: path + ":4", Messages: turns, Path: path, Line: 4})
	}
	want = append(want,
		data.Document{ID: "3", Text: "drei", Path: "c.parquet", Line: 1, Attributes: data.Attributes{Language: "de"}},
		data.Document{ID: "link.go", Text: "package a\n", Path: "link.go"},
		data.Document{ID: "z.MD.gz", Text: "# title", Path: "z.MD.gz"})
	for i := range want {
		want[i].Source = "mixed"
	}
	spec := Default(dir)
	spec.Name = "mixed"
	got, r, err := readAll(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.Files != 8 || r.Documents != 13 || r.Dropped[data.Empty] != 1 || len(r.Samples) != 1 {
		t.Errorf("report %+v", r)
	}
	if s := r.String(); s != "13 documents, 0.0 MB from 8 files; left out: 1 empty" {
		t.Error(s)
	}
	var onDisk int64
	for _, name := range []string{"a.go", "link.go", "z.MD.gz", "empty.txt", "c.parquet", "b/lines.jsonl", "b/lines.jsonl.gz", "b/lines.jsonl.zst"} {
		info, _ := os.Stat(filepath.Join(dir, name))
		onDisk += info.Size()
	}
	if r.RawBytes != onDisk {
		t.Errorf("%d bytes read, %d on disk", r.RawBytes, onDisk)
	}
	for _, c := range []struct {
		files []string
		want  int // documents
		err   string
	}{
		{files: []string{"*.MD.gz", "*.png"}, err: "image.png: not UTF-8: byte 0x89 at offset 0"},
		{files: []string{"lines.*", "*.jsonl"}, want: 9},
		{files: []string{"b/*.jsonl"}, want: 3},
		{files: []string{"*.jsonl", "*.md"}, err: "no files to read: nothing matches files: *.md"},
	} {
		spec.Files = c.files
		if docs, _, err := readAll(t, spec); len(docs) != c.want && c.err == "" || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %d documents, %v", c.files, len(docs), err)
		}
	}
}

// Parquet against the rows that went in, over many pages and row groups, nulls and lists of any length.
func TestParquet(t *testing.T) {
	var rows []parquetRow
	var want []data.Document
	for i := range 333 {
		row := parquetRow{ID: int64(i), Lang: "en"}
		d := data.Document{ID: fmt.Sprint(i), Source: "p.parquet", Path: "p.parquet", Line: int64(i + 1), Attributes: data.Attributes{Language: "en"}}
		if i%3 != 1 {
			text := strings.Repeat(fmt.Sprint("text ", i, " "), i%9+1)
			row.Text, d.Text = &text, text
		}
		for j := range i % 4 {
			turn := parquetTurn{"user", fmt.Sprintf("turn %d of %d", j, i)}
			row.Messages = append(row.Messages, turn)
			d.Messages = append(d.Messages, data.Message(turn))
		}
		rows = append(rows, row)
		if d.Text != "" || d.Messages != nil {
			want = append(want, d)
		}
	}
	path := put(t, t.TempDir()+"/p.parquet", parquetFileOf(t, rows))
	got, r, err := readAll(t, Default(path))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r.Dropped[data.Empty] != int64(333-len(want)) {
		t.Errorf("%+v", r.Dropped)
	}
}

func TestFieldNames(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a.jsonl", []byte(`{"content":"A","doc_id":"d1"}`))
	put(t, dir+"/b.parquet", parquetFileOf(t, []struct {
		Content string `parquet:"content"`
		DocID   string `parquet:"doc_id"`
	}{{"B", "d2"}}))
	spec := Default(dir)
	spec.TextField, spec.IDField = "content", "doc_id"
	got, _, err := readAll(t, spec)
	if err != nil || len(got) != 2 || got[0].Text+got[0].ID+got[1].Text+got[1].ID != "Ad1Bd2" {
		t.Errorf("%+v %v", got, err)
	}
}
