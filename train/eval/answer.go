package eval

import (
	"math"
	"math/big"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// answerStops end an answer: a model that has answered goes on with the next question.
var answerStops = []string{"\nQuestion:", "\n问题：", "\n题目："}

// codeStops end a function's body (HumanEval's own list).
var codeStops = []string{"\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\n@"}

// cutAt cuts a text before the first of the stops.
func cutAt(text string, stops []string) string {
	for _, s := range stops {
		if at := strings.Index(text, s); at >= 0 {
			text = text[:at]
		}
	}
	return text
}

var number = regexp.MustCompile(`-?\d[\d,]*(?:\.\d+)?(?:/\d+)?|-?\.\d+`)

// ExtractAnswer takes the answer out of a text: what stands after the last "####" (GSM8K), else in the last \boxed{…} (MATH), else
// the last number; "" if there is none.
func ExtractAnswer(text string) string {
	text = cutAt(text, answerStops)
	if at := strings.LastIndex(text, "####"); at >= 0 {
		line, _, _ := strings.Cut(strings.TrimSpace(text[at+4:]), "\n")
		return strings.TrimSpace(line)
	}
	if at := strings.LastIndex(text, `\boxed{`); at >= 0 {
		depth := 0
		for i, r := range text[at+6:] {
			switch r {
			case '{':
				depth++
			case '}':
				depth--
			}
			if depth == 0 {
				return text[at+7 : at+6+i]
			}
		}
	}
	if all := number.FindAllString(text, -1); len(all) > 0 {
		return all[len(all)-1]
	}
	return ""
}

// SameAnswer compares two answers: as numbers where both are (1,000 is 1000.0, 1/2 is 0.5, 50% is 50), else without spaces, signs of
// currency and a final full stop.
func SameAnswer(a, b string) bool {
	a, b = plainAnswer(a), plainAnswer(b)
	x, okA := parseNumber(a)
	y, okB := parseNumber(b)
	if okA && okB {
		u, _ := x.Float64()
		v, _ := y.Float64()
		return x.Cmp(y) == 0 || math.Abs(u-v) <= 1e-6*math.Abs(v)
	}
	return a == b && a != ""
}

var plainNumber = regexp.MustCompile(`^[-+]?(\d+\.?\d*|\.\d+)(/\d+)?$`)

func parseNumber(s string) (*big.Rat, bool) {
	if len(s) > 64 || !plainNumber.MatchString(s) {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

func plainAnswer(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || strings.ContainsRune("$€£¥￥,", r) {
			return -1
		}
		return r
	}, s)
	return strings.TrimSuffix(strings.TrimSuffix(s, "."), "%")
}

// passes says whether a text that continues a cloze or generation item is right: the target, as a word of its own, or an answer that
// is the target's.
func (i Item) passes(text string) bool {
	if i.Kind() == Generation {
		return SameAnswer(ExtractAnswer(text), i.Target)
	}
	rest, ok := strings.CutPrefix(strings.TrimLeftFunc(text, unicode.IsSpace), strings.TrimSpace(i.Target))
	next, _ := utf8.DecodeRuneInString(rest)
	return ok && (rest == "" || !unicode.IsLetter(next) && !unicode.IsDigit(next) || wide(next))
}
