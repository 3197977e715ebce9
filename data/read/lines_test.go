package read

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/data"
)

func linesOf(t *testing.T, path string) (got []string, err error) {
	t.Helper()
	for r, err := range Lines(t.Context(), path, 100) {
		if err != nil {
			return got, err
		}
		got = append(got, string(r.JSON))
	}
	return got, nil
}

// Lines come without their ends, blank ones left out, from plain and compressed files.
func TestLines(t *testing.T) {
	const content = "\ufeff{\"a\":1}\r\n\n  \n{\"b\":2}"
	dir := t.TempDir()
	plain, packed := filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "b.jsonl.gz")
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte(content))
	w.Close()
	write := func(path string, b []byte) {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(plain, []byte(content))
	write(packed, z.Bytes())
	for _, path := range []string{plain, packed} {
		got, err := linesOf(t, path)
		if diff := cmp.Diff([]string{`{"a":1}`, `{"b":2}`}, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", path, err, diff)
		}
	}
	files, err := ListFiles(t.Context(), dir, "*.jsonl*")
	if diff := cmp.Diff([]string{plain, packed}, files); diff != "" || err != nil {
		t.Errorf("files: %v %s", err, diff)
	}

	for name, bad := range map[string]struct {
		content []byte
		reason  data.Reason
		line    int64
	}{
		"long.jsonl":   {[]byte("{}\n" + strings.Repeat("x", 102)), data.TooLong, 2},
		"bytes.jsonl":  {[]byte("{}\n{\"\xff\":1}\n"), data.NotUTF8, 2},
		"cut.jsonl.gz": {z.Bytes()[:z.Len()-6], data.Truncated, 4},
	} {
		path := filepath.Join(dir, name)
		write(path, bad.content)
		_, err := linesOf(t, path)
		var drop *data.Drop
		if !errors.As(err, &drop) || drop.Reason != bad.reason || drop.Line != bad.line || drop.Path != path {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := linesOf(t, filepath.Join(dir, "none.jsonl")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
