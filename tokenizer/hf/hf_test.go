//go:build cgo && !nohf

package hf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	daulet "github.com/daulet/tokenizers"
	"github.com/google/go-cmp/cmp"

	"pretrain/internal/units"
	"pretrain/tokenizer"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func readJSON(t testing.TB, name string, v any) {
	t.Helper()
	if err := json.Unmarshal(read(t, name), v); err != nil {
		t.Fatal(err)
	}
}

func golden(t testing.TB) *Tokenizer {
	t.Helper()
	tk, err := New(read(t, "tokenizer.json"), "<s>", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	return tk
}

type encoded struct {
	Text string   `json:"text"`
	IDs  []uint32 `json:"ids"`
}

// goldenConfig is what testdata/golden.py trains with.
func goldenConfig() tokenizer.Config {
	cfg := tokenizer.Default()
	cfg.VocabSize = 768
	return cfg
}

func corpus(t testing.TB) []string {
	var docs []string
	readJSON(t, "corpus.json", &docs)
	return docs
}

// randomText mixes what tokenizers stumble over; about one in eight pieces is random bytes, not UTF-8.
func randomText(rng *rand.Rand) string {
	pieces := []string{"the ", "学习率", "，", "\n", "\n\n\t", "  ", "12345", "func", "(x)", "🙂", "\x00", "é", "e\u0301", "</s>", "'ll", "\u3000", "=", "_"}
	var b strings.Builder
	for range rng.IntN(60) {
		switch rng.IntN(8) {
		case 0:
			for range rng.IntN(6) {
				b.WriteByte(byte(rng.IntN(256)))
			}
		case 1:
			b.WriteRune(rune(rng.IntN(0x110000)))
		default:
			b.WriteString(pieces[rng.IntN(len(pieces))])
		}
	}
	return b.String()
}

func TestTrainIsThePythonPackages(t *testing.T) {
	// Twice, for determinism; the second time with empty documents, which must change nothing.
	for _, docs := range [][]string{corpus(t), append([]string{"", ""}, corpus(t)...)} {
		var done int64
		got, err := Train(t.Context(), goldenConfig(), slices.Values(docs), func(n int64) { done = n })
		if err != nil {
			t.Fatal(err)
		}
		if want := read(t, "tokenizer.json"); !bytes.Equal(got, want) {
			t.Errorf("tokenizer.json is not the Python package's: %s", cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")))
		}
		if want := int64(len(strings.Join(docs, ""))); done != want {
			t.Errorf("progress ended at %d bytes of %d", done, want)
		}
	}
}

func TestEncodeIsThePythonPackages(t *testing.T) {
	var byteLevel []encoded
	readJSON(t, "cases.json", &byteLevel)
	var sp struct {
		Tokenizer json.RawMessage `json:"tokenizer"`
		Cases     []encoded       `json:"cases"`
	}
	readJSON(t, "sentencepiece.json", &sp)
	spTokenizer, err := New(sp.Tokenizer, "<s>", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		tk    *Tokenizer
		cases []encoded
	}{{"byte-level", golden(t), byteLevel}, {"SentencePiece style", spTokenizer, sp.Cases}} {
		var texts []string
		var want [][]uint32
		for _, e := range c.cases {
			texts, want = append(texts, e.Text), append(want, e.IDs)
			got, err := c.tk.Encode(e.Text)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, e.IDs) {
				t.Errorf("%s: %q encodes to %v, want %v", c.name, e.Text, got, e.IDs)
			}
		}
		got, err := c.tk.EncodeBatch(t.Context(), texts)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the batch differs: %s", c.name, diff)
		}
	}
}

// Upstream encodes through all of Hugging Face's pipeline, by daulet's binding: the oracle for our direct path. It knows no
// NUL and no invalid UTF-8.
func TestEncodeIsUpstreams(t *testing.T) {
	upstream, err := daulet.FromBytes(read(t, "tokenizer.json"), daulet.WithEncodeSpecialTokens())
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	tk := golden(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		text := strings.ReplaceAll(strings.ToValidUTF8(randomText(rng), ""), "\x00", "")
		got, err := tk.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		if want := upstream.EncodeWithOptions(text, false).IDs; !slices.Equal(got, want) {
			t.Fatalf("%q encodes to %v, upstream's pipeline gives %v", text, got, want)
		}
	}
}

