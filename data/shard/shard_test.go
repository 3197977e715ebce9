package shard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pretrain/data"
	"pretrain/internal/vfs"
)

// record is one document of a test shard.
type record struct {
	doc    Doc
	tokens []uint32
	mask   []bool
}

var golden = []record{
	{Doc{ID: "a", Path: "x.jsonl", Line: 1, Bytes: 9}, []uint32{1, 2, 3, 0}, nil},
	{Doc{ID: "x.jsonl:2", Path: "x.jsonl", Line: 2, Bytes: 3}, []uint32{65535, 0}, nil},
	{Doc{ID: "b.txt", Path: "b.txt", Bytes: 2}, []uint32{7, 0}, nil},
}

func write(t testing.TB, fsys vfs.FS, prefix string, vocab int, records []record) Manifest {
	t.Helper()
	m, err := tryWrite(fsys, prefix, vocab, records)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// templateOf is a chat template if the first record has a mask.
func templateOf(records []record) string {
	if len(records) > 0 && records[0].mask != nil {
		return "chatml"
	}
	return ""
}

func tryWrite(fsys vfs.FS, prefix string, vocab int, records []record) (Manifest, error) {
	w, err := Create(fsys, prefix, Options{VocabSize: vocab, Tokenizer: HashTokenizer([]byte("tok")), Source: "src", Template: templateOf(records)})
	if err != nil {
		return Manifest{}, err
	}
	defer w.Abort()
	for _, r := range records {
		if err := w.Add(r.doc, r.tokens, r.mask); err != nil {
			return Manifest{}, err
		}
	}
	return w.Commit()
}

func open(t testing.TB, fsys vfs.FS, prefix string) *Reader {
	t.Helper()
	r, err := Open(fsys, prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// readAll reads a shard back through Span, Read, Find and Doc.
func readAll(r *Reader) ([]record, error) {
	var out []record
	starts := make([]int64, r.Documents()+1)
	if err := r.Starts(starts, 0); err != nil {
		return nil, err
	}
	for i := range r.Documents() {
		start, n, err := r.Span(i)
		if err != nil {
			return nil, err
		}
		if start != starts[i] || start+n != starts[i+1] {
			return nil, fmt.Errorf("document %d: Span says %d+%d, Starts %d to %d", i, start, n, starts[i], starts[i+1])
		}
		rec := record{tokens: make([]uint32, n)}
		if err := r.Read(rec.tokens, start); err != nil {
			return nil, err
		}
		if r.HasMask() {
			rec.mask = make([]bool, n)
			if err := r.ReadMask(rec.mask, start); err != nil {
				return nil, err
			}
		}
		if r.docs != nil {
			if rec.doc, err = r.Doc(i); err != nil {
				return nil, err
			}
		}
		for _, token := range []int64{start, start + n - 1} {
			if n > 0 {
				if found, err := r.Find(token); err != nil || found != i {
					return nil, fmt.Errorf("Find(%d) = %d, %v: want document %d", token, found, err, i)
				}
			}
		}
		out = append(out, rec)
	}
	return out, nil
}

var compare = cmp.AllowUnexported(record{})

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		vocab := rapid.SampledFrom([]int{1, 300, 1 << 16, 1<<16 + 1, 150_000}).Draw(rt, "vocab")
		name := rapid.StringMatching(`[a-c/]{0,4}`)
		chat := rapid.Bool().Draw(rt, "chat")
		records := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) record {
			r := record{
				doc: Doc{ID: name.Draw(rt, "id"), Path: name.Draw(rt, "path"), Line: rapid.Int64Range(0, 9).Draw(rt, "line"),
					Bytes: rapid.Int64Range(0, 1<<40).Draw(rt, "bytes"), Attributes: data.Attributes{Language: name.Draw(rt, "language")}},
				tokens: rapid.SliceOfN(rapid.Uint32Range(0, uint32(vocab-1)), 0, 20).Draw(rt, "tokens"),
			}
			if chat {
				r.mask = rapid.SliceOfN(rapid.Bool(), len(r.tokens), len(r.tokens)).Draw(rt, "mask")
			}
			return r
		}), 0, 30).Draw(rt, "records")
		fsys := vfs.NewCrashableMem()
		m, err := tryWrite(fsys, "/s", vocab, records)
		if err != nil {
			rt.Fatal(err)
		}
		r, err := Open(fsys, "/s")
		if err != nil {
			rt.Fatal(err)
		}
		defer r.Close()
		got, err := readAll(r)
		if err != nil {
			rt.Fatal(err)
		}
		for i := range records {
			if records[i].tokens == nil {
				records[i].tokens = []uint32{}
			}
			if chat && records[i].mask == nil {
				records[i].mask = []bool{}
			}
		}
		if d := cmp.Diff(records, got, compare); d != "" && len(records) > 0 {
			rt.Fatal(d)
		}
		if kept, ok := r.Manifest(); !ok || !cmp.Equal(kept, m) || m.Documents != int64(len(records)) {
			rt.Fatalf("manifest %+v, committed %+v", kept, m)
		}
		if err := r.Verify(context.Background()); err != nil {
			rt.Fatal(err)
		}
	})
}

