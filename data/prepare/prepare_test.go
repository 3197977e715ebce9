package prepare

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/data/pack"
	"pretrain/data/read"
	"pretrain/data/shard"
	"pretrain/internal/vfs"
)

// byteTokenizer's tokens are bytes, and 256 ends a document. Its tokenizer.json depends on what it was trained on.
type byteTokenizer struct {
	key     string
	onBuild func()
}

func (t byteTokenizer) Key() string { return t.key }

func (t byteTokenizer) Build(_ context.Context, docs iter.Seq[string], progress func(int64)) ([]byte, error) {
	if t.onBuild != nil {
		t.onBuild()
	}
	h, n := sha256.New(), int64(0)
	for d := range docs {
		n += int64(len(d))
		h.Write([]byte(d))
		progress(n)
	}
	return fmt.Appendf(nil, "%d bytes %x", n, h.Sum(nil)), nil
}

func (t byteTokenizer) Open([]byte) (Encoder, error) { return t, nil }

func (byteTokenizer) EncodeBatch(ctx context.Context, texts []string) ([][]uint32, error) {
	out := make([][]uint32, len(texts))
	var all []uint32 // one backing array, as real encoders have it
	for i, s := range texts {
		from := len(all)
		for j := range len(s) {
			all = append(all, uint32(s[j]))
		}
		out[i] = all[from:]
	}
	return out, ctx.Err()
}
func (byteTokenizer) VocabSize() int { return 258 }
func (byteTokenizer) EOS() uint32    { return 256 }

// Special knows one marker, "<AI>", as token 257.
func (byteTokenizer) Special(name string) (uint32, bool) { return 257, name == "<AI>" }

