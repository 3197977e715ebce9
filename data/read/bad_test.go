package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/build"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/data"
)

// bad is every kind of bad input with the error it gives under on_bad: fail, and what is left of it under skip.
var bad = []struct {
	name    string
	file    string
	content func(t testing.TB) []byte
	want    string
	reason  data.Reason
	kept    int
}{
	{"corrupt line", "a.jsonl", raw("{\"text\":\"x\"}\n{\"text\":\"y\n{\"text\":\"z\"}\n"), "a.jsonl:2: not valid JSON at byte 10 of the line: unexpected end of JSON input (offset 13)", data.BadRecord, 2},
	{"array", "a.json", raw(`[{"text":"x"}]`), "a.json:1: a JSON array, not one JSON object a line; convert it with: jq -c '.[]'", data.BadRecord, 0},
	{"number", "a.jsonl", raw("3"), "a.jsonl:1: not a JSON object", data.BadRecord, 0},
	{"deep JSON", "a.jsonl", raw(`{"text":"x","a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}\n{\"text\":\"y\"}"), "a.jsonl:1: not valid JSON at byte 10016 of the line: invalid character '[' exceeded max depth", data.BadRecord, 1},
	{"no text", "a.jsonl", raw(`{"body":"x","id":1}`), `a.jsonl:1: no field "text"; the record has body, id; name it by fields: {text: …} (offset 0)`, data.NoText, 0},
	{"text is a number", "a.jsonl", raw(`{"text":5}`), `a.jsonl:1: "text" holds a JSON number, not text`, data.NoText, 0},
	{"null", "a.jsonl", raw("null"), `a.jsonl:1: no field "text"; the record has no fields`, data.NoText, 0},
	{"line not UTF-8", "a.jsonl", raw("{\"text\":\"x\"}\n{\"text\":\"\xff\"}\n"), "a.jsonl:2: not UTF-8: byte 0xff at byte 9 of the line (offset 22)", data.NotUTF8, 1},
	{"line too long", "a.jsonl", raw("{\"text\":\"x\"}\n{\"text\":\"" + strings.Repeat("long", 1<<18) + "\"}\n{\"text\":\"z\"}"), "a.jsonl:2: the line at offset 13 holds more than max_document (1MiB)", data.TooLong, 2},
	{"file too long", "a.txt", raw(strings.Repeat("x", 1<<20+1)), "a.txt: the file holds more than max_document (1MiB)", data.TooLong, 0},
	{"NUL escaped", "a.jsonl", raw(`{"text":"a\u0000"}`), "a.jsonl:1: a NUL byte at offset 1 of the text", data.NULByte, 0},
	{"NUL in a file", "a.txt", raw("ab\x00"), "a.txt: a NUL byte at offset 2 of the text: binary data?", data.NULByte, 0},
	{"file not UTF-8", "a.go", raw("package a // caf\xe9\n"), "a.go: not UTF-8: byte 0xe9 at offset 16", data.NotUTF8, 0},
	{"truncated zst", "a.jsonl.zst", func(t testing.TB) []byte { b := zst(t, lines(50_000)); return b[:len(b)/2] }, "the compressed data is truncated or damaged: unexpected EOF, after", data.Truncated, -1},
	{"truncated gz", "a.jsonl.gz", func(t testing.TB) []byte { b := gz(t, lines(5000)); return b[:len(b)-9] }, "the compressed data is truncated or damaged: unexpected EOF, after", data.Truncated, -1},
	{"damaged gz", "a.jsonl.gz", func(t testing.TB) []byte { b := gz(t, lines(5000)); b[len(b)-8] ^= 1; return b }, "a.jsonl.gz:5001: the compressed data is truncated or damaged: gzip: invalid checksum, after 99661 bytes", data.Truncated, 5000},
	{"empty gz", "a.jsonl.gz", raw(""), "a.jsonl.gz: the compressed data is truncated or damaged: unexpected EOF", data.Truncated, 0},
	{"empty zst", "a.txt.zst", raw(""), "a.txt.zst: the compressed data is truncated or damaged: unexpected EOF", data.Truncated, 0},
	{"not gz", "a.txt.gz", raw("plain text"), "a.txt.gz: the compressed data is truncated or damaged", data.Truncated, 0},
	{"zst bomb", "a.jsonl.zst", func(t testing.TB) []byte { return zst(t, make([]byte, 64<<20)) }, "a.jsonl.zst:1: expands more than 500 times", data.Expansion, 0},
	{"gz bomb", "a.jsonl.gz", func(t testing.TB) []byte { return gz(t, bytes.Repeat([]byte("\n"), 64<<20)) }, "expands more than 500 times", data.Expansion, 0},
	{"no Parquet", "a.parquet", raw("PAR1 nothing of the kind PAR1"), "a.parquet: broken or truncated Parquet file: ", data.BadRecord, 0},
	{"truncated Parquet", "a.parquet", func(t testing.TB) []byte {
		s := "x"
		b := parquetFileOf(t, []parquetRow{{Text: &s}})
		return b[:len(b)-20]
	}, "a.parquet: broken or truncated Parquet file: ", data.BadRecord, 0},
	{"Parquet without text", "a.parquet", func(t testing.TB) []byte {
		return parquetFileOf(t, []struct {
			Body string `parquet:"body"`
		}{{"x"}})
	}, `a.parquet: no text column "text"; the file has body; name it by fields: {text: …}`, data.NoText, 0},
	{"chat without messages", "a.jsonl", raw(`{"conversation":[],"text":"x"}`), `a.jsonl:1: no field "messages"; the record has conversation, text; name it by fields: {messages: …}`, data.NoTalk, 0},
	{"chat with a string", "a.jsonl", raw(`{"messages":"hello"}`), `a.jsonl:1: "messages" holds a JSON string; want a list of {role, content}`, data.NoTalk, 0},
	{"chat of nobody", "a.jsonl", raw(`{"messages":[{"role":"user","content":"q"},{"role":"gpt","content":"a"}]}` + "\n" + `{"messages":[{"role":"user","content":"q"}]}`),
		`a.jsonl:1: message 2: role "gpt"; want system, user, assistant, tool_call or tool`, data.NoTalk, 1},
	{"chat with no message", "a.jsonl", raw(`{"messages":[]}`), "a.jsonl:1: no messages", data.NoTalk, 0},
	{"chat as text", "a.txt", raw("hello"), "a.txt: no messages: a conversation wants at least one {role, content}", data.NoTalk, 0},
	{"chat in Parquet", "a.parquet", func(t testing.TB) []byte {
		return parquetFileOf(t, []struct {
			Text string `parquet:"text"`
		}{{"x"}})
	}, `a.parquet: no column "messages" of {role, content}; the file has text; name it by fields: {messages: …}`, data.NoTalk, 0},
}

func raw(s string) func(testing.TB) []byte { return func(testing.TB) []byte { return []byte(s) } }

// lines is n JSONL records that hardly compress.
func lines(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "{\"text\":\"%x\"}\n", uint32(i)*2654435761)
	}
	return b.Bytes()
}

func TestBadInput(t *testing.T) {
	for _, c := range bad {
		t.Run(c.name, func(t *testing.T) {
			path := put(t, filepath.Join(t.TempDir(), c.file), c.content(t))
			spec := Default(path)
			spec.MaxDocument = 1 << 20
			spec.Chat = strings.HasPrefix(c.name, "chat")
			if strings.Contains(c.name, "bomb") {
				spec.MaxDocument = 100 << 20
			}
			_, _, err := readAll(t, spec)
			var drop *data.Drop
			if !errors.As(err, &drop) || drop.Reason != c.reason || !strings.Contains(err.Error(), c.want) ||
				!strings.HasPrefix(err.Error(), path) || !strings.HasSuffix(err.Error(), "; mend it, or set on_bad: skip") {
				t.Errorf("got %v\nwant %s (%s)", err, c.want, c.reason)
			}
			spec.OnBad = Skip
			docs, r, err := readAll(t, spec)
			if err != nil || r.Dropped[c.reason] == 0 || r.Samples[0].Path != path || len(r.Samples) > 2*MaxSamples {
				t.Errorf("skip: %v, report %+v", err, r)
			}
			if len(docs) != c.kept && c.kept >= 0 || c.kept < 0 && len(docs) == 0 {
				t.Errorf("skip: %d documents, want %d", len(docs), c.kept)
			}
		})
	}
}

// What was good before a truncated part is the beginning of what was written.
func TestTruncatedKeepsTheBeginning(t *testing.T) {
	whole := lines(50_000)
	for ext, packed := range map[string][]byte{".gz": gz(t, whole), ".zst": zst(t, whole)} {
		want, _, err := readAll(t, Default(put(t, t.TempDir()+"/a.jsonl"+ext, packed)))
		if err != nil || len(want) != 50_000 {
			t.Fatal(err)
		}
		got, _, err := readAll(t, Default(put(t, t.TempDir()+"/a.jsonl"+ext, packed[:len(packed)*3/4])))
		if err == nil || len(got) < 1000 || len(got) >= 50_000 || !cmp.Equal(got, want[:len(got)]) {
			t.Errorf("%s: %d documents, %v", ext, len(got), err)
		}
		if want := fmt.Sprintf("a.jsonl%s:%d: ", ext, len(got)+1); err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want line %s", err, want)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	links, nothing, within := t.TempDir(), t.TempDir(), t.TempDir()
	put(t, within+"/a/a.txt", []byte("x"))
	for link, target := range map[string]string{
		links + "/books": dir, nothing + "/a.txt": dir + "/none", within + "/loop": ".", within + "/b": "a", within + "/c": within + "/a",
	} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := Open(t.Context(), Default(within)); err != nil || s.Files() != 1 { // what they lead to is read anyway
		t.Errorf("links within the folder: %v, %v", s, err)
	}
	t.Run("of a folder named from here", func(t *testing.T) {
		t.Chdir(within)
		if s, err := Open(t.Context(), Default(".")); err != nil || s.Files() != 1 {
			t.Errorf("links within the folder: %v, %v", s, err)
		}
	})
	put(t, dir+"/other/a.csv", nil)
	put(t, dir+"/other/b.csv", nil)
	put(t, dir+"/other/c.pdf", nil)
	put(t, dir+"/other/README", nil)
	for _, c := range []struct {
		path string
		edit func(*Spec)
		is   error
		want string
	}{
		{"", nil, nil, `path: "": want a file, a folder or go:std`},
		{"go:rust", nil, nil, "path: go:rust: want go:std"},
		{dir + "/none", nil, os.ErrNotExist, dir + "/none"},
		{dir + "/other", nil, ErrNoFiles, "only 2 .csv, 1 without extension, 1 .pdf; name others with files: [\"*.ext\"]"},
		{t.TempDir(), nil, ErrNoFiles, "no files at all"},
		{links, nil, nil, "/books is a link to the folder " + dir + ", which is not followed: name that as a source of its own, or remove the link"},
		{nothing, nil, nil, "/a.txt is a link to nothing: mend it, or remove it"},
		{dir, func(s *Spec) { s.OnBad = "ignore"; s.MaxDocument = 0; s.TextField = "lang" }, nil,
			"text_field: lang: want a name without quotes, commas or backslashes, and none of [lang language license]\non_bad: ignore: want fail or skip\nmax_document: 0B: want more than 0"},
		{dir, func(s *Spec) { s.IDField = "text"; s.Files = []string{"[a"} }, nil, "id_field: text: want as text_field, and another name than it\nfiles: [a: want patterns"},
		{GoStd, func(s *Spec) { s.GoRoot = dir }, os.ErrNotExist, "is " + dir + " a Go installation? Set GOROOT in the environment to one"},
	} {
		spec := Default(c.path)
		if c.edit != nil {
			c.edit(&spec)
		}
		_, err := Open(t.Context(), spec)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: got %v\nwant %s", c.path, err, c.want)
		}
	}
}

func TestGoStd(t *testing.T) {
	root := t.TempDir()
	for path, content := range map[string]string{
		"fmt/print.go": "package fmt\n", "fmt/print_test.go": "package fmt\n", "fmt/testdata/x.go": "package x\n",
		"cmd/go/main.go": "package main\n", "vendor/x/x.go": "package x\n", "fmt/asm.s": "TEXT\n",
		"a/z.go":     "// Code generated by stringer; DO NOT EDIT.\n\npackage a\n",
		"a/y.go":     "// Copyright\n\n//go:build x\n\n// Code generated by hand. DO NOT EDIT.\r\npackage a\n",
		"a/not.go":   "package a\n\n// Code generated by x DO NOT EDIT.\n",
		"a/talks.go": "// This file makes code. Code generated by it says DO NOT EDIT.\npackage a\n",
	} {
		put(t, filepath.Join(root, "src", path), []byte(content))
	}
	spec := Default(GoStd)
	spec.GoRoot = root
	got, r, err := readAll(t, spec)
	var ids []string
	for _, d := range got {
		ids = append(ids, d.ID)
	}
	if want := []string{"a/not.go", "a/talks.go", "fmt/print.go"}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("%v %v: want %v", ids, err, want)
	}
	if r.Dropped[data.Generated] != 2 {
		t.Errorf("%+v", r.Dropped)
	}
	t.Setenv("GOROOT", build.Default.GOROOT) // the installation that runs this test
	s, err := Open(t.Context(), Default(GoStd))
	if err != nil || s.Files() < 1000 || s.Bytes() < 10<<20 {
		t.Errorf("the real one: %+v %v", s, err)
	}
}

func TestFingerprint(t *testing.T) {
	dir := t.TempDir()
	put(t, dir+"/a.txt", []byte("one"))
	put(t, dir+"/b/c.txt", []byte("two"))
	fingerprint := func(path string) string {
		s, err := Open(t.Context(), Default(path))
		if err != nil {
			t.Fatal(err)
		}
		f, err := s.Fingerprint(t.Context(), nil)
		if err != nil || len(f) != 32 {
			t.Fatal(f, err)
		}
		return f
	}
	first := fingerprint(dir)
	moved := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.CopyFS(moved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if fingerprint(moved) != first {
		t.Error("it depends on where the folder is")
	}
	put(t, dir+"/.hidden", []byte("x"))
	put(t, dir+"/d.png", []byte("x"))
	if fingerprint(dir) != first {
		t.Error("it depends on files that are not read")
	}
	seen := map[string]string{first: "the first"}
	for _, change := range []struct {
		name string
		do   func()
	}{
		{"content", func() { put(t, dir+"/a.txt", []byte("One")) }},
		{"name", func() { os.Rename(dir+"/a.txt", dir+"/a2.txt") }},
		{"new empty file", func() { put(t, dir+"/z.txt", nil) }},
		{"content moved to the next file", func() { put(t, dir+"/a2.txt", nil); put(t, dir+"/b/c.txt", []byte("Onetwo")) }},
	} {
		change.do()
		f := fingerprint(dir)
		if other, ok := seen[f]; ok {
			t.Errorf("%s: as %s", change.name, other)
		}
		seen[f] = change.name
	}
}

func TestStopAndCancel(t *testing.T) {
	path := put(t, t.TempDir()+"/a.jsonl", lines(100))
	s, err := Open(t.Context(), Default(path))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range s.Documents(t.Context(), nil) {
		if n++; n == 3 {
			break
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err = range s.Documents(ctx, nil) {
		cancel()
	}
	if n != 3 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v", n, err)
	}
}

func FuzzJSONL(f *testing.F) {
	for _, c := range bad {
		if b := c.content(f); strings.HasPrefix(c.file, "a.json") && len(b) < 1<<12 {
			f.Add(b)
		}
	}
	f.Add([]byte("{\"text\":\"x\"}\r\n\n{\"id\":3,\"text\":\"\\ud800\",\"messages\":null}"))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzOne(t, "a.jsonl", b) })
}

func FuzzCompressed(f *testing.F) {
	f.Add(gz(f, lines(3)), true)
	f.Add(zst(f, lines(3)), false)
	f.Fuzz(func(t *testing.T, b []byte, gzip bool) {
		fuzzOne(t, map[bool]string{true: "a.jsonl.gz", false: "a.jsonl.zst"}[gzip], b)
	})
}

func FuzzText(f *testing.F) {
	f.Add([]byte("package a\n"))
	f.Add([]byte("\xef\xbb\xbf\xff\x00"))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzOne(t, "a.go", b) })
}

func FuzzParquet(f *testing.F) {
	s := "x"
	f.Add(parquetFileOf(f, []parquetRow{{Text: &s, Messages: []parquetTurn{{"a", "b"}}}}))
	f.Fuzz(func(t *testing.T, b []byte) { fuzzOne(t, "a.parquet", b) })
}

// fuzzOne reads any bytes as a file: never a panic, every document valid, every failure named.
func fuzzOne(t *testing.T, name string, b []byte) {
	spec := Default(put(t, filepath.Join(t.TempDir(), name), b))
	spec.MaxDocument = 1 << 10
	_, _, failure := readAll(t, spec)
	if failure != nil && !strings.Contains(failure.Error(), name) {
		t.Errorf("an error without its file: %v", failure)
	}
	spec.OnBad = Skip
	docs, r, err := readAll(t, spec)
	if err != nil || failure != nil && len(r.Dropped) == 0 {
		t.Errorf("skip: %v; fail: %v; %+v", err, failure, r)
	}
	for _, d := range docs {
		if drop, bad := check(&d, spec.MaxDocument); bad || d.ID == "" {
			t.Errorf("%+v: %v", d, &drop)
		}
	}
}