func TestCorpus(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	var records []record
	for i := range 1<<16 + 10 { // more than one batch of the index
		records = append(records, record{doc: Doc{ID: "d"}, tokens: []uint32{uint32(i), 1, 2}[:i%4%3+1]})
	}
	write(t, fsys, "/s", 1<<17, records)
	c, err := open(t, fsys, "/s").Corpus()
	if err != nil || c.Docs() != len(records) {
		t.Fatal(err, c.Docs())
	}
	at := int64(0)
	for i, rec := range records {
		got := make([]uint32, len(rec.tokens))
		if err := c.Read(got, i, 0); err != nil || !slices.Equal(got, rec.tokens) || c.Offset(i) != at {
			t.Fatalf("document %d at %d: %v, %v: want %v at %d", i, c.Offset(i), got, err, rec.tokens, at)
		}
		at += int64(len(got))
	}
	if c.Offset(c.Docs()) != c.Tokens() || c.Tokens() != at {
		t.Errorf("%d, %d, %d tokens", c.Offset(c.Docs()), c.Tokens(), at)
	}
	if err := c.Read(make([]uint32, 2), 0, 0); err == nil || !strings.Contains(err.Error(), "tokens 0 to 2 of document 0, which has 1") {
		t.Errorf("beyond the document: %v", err)
	}
}

// The goldens are written by testdata/check_megatron.py, an independent implementation in numpy.
func TestMegatronGolden(t *testing.T) {
	for _, c := range []struct {
		name      string
		vocab     int // 0: not what our writer makes, only read
		documents [][]uint32
	}{
		{"uint16", 1 << 16, [][]uint32{{1, 2, 3, 0}, {65535, 0}, {7, 0}}},
		{"int32", 122753, [][]uint32{{1, 2, 3, 0}, {122752, 0}, {7, 0}}},
		{"sentences", 0, [][]uint32{{1, 2, 3, 0}, {4, 0}, {5, 6, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			prefix := filepath.Join("testdata", c.name)
			r := open(t, vfs.OS, prefix)
			got, err := readAll(r)
			if err != nil {
				t.Fatal(err)
			}
			var documents [][]uint32
			var records []record
			for i := range got {
				documents = append(documents, got[i].tokens)
				records = append(records, record{doc: golden[i].doc, tokens: got[i].tokens})
			}
			if d := cmp.Diff(c.documents, documents); d != "" {
				t.Fatal(d)
			}
			if err := r.Verify(t.Context()); err != nil {
				t.Error(err)
			}
			if _, ok := r.Manifest(); ok {
				t.Error("a shard of another tool has a manifest")
			}
			if c.vocab == 0 {
				return
			}
			ours := filepath.Join(t.TempDir(), "ours")
			write(t, vfs.OS, ours, c.vocab, records)
			for _, ext := range []string{".bin", ".idx"} {
				want, _ := os.ReadFile(prefix + ext)
				if got, err := os.ReadFile(ours + ext); err != nil || !slices.Equal(got, want) {
					t.Errorf("%s differs from numpy's: %v\n got %x\nwant %x", ext, err, got, want)
				}
			}
		})
	}
}

// A crash at any file operation leaves a whole shard or none, and a second attempt succeeds.
func TestCrashAtEveryOperation(t *testing.T) {
	for _, outcome := range []string{"nothing unsynced survives", "all survives", "a mixture survives"} {
		for n := 0; ; n++ {
			fsys := vfs.NewCrashableMem()
			fsys.CrashAt(n)
			_, err := tryWrite(fsys, "/s", 1<<16, golden)
			if !fsys.Crashed() {
				if err != nil || n < 20 {
					t.Fatalf("after %d operations: %v", n, err)
				}
				break
			}
			if err == nil {
				t.Fatalf("operation %d crashed, and the shard was reported as committed", n)
			}
			pick := map[string]func(int) int{"all survives": func(k int) int { return k - 1 },
				"a mixture survives": func(k int) int { return (n*7 + k) % k }}[outcome]
			fsys.Crash(pick)
			r, err := Open(fsys, "/s")
			switch {
			case errors.Is(err, ErrNotCommitted):
				write(t, fsys, "/s", 1<<16, golden)
				r = open(t, fsys, "/s")
			case err != nil:
				t.Fatalf("%s, crash at operation %d: %v", outcome, n, err)
			}
			if err := r.Verify(t.Context()); err != nil {
				t.Fatalf("%s, crash at operation %d: %v", outcome, n, err)
			}
			if got, err := readAll(r); err != nil || !cmp.Equal(got, golden, compare) {
				t.Fatalf("%s, crash at operation %d: %v %v", outcome, n, got, err)
			}
		}
	}
}

func TestDiskFull(t *testing.T) {
	for fail := 0; ; fail++ {
		mem, seen, path := vfs.NewCrashableMem(), 0, ""
		write(t, mem, "/before", 1<<16, golden)
		full := vfs.WithErrors(mem, func(op vfs.Op) error {
			if op.Kind != vfs.OpCreate && op.Kind != vfs.OpWrite && op.Kind != vfs.OpSync {
				return nil
			}
			if seen++; seen-1 != fail {
				return nil
			}
			path = op.Path
			return syscall.ENOSPC
		})
		_, err := tryWrite(full, "/s", 1<<16, golden)
		if path == "" {
			if err != nil || fail < 10 {
				t.Fatalf("%d operations: %v", fail, err)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), path) {
			t.Errorf("operation %d: error %v: want no space left, naming %s", fail, err, path)
		}
		entries, _ := mem.ReadDir("/")
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "s.") {
				t.Errorf("operation %d left %s", fail, e.Name())
			}
		}
		if err := open(t, mem, "/before").Verify(t.Context()); err != nil {
			t.Errorf("the shard before: %v", err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	write(t, fsys, "/s", 10, nil)
	if _, err := Create(fsys, "/s", Options{VocabSize: 10}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a committed shard was opened for writing: %v", err)
	}
	_, err := tryWrite(fsys, "/t", 10, []record{{doc: Doc{ID: "d7"}, tokens: []uint32{3, 10}}})
	if want := "write shard /t: document d7: token 1 is 10: the vocabulary has 10"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := Create(fsys, "/u", Options{}); err == nil || !strings.Contains(err.Error(), "vocabulary of 0 tokens") {
		t.Errorf("no vocabulary: %v", err)
	}
}
