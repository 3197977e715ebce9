package sensitive

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"pretrain/data"
)

func load(t testing.TB, c Config, list string) *Filter {
	t.Helper()
	path := filepath.Join(t.TempDir(), "words.txt")
	if err := os.WriteFile(path, []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Lists = []string{path}
	f, err := Load(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFilter(t *testing.T) {
	f := load(t, Config{Mode: data.Filter, Allow: []string{"Common"}, MinHits: 2}, "# a comment\nBad Word\nass\ncommon\n赌博\n在线赌博\n")
	for text, want := range map[string]data.Reason{
		"nothing of the kind":             "",
		"a BAD WORD, and again bad word":  "", // one word, twice
		"a bad word and an ass":           Words,
		"a classic bad word":              "", // "ass" is a part of a word
		"common common common":            "",
		"本站提供在线赌博服务":                      Words, // two words, one in the other
		"反对赌博":                            "",
		"反对赌博 ass":                        Words,
		"bad  word ass":                   "", // not the phrase
		strings.Repeat("x", 1000) + "ass": "",
	} {
		d := data.Document{Text: text}
		if got, detail := f.Step()().Apply(&d); got != want {
			t.Errorf("%q: %q (%s), want %q", text, got, detail, want)
		}
	}
	d := data.Document{Messages: []data.Message{{Content: "an ass"}, {Content: "赌博"}}}
	if got, detail := f.Step()().Apply(&d); got != Words || detail != `2 words, the first "ass"` {
		t.Errorf("conversation: %q, %q", got, detail)
	}
	tag := load(t, Config{Mode: data.Tag, MinHits: 2}, "ass")
	d = data.Document{Text: "ass"}
	if got, _ := tag.Step()().Apply(&d); got != "" || d.TextOf("sensitive.word") != "ass" {
		t.Errorf("tag: %q, %v", got, d.Tags)
	}
	if f.Key() == tag.Key() {
		t.Error("two lists have the same key")
	}
	if _, err := Load(t.Context(), Config{Lists: []string{"none.txt"}}); err == nil || !strings.Contains(err.Error(), "none.txt") {
		t.Errorf("no such list: %v", err)
	}
}

// The automaton finds what searching for each word finds.
func TestAgainstSearch(t *testing.T) {
	letters := rapid.SampledFrom([]rune("ab c中文"))
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfNDistinct(rapid.Map(rapid.SliceOfN(letters, 1, 5), func(r []rune) string { return "b" + string(r) }), 1, 12, rapid.ID[string]).Draw(t, "words")
		text := string(rapid.SliceOfN(letters, 0, 60).Draw(t, "text"))
		var got, want []string
		build(words).find(text, func(w int32) { got = append(got, words[w]) })
		for _, w := range words {
			for i := range text {
				if strings.HasPrefix(text[i:], w) && whole(text, i, i+len(w)) {
					want = append(want, w)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("in %q: %q, want %q", text, got, want)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	var list strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&list, "word%d\n%c%c%d\n", i, 0x4e00+i%5000, 0x4e00+i*7%5000, i%10)
	}
	f := load(b, Default(), list.String())
	text := strings.Repeat("In 2026 some 1,200 people wrote to us about the program. 二〇二六年共有一千二百人来信。\n", 40)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		f.auto.find(text, func(int32) {})
	}
}