// Every character of the planes that have any, after an apostrophe, among letters, digits, spaces and marks: what the scanner takes
// for a letter, a number or a space is what upstream's regular expression does.
func TestEveryCharacterIsUpstreams(t *testing.T) {
	upstream, err := daulet.FromBytes(read(t, "tokenizer.json"), daulet.WithEncodeSpecialTokens())
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	tk := golden(t)
	for first := rune(0); first < utf8.MaxRune; first += 64 {
		if first == 0x34000 {
			first = 0xe0000 // there are none in between
		} else if first == 0xe0200 {
			first = utf8.MaxRune &^ 63
		}
		var b strings.Builder
		for r := max(first, 1); r < first+64; r++ {
			if !utf8.ValidRune(r) {
				continue
			}
			for _, form := range []string{"'%ca", "1%c ", " %c\n", "!%c"} {
				b.WriteString(strings.ReplaceAll(form, "%c", string(r)))
			}
		}
		got, err := tk.Encode(b.String())
		if err != nil {
			t.Fatal(err)
		}
		if want := upstream.EncodeWithOptions(b.String(), false).IDs; !slices.Equal(got, want) {
			t.Fatalf("U+%04X to U+%04X encode to %v, upstream's pipeline gives %v", first, first+63, got, want)
		}
	}
}

// Pre-tokens shorter and longer than those that the merges here are for.
func TestLongWordsAreUpstreams(t *testing.T) {
	upstream, err := daulet.FromBytes(read(t, "tokenizer.json"), daulet.WithEncodeSpecialTokens())
	if err != nil {
		t.Fatal(err)
	}
	defer upstream.Close()
	tk := golden(t)
	rng := rand.New(rand.NewPCG(9, 10))
	words := strings.FieldsFunc(strings.Join(corpus(t), " "), func(r rune) bool { return !unicode.IsLetter(r) })
	for range 300 {
		var b strings.Builder
		for size := rng.IntN(600); b.Len() < size; {
			b.WriteString(words[rng.IntN(len(words))])
		}
		got, err := tk.Encode(b.String())
		if err != nil {
			t.Fatal(err)
		}
		if want := upstream.EncodeWithOptions(b.String(), false).IDs; !slices.Equal(got, want) {
			t.Fatalf("%q encodes to %v, upstream's pipeline gives %v", b.String(), got, want)
		}
	}
}

func checkRoundTrip(t *testing.T, tk *Tokenizer, text string) {
	t.Helper()
	ids, err := tk.Encode(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if got := tk.Decode(ids); got != text {
		t.Fatalf("%q comes back as %q", text, got)
	}
	for _, id := range ids {
		if tk.IsSpecial(id) {
			t.Fatalf("%q holds special token %d", text, id)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	tk := golden(t)
	rng := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		checkRoundTrip(t, tk, randomText(rng))
	}
	checkRoundTrip(t, tk, "\xff\xfe\x00中\xe4\xb8")
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("hello 你好\x00🙂\xff</s>  12345\r\n")
	f.Add("'S\u2028\u0085 \t\v\f中")
	tk := golden(f)
	f.Fuzz(func(t *testing.T, text string) { checkRoundTrip(t, tk, text) })
}

// Upstream's matcher gives up on ten million spaces in a row, and a text beyond the matcher's window is cut in parts.
func TestLongTexts(t *testing.T) {
	tk := golden(t)
	checkRoundTrip(t, tk, "a"+strings.Repeat(" ", 10_500_000)+"b")
	checkRoundTrip(t, tk, strings.Repeat("中", 500_000))

	// Lines are where a long text is cut, so its ids are those of its lines together.
	doc := strings.Join(corpus(t), "\n")
	long := strings.Repeat(doc+"\n", 3<<20/len(doc))
	got, err := tk.Encode(long)
	if err != nil {
		t.Fatal(err)
	}
	once, err := tk.Encode(doc + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, slices.Repeat(once, 3<<20/len(doc))) {
		t.Error("the ids of a long text depend on where it was cut")
	}
}

func TestBatchIsSingle(t *testing.T) {
	tk := golden(t)
	rng := rand.New(rand.NewPCG(7, 8))
	var texts []string
	for range 500 {
		texts = append(texts, randomText(rng))
	}
	// More text than crosses to Rust at once.
	line := strings.Repeat("long", 15) + "\n"
	texts = append(texts, strings.Repeat(line, batchBytes/len(line)+1), "", strings.Repeat(line, 1000), "last")
	var want [][]uint32
	for _, text := range texts {
		ids, err := tk.Encode(text)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, ids)
	}
	var wg sync.WaitGroup
	for range 2 { // at once, for the race detector and the shared caches
		wg.Go(func() {
			got, err := tk.EncodeBatch(context.Background(), texts)
			if err != nil {
				t.Error(err)
			}
			if !slices.EqualFunc(got, want, slices.Equal) {
				t.Error("the batch differs from single texts")
			}
		})
	}
	wg.Wait()
	if got, err := tk.EncodeBatch(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no texts: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tk.EncodeBatch(ctx, texts); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestTrainErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		edit func(*tokenizer.Config)
		docs []string
		want string
	}{
		{"cancelled", cancelled, func(*tokenizer.Config) {}, corpus(t), "context canceled"},
		{"no text", t.Context(), func(*tokenizer.Config) {}, nil, "there is no text to train on"},
		{"empty text", t.Context(), func(*tokenizer.Config) {}, []string{"", ""}, "there is no text to train on"},
		{"too little text", t.Context(), func(*tokenizer.Config) {}, []string{"aaaa bbbb aaaa bbbb"}, "set tokenizer.vocab_size to 2"},
		{"bad config", t.Context(), func(c *tokenizer.Config) { c.VocabSize = 3 }, corpus(t), "vocab_size: 3: want at least 262"},
		{"a path", t.Context(), func(c *tokenizer.Config) { c.Path = "other.json" }, corpus(t), "path names one that exists, other.json"},
		{"a word as special token", t.Context(), func(c *tokenizer.Config) { c.SpecialTokens = append(c.SpecialTokens, "model") },
			append(corpus(t), strings.Repeat("model\n", 99)), `special token "model" is an ordinary word`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := goldenConfig()
			c.edit(&cfg)
			got, err := Train(c.ctx, cfg, slices.Values(c.docs), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) || got != nil {
				t.Errorf("got %d bytes and error %v, want %q in it", len(got), err, c.want)
			}
		})
	}
}

