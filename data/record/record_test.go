package record_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"pgregory.net/rapid"

	"pretrain/data"
	"pretrain/data/read"
	"pretrain/data/record"
)

// What is written is what is read, by this package and as plain JSONL.
func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x"+record.Extension)
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.ToValidUTF8(rapid.String().Draw(t, "text"), "") + strings.Repeat("line\n\t\x01\"\\ 中", rapid.IntRange(0, 3).Draw(t, "n"))
	})
	rapid.Check(t, func(t *rapid.T) {
		docs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) data.Document {
			d := data.Document{ID: text.Draw(t, "id"), Text: text.Draw(t, "text"), Source: "s", Path: text.Draw(t, "path"), Line: rapid.Int64Range(0, 9).Draw(t, "line")}
			if rapid.Bool().Draw(t, "chat") {
				d.Text, d.Messages = "", []data.Message{{Role: "user", Content: text.Draw(t, "q")}, {Role: "assistant", Content: "a"}}
			}
			d.Language = "zh"
			d.SetNumber("a.b", 0.5)
			d.SetText("c", "ü")
			return d
		}), 0, 5).Draw(t, "docs")
		w, err := record.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range docs {
			if err := w.Write(&docs[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		var back []data.Document
		for d, err := range record.Read(path) {
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, d)
		}
		if len(docs) == 0 {
			docs = nil
		}
		if diff := cmp.Diff(docs, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

// A document longer than any buffer, and one that is not UTF-8, are read as any JSONL is.
func TestAsJSONL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x"+record.Extension)
	w, err := record.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("0123456789", 100_000)
	for _, text := range []string{long, "a\xffb"} {
		if err := w.Write(&data.Document{ID: "1", Text: text}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	source, err := read.Open(t.Context(), read.Default(path))
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for d, err := range source.Documents(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, d.Text)
	}
	n := 0
	for d, err := range record.Read(path) {
		if err != nil || d.Text != texts[n] || !utf8.ValidString(d.Text) {
			t.Errorf("document %d: %v, or not the text that JSONL has", n, err)
		}
		n++
	}
	if n != 2 || texts[0] != long || texts[1] != "a\ufffdb" {
		t.Errorf("%d documents; %.20q", n, texts[1])
	}
}

// A file that was cut, or is none, is an error and not the end.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x"+record.Extension)
	w, err := record.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := w.Write(&data.Document{ID: "1", Text: strings.Repeat("text ", 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	zip, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"cut": whole[:len(whole)-9], "none": []byte("no zstd"), "missing": nil,
		"within a line": zip.EncodeAll([]byte(`{"id":"1"`), nil),
	} {
		if name != "missing" {
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
		} else if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		var last error
		for _, err := range record.Read(path) {
			last = err
		}
		if last == nil || errors.Is(last, io.EOF) {
			t.Errorf("%s: %v", name, last)
		}
	}
}
