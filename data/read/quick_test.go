package read

import (
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// A record that is read quickly is what encoding/json makes of it.
func FuzzQuick(f *testing.F) {
	for _, s := range []string{
		`{"id":"a","text":"x\ny","lang":"en","license":null}`, `{"text":"x","Text":"y"}`, `{"text":"x","text":"y","id":7}`, `{"text":null}`,
		`{"text":"x","meta":{"a":[1,2.5e3,{"b":null}]},"language":"de"}`, `{"text":"x"} `, `{"text":"x"}{`, `{"text":"\ud83d\ude00","id":-1.5}`, `{"text":""}`,
		`{"text":"x","messages":[]}`, `{"text" : "x" , "id" : true}`, `{"te\u0078t":"x"}`, `{}`, `{"teXt":"x"}`, `{"text":"a","ſ":1,"licenſe":"b"}`,
	} {
		f.Add(s)
	}
	slow := newDecoder(Default("x"))
	slow.simple = false
	quick := newDecoder(Default("x"))
	f.Fuzz(func(t *testing.T, line string) {
		if !utf8.ValidString(line) || line == "" {
			return
		}
		got, ok := quick.quick([]byte(line))
		if !ok {
			return
		}
		want, reason, err := slow.document([]byte(line))
		if err != nil {
			t.Fatalf("%q is accepted; encoding/json: %s, %v", line, reason, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", line, diff)
		}
	})
}

// Fields whose names encoding/json would confuse are left to it.
func TestQuickNames(t *testing.T) {
	for _, c := range []struct {
		text, id string
		want     bool
	}{{"text", "id", true}, {"content", "doc.id", true}, {"text", "Text", false}, {"text", "lang", false}, {"a,omitempty", "id", false}, {"-", "id", false}} {
		s := Default("x")
		s.TextField, s.IDField = c.text, c.id
		if got := newDecoder(s).simple; got != c.want {
			t.Errorf("text %q, id %q: quick is %v", c.text, c.id, got)
		}
	}
}