// corpus makes a folder of n text files and a JSONL file of n records.
func corpus(t testing.TB, n int) string {
	t.Helper()
	dir := t.TempDir()
	var lines strings.Builder
	for i := range n {
		put(t, filepath.Join(dir, fmt.Sprintf("d%d/f%03d.txt", i%3, i)), strings.Repeat(fmt.Sprintf("file %d\n", i), i%7+1))
		fmt.Fprintf(&lines, "{\"id\":\"r%d\",\"text\":%q}\n", i, strings.Repeat(fmt.Sprintf("记录 %d ", i), i%11+1))
	}
	put(t, filepath.Join(dir, "records.jsonl"), lines.String())
	return dir
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func options(source, cache string) Options {
	c := Config{ValidationFraction: 0.1, ValidationMax: 4 << 20, TokenizerSample: 256 << 20}
	return Options{Source: read.Default(source), Config: c, CacheDir: cache, Tokenizer: byteTokenizer{key: "bytes"}}
}

func mustRun(t testing.TB, o Options) *Prepared {
	t.Helper()
	p, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tree is the content of every file below dir.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// texts reads a shard's documents back by id, checking that each ends with the end-of-sequence token.
func texts(t testing.TB, prefix string) (map[string]string, string) {
	t.Helper()
	r, err := shard.Open(vfs.OS, prefix)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	byID, all := map[string]string{}, ""
	for i := range r.Documents() {
		doc, err := r.Doc(i)
		if err != nil {
			t.Fatal(err)
		}
		start, n, _ := r.Span(i)
		tokens := make([]uint32, n)
		if err := r.Read(tokens, start); err != nil || tokens[n-1] != 256 || doc.Bytes != n-1 {
			t.Fatalf("document %s: %v: %v", doc.ID, tokens, err)
		}
		b := make([]byte, n-1)
		for j := range b {
			b[j] = byte(tokens[j])
		}
		byID[doc.ID] = string(b)
		all += string(b)
	}
	return byID, all
}

// Conversations are rendered, encoded run by run, and the assistant's tokens marked; the split goes by what is said.
func TestChat(t *testing.T) {
	dir := t.TempDir()
	var lines strings.Builder
	want := map[string]string{}
	for i := range 40 {
		q, a := fmt.Sprintf("question %d, even <AI>", i), strings.Repeat(fmt.Sprintf("答 %d ", i), i%5+1)+"."
		fmt.Fprintf(&lines, "{\"id\":\"c%d\",\"lang\":\"zh\",\"talk\":[{\"role\":\"user\",\"content\":%q},{\"role\":\"assistant\",\"content\":%q}]}\n", i, q, a)
		want[fmt.Sprintf("c%d", i)] = "<用户>" + q + "|[" + a + "$]" // | is token 257, $ 256
	}
	put(t, filepath.Join(dir, "a.jsonl"), lines.String())
	o := options(dir, t.TempDir())
	o.Source.Chat, o.Source.MessagesField, o.Template = true, "talk", pack.MiniCPM
	p := mustRun(t, o)
	got := map[string]string{}
	for _, prefix := range []string{filepath.Join(p.Dir, TrainName), filepath.Join(p.Dir, ValidationName)} {
		r, err := shard.Open(vfs.OS, prefix)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Verify(t.Context()); err != nil || !r.HasMask() {
			t.Fatalf("%s: mask %v: %v", prefix, r.HasMask(), err)
		}
		for i := range r.Documents() {
			doc, err := r.Doc(i)
			if err != nil || doc.Attributes.Language != "zh" {
				t.Fatalf("%+v, %v", doc, err)
			}
			start, n, _ := r.Span(i)
			tokens, mask := make([]uint32, n), make([]bool, n)
			if err := errors.Join(r.Read(tokens, start), r.ReadMask(mask, start)); err != nil {
				t.Fatal(err)
			}
			var b []byte
			for j, token := range tokens {
				if mask[j] && !mask[max(0, j-1)] {
					b = append(b, '[')
				}
				switch token {
				case 256:
					b = append(b, '$')
				case 257:
					b = append(b, '|')
				default:
					b = append(b, byte(token))
				}
			}
			got[doc.ID] = string(b) + "]"
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if p.Validation.Documents < 1 || p.Validation.Documents > 12 || p.Train.Template != "minicpm" {
		t.Errorf("%d of 40 conversations held out, template %q", p.Validation.Documents, p.Train.Template)
	}

	// Another template is other data; the split is the same.
	o.Template = pack.ChatML
	if q := mustRun(t, o); q.Key == p.Key || q.Cached || q.Validation.Documents != p.Validation.Documents {
		t.Errorf("under another template: %+v", q.Manifest)
	}
	o.Source.Chat = false
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "give the source format: chat") {
		t.Errorf("as text: %v", err)
	}
	o.Source.Chat = true
	put(t, filepath.Join(dir, "a.jsonl"), strings.Repeat(`{"talk":[{"role":"user","content":"q"}]}`+"\n", 5))
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "all conversations are the same") {
		t.Errorf("one conversation five times: %v", err)
	}
}

func TestRun(t *testing.T) {
	source, cache := corpus(t, 100), t.TempDir()
	o := options(source, cache)
	var stages []Stage
	o.Progress = func(p Progress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
		if p.Done > p.Total {
			t.Errorf("%+v", p)
		}
	}
	p := mustRun(t, o)
	if want := []Stage{Fingerprint, Scan, TrainTokenizer, Tokenise}; !slices.Equal(stages, want) {
		t.Errorf("stages %v, want %v", stages, want)
	}
	train, _ := texts(t, filepath.Join(p.Dir, TrainName))
	held, heldText := texts(t, filepath.Join(p.Dir, ValidationName))
	both := maps.Clone(train)
	maps.Copy(both, held)
	want := map[string]string{}
	src, _ := read.Open(t.Context(), o.Source)
	for d, err := range src.Documents(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		want[d.ID] = d.Text
	}
	if !maps.Equal(both, want) || len(train)+len(held) != 200 {
		t.Errorf("%d training and %d validation documents do not make up the source's %d", len(train), len(held), len(want))
	}
	if len(held) < 8 || len(held) > 40 {
		t.Errorf("%d of 200 documents held out: want about 20", len(held))
	}
	if b, err := os.ReadFile(filepath.Join(p.Dir, HeldOutName)); err != nil || string(b) != heldText {
		t.Errorf("validation.txt is not the validation documents: %v", err)
	}
	tokenizerJSON, err := os.ReadFile(filepath.Join(p.Dir, TokenizerName))
	if err != nil || p.Tokenizer != shard.HashTokenizer(tokenizerJSON) || p.Train.Tokenizer != p.Tokenizer {
		t.Errorf("tokenizer hash %s: %v", p.Tokenizer, err)
	}
	if got := p.Train.Bytes + p.Validation.Bytes; got != p.Report.Bytes || p.Report.Documents != 200 || p.Cached {
		t.Errorf("%d bytes in shards; report %s", got, p.Report.String())
	}
	if want := fmt.Sprintf("%d bytes", p.Train.Bytes); !strings.HasPrefix(string(tokenizerJSON), want) {
		t.Errorf("tokenizer trained on %.20s: want all training text and nothing held out, %s", tokenizerJSON, want)
	}

	o.Progress = nil
	again := mustRun(t, o)
	if !again.Cached || again.Key != p.Key || again.Train.Tokens != p.Train.Tokens {
		t.Errorf("second run: %+v", again)
	}
	for name, change := range map[string]func(*Options){
		"config":    func(o *Options) { o.Config.ValidationFraction = 0.2 },
		"tokenizer": func(o *Options) { o.Tokenizer = byteTokenizer{key: "other"} },
		"policy":    func(o *Options) { o.Source.OnBad = read.Skip },
		"content":   func(o *Options) { put(t, filepath.Join(source, "more.txt"), "more") },
	} {
		changed := o
		change(&changed)
		if q := mustRun(t, changed); q.Cached || q.Key == p.Key {
			t.Errorf("a changed %s is served from the cache", name)
		}
	}
}

func TestSameBytesWithAnyWorkers(t *testing.T) {
	dir := t.TempDir()
	for i := range 40 { // some 10 batches
		put(t, filepath.Join(dir, fmt.Sprintf("%d.txt", i)), strings.Repeat(fmt.Sprint(i, "-"), 40_000))
	}
	var first map[string]string
	for _, workers := range []int{1, 2, 8} {
		o := options(dir, t.TempDir())
		o.Workers = workers
		got := tree(t, mustRun(t, o).Dir)
		if first == nil {
			first = got
		} else if !maps.Equal(got, first) {
			t.Errorf("%d workers give other bytes than 1", workers)
		}
	}
	if len(first) != 13 {
		t.Errorf("%d files: %v", len(first), slices.Sorted(maps.Keys(first)))
	}
}

func TestTokenizerSample(t *testing.T) {
	o := options(corpus(t, 300), t.TempDir())
	o.Config.TokenizerSample = 4000
	p := mustRun(t, o)
	b, _ := os.ReadFile(filepath.Join(p.Dir, TokenizerName))
	var n int64
	if fmt.Sscanf(string(b), "%d bytes", &n); n < 2000 || n > 6000 {
		t.Errorf("trained on %d of %d bytes: want about 4000", n, p.Train.Bytes)
	}
}

func TestBadInput(t *testing.T) {
	for _, c := range []struct {
		name    string
		files   map[string]string
		prepare func(*Options)
		want    string
	}{
		{"corrupt line", map[string]string{"a.jsonl": "{\"text\":\"x\"}\n{\"text\":"}, nil, "a.jsonl:2: not valid JSON"},
		{"empty corpus", map[string]string{"a.txt": " \n"}, nil, "the corpus is empty: 0 documents, 0.0 MB from 1 files; left out: 1 empty"},
		{"conversation", map[string]string{"a.jsonl": `{"messages":[{"role":"user","content":"hi"}]}`}, nil, "document a.jsonl:1 is a conversation"},
		{"config", map[string]string{"a.txt": "x"}, func(o *Options) { o.Config = Config{} }, "validation.fraction: 0%: want more than 0%"},
		{"all held out", map[string]string{"a.txt": "x", "b.txt": "y"}, func(o *Options) { o.Config.ValidationFraction = 0.9999999 }, "too little text to hold a part out: 2 documents with 2 bytes (validation.fraction 99.99999%"},
		{"one byte", map[string]string{"a.txt": "x"}, nil, "too little text to hold a part out: 1 documents with 1 bytes"},
		{"encoder", map[string]string{"a.txt": "x", "b.txt": "y"}, func(o *Options) { o.Tokenizer = failing{} }, "tokenise a.txt and the documents after it: no such merge"},
		{"count", map[string]string{"a.txt": "x", "b.txt": "y"}, func(o *Options) { o.Tokenizer = failing{short: true} }, "gave 1 results for 2 texts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range c.files {
				put(t, filepath.Join(dir, name), content)
			}
			o := options(dir, t.TempDir())
			if c.prepare != nil {
				c.prepare(&o)
			}
			_, err := Run(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "prepare "+dir) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
			for name := range tree(t, o.CacheDir) {
				if !strings.HasSuffix(name, lockSuffix) {
					t.Errorf("left %s", name)
				}
			}
		})
	}
}

