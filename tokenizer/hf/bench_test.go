//go:build cgo && !nohf

package hf

import (
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pretrain/tokenizer"
)

// goSource is the Go standard library's source without tests, at most n bytes of it.
func goSource(b *testing.B, n int) []string {
	b.Helper()
	var docs []string
	root := filepath.Join(build.Default.GOROOT, "src")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || n <= 0 || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		docs, n = append(docs, string(data)), n-len(data)
		return err
	})
	if err != nil {
		b.Skip("no Go source to read: ", err)
	}
	return docs
}

func BenchmarkTrain(b *testing.B) {
	docs := goSource(b, 16<<20)
	b.SetBytes(int64(len(strings.Join(docs, ""))))
	for b.Loop() {
		if _, err := Train(b.Context(), tokenizer.Default(), slices.Values(docs), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeBatch(b *testing.B) {
	docs := goSource(b, 16<<20)
	b.SetBytes(int64(len(strings.Join(docs, ""))))
	tk := golden(b)
	for b.Loop() {
		if _, err := tk.EncodeBatch(b.Context(), docs); err != nil {
			b.Fatal(err)
		}
	}
}
