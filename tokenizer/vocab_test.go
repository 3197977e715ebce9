package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// encoded is one case of testdata/golden.py: a text, the ids Hugging Face's Python package gives it and, where it differs
// from the text, what that package decodes them to.
type encoded struct {
	Text    string   `json:"text"`
	IDs     []uint32 `json:"ids"`
	Decoded string   `json:"decoded"`
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
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

func byteLevelVocab(t testing.TB) *Vocab {
	t.Helper()
	v, err := Parse(read(t, "tokenizer.json"), "<s>", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func sentencePieceVocab(t testing.TB) (*Vocab, []encoded) {
	t.Helper()
	var golden struct {
		Tokenizer json.RawMessage `json:"tokenizer"`
		Cases     []encoded       `json:"cases"`
	}
	readJSON(t, "sentencepiece.json", &golden)
	v, err := Parse(golden.Tokenizer, "<s>", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	return v, golden.Cases
}

func TestParse(t *testing.T) {
	v := byteLevelVocab(t)
	if got := v.VocabSize(); got != 768 {
		t.Errorf("VocabSize %d, want 768", got)
	}
	if id, ok := v.BOS(); id != 0 || !ok || v.EOS() != 1 {
		t.Errorf("BOS %d %t, EOS %d", id, ok, v.EOS())
	}
	if id, ok := v.Special("<用户>"); id != 2 || !ok || !v.IsSpecial(2) || v.Bytes(2) != "<用户>" {
		t.Errorf("<用户>: id %d, %t, decodes to %q", id, ok, v.Bytes(2))
	}
	if _, ok := v.Special("!"); ok || v.IsSpecial(6) || v.IsSpecial(768) {
		t.Error("an ordinary token is special")
	}
	other, err := Parse(append(read(t, "tokenizer.json"), '\n'), "", "<|im_end|>")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := other.BOS(); ok || other.EOS() != 5 {
		t.Errorf("BOS present: %t, EOS %d", ok, other.EOS())
	}
	if len(v.Hash()) != 64 || other.Hash() == v.Hash() {
		t.Error("the hash does not tell two files apart")
	}
}

func TestDecodeGolden(t *testing.T) {
	v := byteLevelVocab(t)
	var cases []encoded
	readJSON(t, "cases.json", &cases)
	for _, c := range cases {
		if got := v.Decode(c.IDs); got != c.Text {
			t.Errorf("decoded %q, want %q", got, c.Text)
		}
	}
	v, cases = sentencePieceVocab(t)
	for _, c := range cases {
		if got := v.Decode(c.IDs); got != c.Decoded {
			t.Errorf("SentencePiece style: decoded %q, want %q", got, c.Decoded)
		}
	}
	if got := v.Decode([]uint32{uint32(v.VocabSize())}); got != "\uFFFD" {
		t.Errorf("an id beyond the vocabulary decodes to %q", got)
	}
}

func TestEveryByteIsAToken(t *testing.T) {
	v := byteLevelVocab(t)
	seen := map[string]bool{}
	for id := range uint32(v.VocabSize()) {
		seen[v.Bytes(id)] = true
	}
	for b := range 256 {
		if !seen[string([]byte{byte(b)})] {
			t.Errorf("byte %#x is no token", b)
		}
	}
}

// small is a valid file to break: tokens a, b, ab and the special token </s>.
const small = `{"version":"1.0","added_tokens":[{"id":3,"content":"</s>","special":true}],"decoder":{"type":"ByteLevel"},
	"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}`

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"no JSON", small, "PK\x03\x04", "not a tokenizer.json"},
		{"truncated", `]]}}`, ``, "not a tokenizer.json: unexpected end"},
		{"other JSON", small, `{"a":1}`, `version ""`},
		{"newer version", `"1.0"`, `"2.0"`, `version "2.0", this program reads "1.0"`},
		{"another model", `"BPE"`, `"WordPiece"`, `type "WordPiece"`},
		{"another decoder", `"ByteLevel"`, `"WordPiece"`, `decoder of type "WordPiece"`},
		{"no decoder", `{"type":"ByteLevel"}`, `null`, `decoder of type ""`},
		{"merge of nothing", `["a","b"]`, `["a","c"]`, `merge 0 of tokenizer.json needs token "c"`},
		{"merge into nothing", `["a","b"]`, `["b","a"]`, `needs token "ba"`},
		{"merge of three", `["a","b"]`, `["a","b","c"]`, `want two tokens`},
		{"merge of one", `["a","b"]`, `"ab"`, `want two tokens`},
		{"merge of numbers", `["a","b"]`, `7`, `not a tokenizer.json`},
		{"gap", `"ab":2`, `"ab":7`, `do not run from 0 to 3`},
		{"huge id", `"ab":2`, `"ab":4294967295`, `do not run from 0 to 3`},
		{"negative id", `"ab":2`, `"ab":-1`, `not a tokenizer.json`},
		{"double", `"ab":2`, `"ab":1`, `do not run from 0 to 3`},
		{"two ids", `"</s>"`, `"ab"`, `token "ab" of tokenizer.json has two ids, 2 and 3`},
		{"no eos", `"special":true`, `"special":false`, `no special token "</s>" in tokenizer.json: set tokenizer.eos`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(small, c.old) {
				t.Fatalf("the file has no %s to break", c.old)
			}
			_, err := Parse([]byte(strings.Replace(small, c.old, c.new, 1)), "", "</s>")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q in it", err, c.want)
			}
		})
	}
	if _, err := Parse([]byte(small), "<s>", "</s>"); err == nil || !strings.Contains(err.Error(), "set tokenizer.bos to one of its own: </s>") {
		t.Errorf("missing bos: %v", err)
	}
	oldStyle := strings.Replace(small, `["a","b"]`, `"a b"`, 1)
	if v, err := Parse([]byte(oldStyle), "", "</s>"); err != nil || v.VocabSize() != 4 {
		t.Errorf("merges in the older style: %v", err)
	}
}

