package read

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/parquet-go/parquet-go"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"
)

// objects are what the buckets of the tests hold.
func objects(t *testing.T) map[string][]byte {
	t.Helper()
	type row struct {
		Text string `parquet:"text"`
	}
	var table, packed bytes.Buffer
	w := parquet.NewGenericWriter[row](&table)
	for i := range 500 {
		if _, err := w.Write([]row{{fmt.Sprintf("row %d %s", i, strings.Repeat("text ", 100))}}); err != nil {
			t.Fatal(err)
		}
	}
	z := gzip.NewWriter(&packed)
	_, err := z.Write([]byte(`{"text": "one"}` + "\n" + `{"text": "two"}` + "\n"))
	if err := errors.Join(err, z.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"raw/a/lines.jsonl.gz": packed.Bytes(), "raw/table.parquet": table.Bytes(), "raw/note.md": []byte("# A note"),
		"raw/picture.png": []byte("\x89PNG"), "raw/.hidden/x.md": []byte("hidden"), "elsewhere/y.md": []byte("not below the folder")}
}

// A bucket is read as a folder is, whatever the driver: the same documents, the same names, in the same order.
func TestBuckets(t *testing.T) {
	dir := t.TempDir()
	onDisk, err := fileblob.OpenBucket(dir, &fileblob.Options{Metadata: fileblob.MetadataDontWrite})
	if err != nil {
		t.Fatal(err)
	}
	inMemory := memblob.OpenBucket(nil)
	for _, b := range []*blob.Bucket{onDisk, inMemory} {
		t.Cleanup(func() { _ = b.Close() })
		for key, content := range objects(t) {
			if err := b.WriteAll(t.Context(), key, content, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	list := func(s *Source, err error) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for d, err := range s.Documents(t.Context(), nil) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, fmt.Sprintf("%s %d", d.ID, len(d.Text)))
		}
		return ids
	}
	folder := Default(filepath.Join(dir, "raw"))
	want := list(Open(t.Context(), folder))
	if len(want) != 503 {
		t.Fatalf("%d documents in the folder", len(want))
	}
	spec := Default("mem://bucket/raw")
	for _, b := range []*blob.Bucket{onDisk, inMemory} {
		if got := list(OpenBucket(t.Context(), spec, b, "raw")); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%d documents, want %d; the first %q, want %q", len(got), len(want), got[0], want[0])
		}
	}
	u := url.URL{Scheme: "file", Path: filepath.Join(dir, "raw"), RawQuery: "metadata=skip"}
	if got := list(Open(t.Context(), Default(u.String()))); len(got) != 503 {
		t.Errorf("%s: %d documents", u.String(), len(got))
	}
}

// The hash of an object changes with it; what does not exist, or cannot be opened, is said by name.
func TestBucketErrors(t *testing.T) {
	b := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = b.Close() })
	hash := func(text string) string {
		if err := b.WriteAll(t.Context(), "a.md", []byte(text), nil); err != nil {
			t.Fatal(err)
		}
		s, err := OpenBucket(t.Context(), Default("mem://b"), b, "")
		if err != nil {
			t.Fatal(err)
		}
		h, err := s.HashFile(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if one, two, again := hash("one"), hash("two"), hash("one"); one == two || one != again {
		t.Errorf("the hash does not follow the content: %s, %s, %s", one, two, again)
	}
	if _, err := OpenBucket(t.Context(), Default("mem://b"), b, "none"); !errors.Is(err, ErrNoFiles) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Open(t.Context(), Default("nosuch://b")); err == nil || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("an unknown scheme: %v", err)
	}
	if _, err := Open(t.Context(), Default("file://"+filepath.Join(t.TempDir(), "none"))); !errors.Is(err, os.ErrNotExist) && err == nil {
		t.Errorf("no such folder: %v", err)
	}
}
