package eval

import (
	"context"
	"errors"
	"testing"

	"pretrain/train/eval/sandbox"
)

func TestExtractAnswer(t *testing.T) {
	for text, want := range map[string]string{
		"He has 3 * 4 = <<3*4=12>>12 eggs.\n#### 12":          "12",
		" 16 - 7 = 9. 9 * 2 = 18.\n#### 18\n\nQuestion: 5?":   "18",
		"The answer is $1,234.50.":                            "1,234.50",
		`So it is \boxed{\frac{1}{2}} as \boxed{\frac{3}{4}}`: `\frac{3}{4}`,
		`Unfinished \boxed{12`:                                "12",
		"x = -3/4":                                            "-3/4",
		"no number here":                                      "",
		"共有 12 只\n题目：一共 99 只":                                 "12",
		"5\nQuestion: What is 6?\nAnswer: 7":                  "5",
	} {
		if got := ExtractAnswer(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"1,000", "1000.0", true}, {"$18.", "18", true}, {"1/2", "0.5", true}, {"50%", "50", true}, {"18", "19", false}, {"", "", false},
		{`\frac{1}{2}`, `\frac {1} {2}`, true}, {"1/0", "0", false}, {"0.333333", "1/3", true}, {"9999999", "9999990", true}, {"99999", "99998", false},
	} {
		if got := SameAnswer(c.a, c.b); got != c.same {
			t.Errorf("%q and %q are the same: %v", c.a, c.b, got)
		}
	}
}

func FuzzExtractAnswer(f *testing.F) {
	f.Add(`\boxed{\boxed{1}}#### 5`, "5")
	f.Fuzz(func(t *testing.T, text, target string) {
		a := ExtractAnswer(text)
		if SameAnswer(a, target) != SameAnswer(target, a) && len(a) < 20 && len(target) < 20 {
			t.Errorf("%q and %q are the same one way round only", a, target)
		}
	})
}

func TestPasses(t *testing.T) {
	solution := "s"
	cloze, sum := Item{Context: "c", Target: " signs"}, Item{Context: "c", Target: "18", Solution: &solution}
	for _, c := range []struct {
		item Item
		text string
		want bool
	}{
		{cloze, " signs", true}, {cloze, " signs.", true}, {cloze, "signs of", true}, {cloze, " signsx", false}, {cloze, " sign", false}, {cloze, " the signs", false},
		{Item{Target: "水"}, "水果", true}, {sum, "9*2=18.\n#### 18", true}, {sum, "18 or 19", false},
	} {
		if got := c.item.passes(c.text); got != c.want {
			t.Errorf("%q for %q passes: %v", c.text, c.item.Target, got)
		}
	}
}

// TestJudgeCode: a right program passes, a wrong one does not and says why, and what follows the function is cut off.
func TestJudgeCode(t *testing.T) {
	item := Item{ID: "1", Prompt: "def double(x):\n", Test: "def check(f):\n    assert f(4) == 8", EntryPoint: "double"}
	r, err := judge(context.Background(), item, "    return 2 * x\n\nprint(open('/etc/passwd').read())\n")
	if errors.Is(err, sandbox.ErrUnavailable) {
		return // the sandbox's own test says that nothing is run then
	}
	if err != nil || r.Values[PassAt1] != 1 || r.Output != "    return 2 * x\n" {
		t.Errorf("right: %+v, %v", r, err)
	}
	if r, err := judge(context.Background(), item, "    return x"); err != nil || r.Values[PassAt1] != 0 || r.Answer != "AssertionError" {
		t.Errorf("wrong: %+v, %v", r, err)
	}
}
