package quickjson

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// What is accepted is JSON, and strings and numbers are what encoding/json makes of them. What is JSON is accepted.
func FuzzAgainstStandard(f *testing.F) {
	for _, s := range []string{
		`"a\n\"\\\/\b\f\r\t\u4e2d\ud83d\ude00\ud83d\u0041\udc00x中"`, `"\ud83d"`, `"\u12"`, `"a`, "\"\x01\"", `"\x"`, `-0.5e+10`, `01`, `1.`, `-`, `1e`, `0`,
		`{"a": [1, {"b": null}, true, false], "c":"d" }`, `[]`, `{}`, `[1,]`, `{"a"}`, `{"a":1,}`, `[[[[[]]]]]`, `tru`, `""`, "[ ]\t",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) || strings.Trim(text, " \t\r\n") != text || strings.Count(text, "[")+strings.Count(text, "{") > 8 {
			return
		}
		rest, ok := Value([]byte(text), 8)
		if ok = ok && len(rest) == 0; ok != json.Valid([]byte(text)) {
			t.Fatalf("%q: accepted %v", text, ok)
		}
		var back string
		if quoted := Append(nil, text); json.Unmarshal(quoted, &back) != nil || back != text {
			t.Fatalf("%q is written as %s", text, quoted)
		}
		var want string
		if s, rest, ok := String([]byte(text)); ok && len(rest) == 0 && (json.Unmarshal([]byte(text), &want) != nil || s != want) {
			t.Errorf("%q is %q, want %q", text, s, want)
		}
	})
}

// Each byte that is not UTF-8 becomes one U+FFFD, wherever it stands among eight.
func TestAppendInvalid(t *testing.T) {
	for n := range 10 {
		if got, want := string(Append(nil, strings.Repeat("x", n)+"\xff\xfe\x01/中")), `"`+strings.Repeat("x", n)+"\ufffd\ufffd\\u0001/中\""; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A depth beyond the limit is not read: the caller has a parser that bounds its own.
func TestDepth(t *testing.T) {
	for depth, want := range map[int]bool{2: false, 3: true} {
		if _, ok := Value([]byte(`[{"a":[1]}]`), depth); ok != want {
			t.Errorf("depth %d: %v", depth, ok)
		}
	}
}

func BenchmarkString(b *testing.B) {
	quoted, _ := json.Marshal(strings.Repeat("A line of some text, with a \"word\" in it.\n", 100))
	b.SetBytes(int64(len(quoted)))
	for b.Loop() {
		String(quoted)
	}
}