// Bytes that are not UTF-8 have single-byte tokens already; the text around them trains as if they were not there.
func TestTrainOnInvalidUTF8(t *testing.T) {
	docs := append(corpus(t), "\xff\xfe", "\xc0")
	got, err := Train(t.Context(), goldenConfig(), slices.Values(docs), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, read(t, "tokenizer.json")) {
		t.Error("invalid bytes changed the tokenizer")
	}
}

// A pre-token above 256 bytes is learned from as if it were cut there: as one, megabytes of base64 take the trainer minutes.
func TestTrainOnALongWord(t *testing.T) {
	cfg := goldenConfig()
	cfg.VocabSize = 300
	train := func(text string) []byte {
		t.Helper()
		got, err := Train(t.Context(), cfg, slices.Values([]string{text}), nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	r := rand.New(rand.NewPCG(1, 2))
	var word strings.Builder
	for range 800 { // in one piece the pair "zq" of the seams would be the first to be learned
		word.WriteByte('q')
		for range 254 {
			word.WriteByte("abcdefghijklmnoprstuvwxyABCDEFGHIJKLMNOPQRSTUVWXYZ"[r.IntN(50)])
		}
		word.WriteByte('z')
	}
	lines := strings.ReplaceAll(word.String(), "zq", "z\nq")
	if !bytes.Equal(train(word.String()), train(lines)) {
		t.Error("a word of 200 KiB and its pieces of 256 bytes on lines of their own give other tokenizers")
	}
}

func TestTrainReadsMaxTrainBytes(t *testing.T) {
	docs := corpus(t)
	cfg := goldenConfig()
	cfg.VocabSize = 300
	cfg.MaxTrainBytes = units.Bytes(len(docs[0]) + len(docs[1])/2)
	var done int64
	got, err := Train(t.Context(), cfg, slices.Values(docs), func(n int64) { done = n })
	if err != nil {
		t.Fatal(err)
	}
	if done != int64(cfg.MaxTrainBytes) {
		t.Errorf("read %d bytes of %d", done, cfg.MaxTrainBytes)
	}
	cfg.MaxTrainBytes = 1 << 20
	want, err := Train(t.Context(), cfg, slices.Values([]string{docs[0], docs[1][:len(docs[1])/2]}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("text beyond max_train_bytes had a part in it")
	}
}

func TestNew(t *testing.T) {
	if tk, err := New(read(t, "tokenizer.json"), "<s>", "</s>"); err != nil || tk.VocabSize() != 768 {
		t.Errorf("New: %v", err)
	}
	// What the Go reader lets pass and the library does not: the error still says what is wrong.
	broken := bytes.Replace(read(t, "tokenizer.json"), []byte(`"Isolated"`), []byte(`"Shredded\u0000"`), 1)
	for want, data := range map[string][]byte{"not a usable tokenizer.json: ": broken, "not a tokenizer.json": read(t, "corpus.json")} {
		if _, err := New(data, "<s>", "</s>"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