func TestParseTrained(t *testing.T) {
	cfg := Default()
	cfg.VocabSize = 768
	if _, err := ParseTrained(read(t, "tokenizer.json"), cfg); err != nil {
		t.Error(err)
	}
	cfg.VocabSize = 1000
	if _, err := ParseTrained(read(t, "tokenizer.json"), cfg); err == nil || !strings.Contains(err.Error(), "set tokenizer.vocab_size to 768") {
		t.Errorf("too small: %v", err)
	}
	// The special token "ab" is also what the text "ab" merges to.
	spelled := strings.Replace(small, `{"id":3,`, `{"id":2,"content":"ab","special":true},{"id":3,`, 1)
	if _, err := ParseTrained([]byte(spelled), Config{EOS: "</s>", VocabSize: 4}); err == nil || !strings.Contains(err.Error(), `special token "ab" is an ordinary word`) {
		t.Errorf("a special token that text can spell: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(strings.Replace(small, `["a","b"]`, `"a b"`, 1)))
	f.Add([]byte(strings.Replace(small, `{"type":"ByteLevel"}`, `{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Strip","content":" ","start":1}]}`, 1)))
	f.Add([]byte(`{"version":"1.0","decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":null,"merges":[""]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Parse(data, "", "</s>")
		if err != nil {
			return
		}
		// What was accepted can be used: every id decodes, alone and in a stream.
		s := v.Stream()
		var ids []uint32
		var streamed strings.Builder
		for id := range uint32(v.VocabSize()) {
			ids = append(ids, id)
			streamed.WriteString(s.Next(id))
		}
		streamed.WriteString(s.Flush())
		if got := v.Decode(ids); got != streamed.String() {
			t.Errorf("decoded %q, streamed %q", got, streamed.String())
		}
	})
}
