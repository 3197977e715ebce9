package quality

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The rules of spaCy's English tokenizer (spacy/lang/punctuation.py, spacy/lang/en/tokenizer_exceptions.py, 3.8) by which
// datatrove counts words, as far as they matter to its rules: abbreviations are a short list here.

// loneAffixes are cut off at either end of a piece: LIST_PUNCT, LIST_QUOTES and LIST_CURRENCY of spaCy that are not ASCII.
const loneAffixes = "…“”‘’´`‚„«»「」『』（）〔〕【】《》〈〉。？！，、；：～·।،۔؛٪£€¥¿¡؟—–§₩฿"

// punctuation is datatrove's PUNCTUATION and TERMINAL_PUNCTUATION (datatrove/utils/text.py) that are not ASCII, the rare
// scripts of the latter left out.
const punctuation = "—”：％１〈（、━【「」，】；～„《„’∶´（–？！“«。…、〉》）►»．｡？！؟۔।॥။၊։።፧‼‽⁇⁈⁉﹒﹖﹗"

var lone, terminal, punctuations = runes(loneAffixes), runes("。．？！…⁉⁈‼‽؟۔।॥։።፧။၊｡﹒﹖﹗⁇"), runes(punctuation)

func runes(s string) map[rune]bool {
	m := map[rune]bool{}
	for _, r := range s {
		m[r] = true
	}
	return m
}

var (
	asciiSpace       = ascii(" \t\n\v\f\r\x1c\x1d\x1e\x1f")
	asciiPunctuation = ascii("!/:%&(\\#+^]~'{|=-`*$><?)@_.\"},;[" + controls)
	affix            = ascii(",:;!?()[]{}<>_#*&'\"`$%=~")
)

// controls are the control characters but for the line feed: datatrove counts them as punctuation.
const controls = "\x00\x01\x02\x03\x04\x05\x06\a\b\t\v\f\r\x0e\x0f" +
	"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"

// ascii is a set of ASCII characters.
func ascii(chars string) (set [128]bool) {
	for _, c := range []byte(chars) {
		set[c] = true
	}
	return set
}

// isPunctuation is about characters beyond ASCII.
func isPunctuation(r rune) bool { return r < 160 || punctuations[r] }

// abbreviations keep their period, and the like are one word, in these very letters.
var abbreviations = words(`a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms.
	p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul.
	Jun. Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. Neb. Nebr. Nev. Nov. Oct. Okla. Ore. Pa. Sep. Sept. Tenn. Va. Wash. Wis. N.C. N.D. N.H. N.J. N.M.
	N.Y. S.C. and/or ma'am o'clock O'clock :) :( :D ;) ): (: [: :] :/ :P =) :-) :-( ;-) <3`)

// pronouns are what the verbs of contractions follow.
var pronouns = words("i you he she it we they who what when where why how there that this these those")

func words(s string) map[string]bool { return setOf(strings.Fields(s)) }

// exceptional are the first bytes of the marks that every exception has one of, "cannot" aside.
var exceptional = func() (t [256]bool) {
	for _, c := range []byte(".'/:;()=<’") {
		t[c] = true
	}
	return t
}()

// exception is where a contraction is cut in two ("do|n't"), 0 for an abbreviation, -1 for anything else.
func exception(chunk string) int {
	if len(chunk) > 16 {
		return -1
	}
	plain := true
	for i := range len(chunk) {
		plain = plain && !exceptional[chunk[i]]
	}
	if plain && chunk != "cannot" {
		return -1
	}
	if len(chunk) == 2 && chunk[1] == '.' && 'a' <= chunk[0] && chunk[0] <= 'z' || abbreviations[chunk] {
		return 0
	}
	if chunk == "cannot" {
		return len("can")
	}
	at := strings.LastIndexAny(chunk, "'’")
	if at <= 0 {
		return -1
	}
	before := chunk[:at]
	if !isASCIILetter(before[len(before)-1]) || strings.ContainsAny(before, "'’-.,\"“") {
		return -1
	}
	_, n := utf8.DecodeRuneInString(chunk[at:])
	switch rest := strings.ToLower(chunk[at+n:]); rest {
	case "t":
		if last := before[len(before)-1]; len(before) > 1 && last|0x20 == 'n' {
			return at - 1
		}
	case "ll", "ve", "re", "d", "m":
		if pronouns[strings.ToLower(before)] {
			return at
		}
	}
	return -1
}

// prefix is the length of what is cut off in front, 0: nothing.
func prefix(chunk string) int {
	c := chunk[0]
	switch {
	case strings.HasPrefix(chunk, "''"):
		return 2
	case c >= utf8.RuneSelf:
		if strings.HasPrefix(chunk, "……") {
			return len("……")
		}
		if r, n := utf8.DecodeRuneInString(chunk); lone[r] || r > 0xff && unicode.Is(unicode.So, r) {
			return n
		}
	case c == '.':
		return ellipsis(chunk)
	case c == '+':
		if len(chunk) > 1 && (chunk[1] < '0' || chunk[1] > '9') || len(chunk) == 1 {
			return 1
		}
	case affix[c] && c != '~':
		return 1
	}
	return 0
}