// failing is an encoder that does not work.
type failing struct {
	byteTokenizer
	short bool
}

func (f failing) Open([]byte) (Encoder, error) { return f, nil }
func (f failing) EncodeBatch(context.Context, []string) ([][]uint32, error) {
	if f.short {
		return make([][]uint32, 1), nil
	}
	return nil, errors.New("no such merge")
}

func TestSourceChangesMeanwhile(t *testing.T) {
	dir := corpus(t, 10)
	o := options(dir, t.TempDir())
	o.Tokenizer = byteTokenizer{onBuild: func() { put(t, filepath.Join(dir, "records.jsonl"), `{"text":"new"}`) }}
	if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the source changed while it was read: 20 documents") {
		t.Errorf("got %v", err)
	}
}

// One text is cut, at a line end, rather than refused.
func TestSingleDocument(t *testing.T) {
	dir := t.TempDir()
	text := strings.Repeat("一行\n", 1000)
	put(t, filepath.Join(dir, "input.txt"), text)
	p := mustRun(t, options(filepath.Join(dir, "input.txt"), t.TempDir()))
	train, head := texts(t, filepath.Join(p.Dir, TrainName))
	held, tail := texts(t, filepath.Join(p.Dir, ValidationName))
	if head+tail != text || !strings.HasSuffix(head, "\n") || len(tail) < 650 || len(tail) > 750 {
		t.Errorf("%d + %d bytes of %d", len(head), len(tail), len(text))
	}
	if train["input.txt#head"] == "" || held["input.txt#tail"] == "" {
		t.Errorf("ids %v %v", slices.Collect(maps.Keys(train)), slices.Collect(maps.Keys(held)))
	}
}
