package quality_test

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"pretrain/data"
	"pretrain/data/quality"
)

// steps are the four rules, all filters, over one set of words.
func steps(units quality.Units, mode data.Mode) map[string]data.Step {
	c := quality.Default()
	c.Gopher.Mode, c.Repetition.Mode, c.C4.Mode, c.FineWeb.Mode = mode, mode, mode, mode
	w := new(quality.Words)
	return map[string]data.Step{
		"gopher": c.Gopher.Step(units, w), "repetition": c.Repetition.Step(units, w), "c4": c.C4.Step(units, w), "fineweb": c.FineWeb.Step(units, w),
	}
}

// Every verdict, reason and text is datatrove's on 120 texts made to be near the thresholds (bench/data/datatrove_rules.py
// --synthetic 120, datatrove 0.10.0).
func TestDatatrove(t *testing.T) {
	f, err := os.Open("testdata/datatrove.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rules, seen := steps(quality.Word, data.Filter), map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l struct {
			ID, Text, Gopher, Repetition, C4, FineWeb string
			C4Text                                    string `json:"c4_text"`
		}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"gopher": l.Gopher, "repetition": l.Repetition, "c4": l.C4, "fineweb": l.FineWeb} {
			d := data.Document{Text: l.Text}
			got, detail := rules[name].Apply(&d)
			if string(got) != want {
				t.Errorf("%s: %s says %q (%s), datatrove %q", l.ID, name, got, detail, want)
			}
			if name == "c4" && want == "" && d.Text != l.C4Text {
				t.Errorf("%s: c4 leaves another text:\n%q\nwant\n%q", l.ID, d.Text, l.C4Text)
			}
			seen[want]++
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d different verdicts: %v", len(seen), seen)
	}
}

const chinese = `朱自清的散文《背影》写于一九二五年，是中国现代散文的名篇之一。文章记叙了作者离开南京到北京大学读书，父亲送他到浦口火车站，照料他上车，
并替他买橘子的情形。在作者脑海里印象最深刻的，是他父亲替他买橘子时在月台爬上攀下的背影。
作者用朴素的文字，把父亲对儿女的爱，表达得深刻细腻、真挚感动，从平凡的事件中，呈现出父亲的关怀和爱护。
这篇文章发表以后，很快被选进了中学的语文课本，几代学生都读过它，许多人在多年以后还能背出其中的几句话来。`

// A Chinese text passes all rules by characters, and none of the ways in which it differs from English drops it; by words it
// goes at once.
func TestChinese(t *testing.T) {
	for name, rule := range steps(quality.Auto, data.Filter) {
		d := data.Document{Text: chinese}
		if reason, detail := rule.Apply(&d); reason != "" || d.Text != chinese {
			t.Errorf("%s: %s (%s), text %q", name, reason, detail, d.Text)
		}
	}
	d := data.Document{Text: chinese}
	if reason, _ := steps(quality.Word, data.Filter)["gopher"].Apply(&d); reason != quality.ShortDoc {
		t.Errorf("by words: %q", reason)
	}
	for _, c := range []struct {
		rule, text string
		want       data.Reason
	}{
		{"gopher", "今天的天气很好，我们去公园玩。", quality.ShortDoc},
		{"gopher", strings.Repeat("苹果香蕉橘子葡萄", 30), quality.FewStopWords},
		{"gopher", strings.Repeat("好的！！！！是吗？？？？", 30), quality.BelowAlpha},
		{"repetition", strings.Repeat("点击这里下载最新的版本\n", 20), quality.DupLines},
		{"repetition", strings.Repeat("买一送一", 5) + chinese[:300], "top_3_gram"},
		{"fineweb", strings.Repeat("首页\n关于我们\n联系方式\n", 1) + "产品中心", quality.FewPunctuated},
		{"fineweb", "短句。\n又短。\n再短。\n" + chinese[:90] + "。", quality.ShortLines},
		{"c4", "第一句话在这里说完了。第二句话也说完了。", quality.FewSentences},
	} {
		d := data.Document{Text: c.text}
		if reason, detail := steps(quality.Auto, data.Filter)[c.rule].Apply(&d); reason != c.want {
			t.Errorf("%s of %.40s: %q (%s), want %q", c.rule, c.text, reason, detail, c.want)
		}
	}
}

// Under tag nothing is dropped and no text changed; the figures, and the reason there would be, are attributes.
func TestTag(t *testing.T) {
	text := strings.Repeat("- the same line of {words}\n", 10)
	d := data.Document{Text: text}
	for name, rule := range steps(quality.Auto, data.Tag) {
		if reason, _ := rule.Apply(&d); reason != "" || d.Text != text {
			t.Errorf("%s: dropped for %q, or the text changed", name, reason)
		}
	}
	if words, ok := d.Number("gopher.words"); !ok || words != 50 {
		t.Errorf("gopher.words is %v", words)
	}
	for name, want := range map[string]string{"gopher": "gopher_too_many_bullets", "repetition": "dup_line_frac", "c4": "curly_bracket", "fineweb": "line_punct_ratio"} {
		if got := d.TextOf(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if top, ok := d.Number("repetition.duplicated_10_n_grams"); !ok || top < 0.5 {
		t.Errorf("repetition.duplicated_10_n_grams is %v", top)
	}
}

// No text crashes a rule, and no ratio leaves its range.
func FuzzRules(f *testing.F) {
	for _, s := range []string{"", "\n", "a\r\n\v\f\x1c\u2028b", chinese, "don't... U.S. … ……, ((a/b)) -1.5km http://x.y", "\xff\xfe", "\u0085", "。。。", "''s"} {
		f.Add(s)
	}
	rules := [][2]map[string]data.Step{{steps(quality.Auto, data.Tag), steps(quality.Auto, data.Filter)}, {steps(quality.Char, data.Tag), steps(quality.Word, data.Filter)}}
	f.Fuzz(func(t *testing.T, text string) {
		for _, pair := range rules {
			for _, name := range []string{"gopher", "repetition", "c4", "fineweb"} {
				d := data.Document{Text: text}
				pair[0][name].Apply(&d)
				for _, a := range d.Tags {
					if a.Text == "" && (a.Value < 0 || a.Value != a.Value || strings.Contains(a.Name, "line") && a.Value > 1) {
						t.Errorf("%s is %v", a.Name, a.Value)
					}
				}
				d = data.Document{Text: text}
				pair[1][name].Apply(&d)
			}
		}
	})
}

// BenchmarkRules is all four rules on English prose.
func BenchmarkRules(b *testing.B) {
	f, err := os.ReadFile("testdata/datatrove.jsonl")
	if err != nil {
		b.Fatal(err)
	}
	var texts []string
	size := 0
	for line := range strings.Lines(string(f)) {
		var l struct{ Text string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			b.Fatal(err)
		}
		texts = append(texts, l.Text)
		size += len(l.Text)
	}
	rules := steps(quality.Auto, data.Tag)
	b.SetBytes(int64(size))
	for b.Loop() {
		for _, text := range texts {
			d := data.Document{Text: text}
			for _, name := range []string{"gopher", "repetition", "c4", "fineweb"} {
				rules[name].Apply(&d)
			}
		}
	}
}