// ellipsis is the number of periods a chunk begins with, if they are two or more.
func ellipsis(chunk string) int {
	n := 0
	for n < len(chunk) && chunk[n] == '.' {
		n++
	}
	if n < 2 {
		return 0
	}
	return n
}

// suffix is the length of what is cut off at the end, 0: nothing.
func suffix(chunk string) int {
	last := len(chunk) - 1
	c := chunk[last]
	if c >= utf8.RuneSelf {
		r, n := utf8.DecodeLastRuneInString(chunk)
		if lone[r] && r != '§' && r != '£' && r != '€' && r != '¥' || r > 0xff && unicode.Is(unicode.So, r) {
			return n
		}
		return 0
	}
	switch {
	case strings.HasSuffix(chunk, "''"):
		return 2
	case c == '.':
		if last == 0 {
			return 0
		}
		if chunk[last-1] == '.' {
			n := 2
			for n < len(chunk) && chunk[last-n] == '.' {
				n++
			}
			return n
		}
		p, size := utf8.DecodeLastRuneInString(chunk[:last])
		before := chunk[:last-size]
		q, _ := utf8.DecodeLastRuneInString(before)
		if unicode.IsLower(p) || unicode.IsDigit(p) || strings.ContainsRune("%²-+'\"()[]{}<>…,:;!?_#*&”“’`", p) || isCJK(p) ||
			unicode.IsUpper(p) && before != "" && unicode.IsUpper(q) {
			return 1
		}
	case c == 's' || c == 'S':
		if strings.HasSuffix(chunk[:last], "'") && last > 1 {
			return 2
		}
		if strings.HasSuffix(chunk[:last], "’") && last > 3 {
			return 1 + len("’")
		}
	case affix[c] && c != '$' && c != '=' && c != '~' && c != '%':
		return 1
	case c == '%' || c == '+' || c == '$':
		if last > 0 && chunk[last-1] >= '0' && chunk[last-1] <= '9' {
			return 1
		}
	}
	return unit(chunk)
}

// units are the measures that are cut off a number.
var units = strings.Fields("km² km³ km m² m³ dm² dm³ dm cm² cm³ cm mm² mm³ mm ha µm nm yd in ft kg mg µg g t lb oz m/s km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K m %")

// unit is the length of a measure that a number ends in.
func unit(chunk string) int {
	const longest = len("km/h") // in bytes
	if !strings.ContainsFunc(chunk[max(0, len(chunk)-longest-1):], func(r rune) bool { return '0' <= r && r <= '9' }) {
		return 0
	}
	for _, u := range units {
		if rest, ok := strings.CutSuffix(chunk, u); ok && rest != "" && rest[len(rest)-1] >= '0' && rest[len(rest)-1] <= '9' {
			return len(u)
		}
	}
	return 0
}

// infix is the length of the mark at byte i that a piece is cut at, 0: none.
func infix(chunk string, i int) int {
	c := chunk[i]
	if c < utf8.RuneSelf && (isASCIILetter(c) || '0' <= c && c <= '9') {
		return 0
	}
	r, n := utf8.DecodeRuneInString(chunk[i:])
	if r == '…' {
		return n
	}
	if c == '.' {
		if dots := ellipsis(chunk[i:]); dots > 0 {
			return dots
		}
	}
	if i == 0 || i+n >= len(chunk) {
		return 0
	}
	before, _ := utf8.DecodeLastRuneInString(chunk[:i])
	after, _ := utf8.DecodeRuneInString(chunk[i+n:])
	digit := before >= '0' && before <= '9'
	switch {
	case r == '-' || r == '–' || r == '—' || r == '~':
		for n < len(chunk)-i && chunk[i+n] == '-' && r == '-' { // "--" is one mark
			n++
			after, _ = utf8.DecodeRuneInString(chunk[i+n:])
		}
		if (unicode.IsLetter(before) || digit) && unicode.IsLetter(after) || r == '-' && digit && (after >= '0' && after <= '9') {
			return n
		}
	case strings.ContainsRune("+*^", r):
		if digit && (after >= '0' && after <= '9' || after == '-') {
			return n
		}
	case r == '.':
		if (unicode.IsLower(before) || before == '"' || before == '\'') && (unicode.IsUpper(after) || after == '"' || after == '\'') {
			return n
		}
	case r == ',':
		if unicode.IsLetter(before) && unicode.IsLetter(after) {
			return n
		}
	case strings.ContainsRune(":<>=/", r):
		if (unicode.IsLetter(before) || digit) && unicode.IsLetter(after) {
			return n
		}
	}
	return 0
}
