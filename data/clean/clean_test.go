package clean

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"pretrain/data"
)

// mend applies a configuration to one text.
func mend(t testing.TB, c Config, prose bool, text string) string {
	t.Helper()
	s, err := c.Step(prose)
	if err != nil {
		t.Fatal(err)
	}
	d := data.Document{Text: text}
	if reason, detail := s.Apply(&d); reason != "" {
		return string(reason) + ": " + detail
	}
	return d.Text
}

func TestClean(t *testing.T) {
	simplify := Default()
	simplify.Simplify = true
	own := Default()
	own.BoilerplateLines = []string{`Page \d+ of \d+`}
	for _, c := range []struct {
		name   string
		config Config
		prose  bool
		in     string
		want   string
	}{
		{"plain text is left alone", Default(), true, "A line.\n\nAnother, with tabs\tand “quotes”.", "A line.\n\nAnother, with tabs\tand “quotes”."},
		{"compatibility forms", Default(), true, "ﬁne Ｇｏ １２３ ㎏ e\u0301", "fine Go 123 kg é"},
		{"Chinese marks stay", Default(), true, "你好，世界！（一）：“对”？ 10㎡，x²＋y₁ ½…", "你好，世界！（一）：“对”？ 10m2，x²＋y₁ ½…"},
		{"code keeps its forms and its space", Default(), false, "x := \"ﬁ\"  \n\n\n\ty", "x := \"ﬁ\"  \n\n\n\ty"},
		{"what cannot be seen", Default(), true, "\ufeffzero\u200bwidth soft\u00adhyphen\x00\x1b[0m\u202eright", "zerowidth softhyphen[0mright"},
		{"joiners that mean something", Default(), true, "می\u200cخواهم 👩\u200d💻 a\u200db", "می\u200cخواهم 👩\u200d💻 ab"},
		{"line ends", Default(), true, "a\r\nb\rc\u2028d\fe", "a\nb\nc\nd\ne"},
		{"white space", Default(), true, "\n\na  \nb\u3000\n\n\n\n\nc\n  indented\n\n", "a\nb\n\nc\n  indented"},
		{"boilerplate", Default(), true, "Title\nShare on Facebook\nText.\n  Read more  \nCopyright © 2026 Somebody\nI read more books.\n版权所有\n文章来源：网络\n正文。", "Title\nText.\nI read more books.\n正文。"},
		{"the user's lines", own, true, "Text.\nPage 3 of 12\nSee Page 3 of 12.", "Text.\nSee Page 3 of 12."},
		{"nothing left", Default(), true, "Share this\n\n登录\n", "nothing_left: nothing but boilerplate and white space"},
		{"mojibake", Default(), true, "caf\ufffd", "mojibake: 1 characters are U+FFFD"},
		{"simplified", simplify, true, "軟體工程與頭髮，發展；乾燥、幹部。", "软体工程与头发，发展；干燥、干部。"},
		{"English is not converted", simplify, true, "No change.", "No change."},
	} {
		if got := mend(t, c.config, c.prose, c.in); got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", c.name, got, c.want)
		}
	}
}

// All turns of a conversation are mended; empty text is no reason there.
func TestConversation(t *testing.T) {
	s, err := Default().Step(true)
	if err != nil {
		t.Fatal(err)
	}
	d := data.Document{Messages: []data.Message{{Role: "user", Content: "ﬁrst\u200b"}, {Role: "assistant", Content: "b  \n"}}}
	if reason, _ := s.Apply(&d); reason != "" || d.Messages[0].Content != "first" || d.Messages[1].Content != "b" {
		t.Errorf("%q, %q", reason, d.Messages)
	}
}

// Mending a mended text changes nothing, whatever it was, and leaves UTF-8.
func FuzzClean(f *testing.F) {
	for _, s := range []string{"a\r\r\nb", "ﬁ\u0301ｶﾞ", "share this\n\n\n\nshare this", "x \u00a0\u3000\n", "\u200d\u200c👩\u200d", "①½ﷺ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return
		}
		for _, prose := range []bool{true, false} {
			once := mend(t, Default(), prose, text)
			if strings.HasPrefix(once, string(Nothing)) || strings.HasPrefix(once, string(Mojibake)) {
				continue
			}
			if twice := mend(t, Default(), prose, once); twice != once && !strings.HasPrefix(twice, string(Nothing)) || !utf8.ValidString(once) {
				t.Errorf("prose %v, %q:\n once %q\ntwice %q", prose, text, once, twice)
			}
		}
	})
}

// What is taken for stable is what x/text leaves, alone and after any character, or what is kept.
func TestStable(t *testing.T) {
	n := 0
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) || !stable(string(r)) || kept(r) {
			continue
		}
		n++
		if p := norm.NFKC.PropertiesString(string(r)); !p.BoundaryBefore() || !norm.NFKC.IsNormalString(string(r)) {
			t.Errorf("U+%04X is not stable", r)
		}
	}
	if n < 20_000 {
		t.Errorf("%d characters are stable; there are as many Chinese ones alone", n)
	}
}
