//go:build !nolingua

package lang

import (
	"slices"
	"strings"

	"github.com/pemistahl/lingua-go"
)

// linked says whether lingua-go is part of the program. Its models are 120 MB of it.
const linked = true

// known says whether lingua-go knows the language of an ISO 639-1 code.
func known(code string) bool {
	_, ok := languageOf(code)
	return ok
}

func languageOf(code string) (lingua.Language, bool) {
	i := slices.IndexFunc(lingua.AllLanguages(), func(l lingua.Language) bool { return strings.EqualFold(l.IsoCode639_1().String(), code) })
	if i < 0 {
		return lingua.Unknown, false
	}
	return lingua.AllLanguages()[i], true
}

// newLingua makes a detector that chooses among the languages of these codes.
func newLingua(codes []string) detector {
	var list []lingua.Language
	for _, code := range codes {
		if l, ok := languageOf(code); ok && !slices.Contains(list, l) {
			list = append(list, l)
		}
	}
	d := lingua.NewLanguageDetectorBuilder().FromLanguages(list...).WithLowAccuracyMode().Build()
	return func(text string) (string, float64) {
		best := d.ComputeLanguageConfidenceValues(text)
		if len(best) == 0 {
			return "", 0
		}
		return strings.ToLower(best[0].Language().IsoCode639_1().String()), best[0].Value()
	}
}
