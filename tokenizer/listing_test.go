package tokenizer

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestList: the tokens of our own file, with the special ones marked; a file that other programs would read otherwise is
// refused.
func TestList(t *testing.T) {
	data, err := os.ReadFile("testdata/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	l, err := List(data)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Parse(data, "", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Tokens) != v.VocabSize() || len(l.Merges) == 0 || l.IgnoreMerges {
		t.Fatalf("%d tokens, %d merges", len(l.Tokens), len(l.Merges))
	}
	for id, token := range l.Tokens {
		if l.Special[id] != v.IsSpecial(uint32(id)) {
			t.Errorf("token %d, %q: special %v", id, token, l.Special[id])
		}
		if text := v.Bytes(uint32(id)); l.Special[id] && token != text || !l.Special[id] && byteLevel(token) != text {
			t.Errorf("token %d is %q, its bytes are %q", id, token, text)
		}
	}
	sentencePiece, err := os.ReadFile("testdata/sentencepiece.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"another kind": sentencePiece, "no JSON": []byte("x"),
		"another pattern": bytes.Replace(data, []byte(`\\p{N}{1,3}`), []byte(`\\p{N}{1,2}`), 1),
	} {
		if _, err := List(bad); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
