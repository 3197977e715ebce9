package pii

import (
	"iter"
	"net/netip"
	"strings"
)

func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func isWord(c byte) bool   { return isLetter(c) || isDigit(c) }

// emails finds addresses around their @.
func emails(text string, found []Span) []Span {
	for at := 0; ; {
		i := strings.IndexByte(text[at:], '@')
		if i < 0 {
			return found
		}
		i += at
		at = i + 1
		start, end := i, i+1
		for start > 0 && (isWord(text[start-1]) || strings.IndexByte("._%+-", text[start-1]) >= 0) {
			start--
		}
		for end < len(text) && (isWord(text[end]) || text[end] == '.' || text[end] == '-') {
			end++
		}
		for start < i && strings.IndexByte("._%+-", text[start]) >= 0 {
			start++
		}
		domain := strings.TrimRight(text[i+1:end], ".-")
		dot := strings.LastIndexByte(domain, '.')
		if start == i || dot <= 0 || len(domain)-dot < 3 || strings.Contains(domain, "..") || strings.ContainsFunc(domain[dot+1:], func(r rune) bool { return r > 'z' || !isLetter(byte(r)) }) {
			continue
		}
		at = i + 1 + len(domain)
		found = append(found, Span{Email, start, at})
	}
}

// numbers finds what is made of digits.
func numbers(text string, found []Span) []Span {
	for i := 0; i < len(text); i++ {
		if !isDigit(text[i]) {
			continue
		}
		start, end := i, i+1
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		i = end // what follows the run is no digit
		if start > 0 && (isLetter(text[start-1]) || text[start-1] == '_') || start > 1 && text[start-1] == '.' && isDigit(text[start-2]) {
			continue // a part of a name, or of a number seen already
		}
		if s, ok := number(text, start, end); ok {
			found = append(found, s)
			i = s.End
		}
	}
	return found
}

// number judges the run of digits text[start:end], which may go on with marks and more digits.
func number(text string, start, end int) (Span, bool) {
	digits := end - start
	after := byte(0)
	if end < len(text) {
		after = text[end]
	}
	plus := start > 0 && text[start-1] == '+'
	switch {
	case digits <= 3 && after == '.' && !plus:
		return address(text, start)
	case digits == 3 && after == '-' && !plus && socialSecurity(text, start):
		return Span{ID, start, start + len("000-00-0000")}, true
	case digits == 17 && (after == 'X' || after == 'x') && resident(text[start:end+1]):
		return Span{ID, start, end + 1}, !continues(text, end+1)
	case continues(text, end):
		return Span{}, false
	case digits == 18 && resident(text[start:end]):
		return Span{ID, start, end}, true
	case digits == 11 && !plus && text[start] == '1' && text[start+1] >= '3':
		return Span{Phone, start, end}, true
	case digits == 13 && text[start:start+3] == "861" && text[start+3] >= '3':
		if plus {
			start--
		}
		return Span{Phone, start, end}, true
	case digits >= 13 && digits <= 19 && !plus && luhn(text[start:end]):
		return Span{Card, start, end}, true
	}
	return grouped(text, start, plus)
}

// continues reports whether a number goes on after its digits, as a word or with decimals.
func continues(text string, end int) bool {
	if end >= len(text) {
		return false
	}
	return isLetter(text[end]) || text[end] == '_' || text[end] == '.' && end+1 < len(text) && isDigit(text[end+1])
}

// grouped finds numbers written in groups: +86 138 0013 8000, 138-0013-8000, 4111 1111 1111 1111.
func grouped(text string, start int, plus bool) (Span, bool) {
	var digits [24]byte
	n, end, groups := 0, start, 0
	for at := start; at < len(text) && n < len(digits); {
		if isDigit(text[at]) {
			if at == start || !isDigit(text[at-1]) {
				groups++
			}
			digits[n] = text[at]
			n++
			at++
			end = at
			continue
		}
		gap := at
		for gap < len(text) && gap-at < 2 && strings.IndexByte(" -()", text[gap]) >= 0 {
			gap++
		}
		if gap == at || gap == len(text) || !isDigit(text[gap]) {
			break
		}
		at = gap
	}
	if continues(text, end) || end < len(text) && isDigit(text[end]) {
		return Span{}, false
	}
	s := string(digits[:n])
	switch {
	case plus && n >= 9 && n <= 15 && (groups > 1 || n >= 10):
		return Span{Phone, start - 1, end}, true
	case groups == 3 && n == 11 && s[0] == '1' && s[1] >= '3' && isDigit(text[start+2]) && !isDigit(text[start+3]):
		return Span{Phone, start, end}, true
	case groups >= 4 && n >= 15 && n <= 19 && (s[0] >= '3' && s[0] <= '6') && luhn(s):
		return Span{Card, start, end}, true
	}
	return Span{}, false
}

// address finds an IPv4 address that can be reached from outside; one after a "v" or with a fifth number is a version.
func address(text string, start int) (Span, bool) {
	end, dots := start, 0
	for end < len(text) && (isDigit(text[end]) || text[end] == '.' && end+1 < len(text) && isDigit(text[end+1])) {
		if text[end] == '.' {
			dots++
		}
		end++
	}
	if dots != 3 || continues(text, end) {
		return Span{}, false
	}
	a, err := netip.ParseAddr(text[start:end])
	if err != nil || a.IsPrivate() || a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() || text[start] == '0' || !a.IsGlobalUnicast() {
		return Span{}, false
	}
	before := text[max(0, start-10):start]
	if strings.Contains(strings.ToLower(before), "version") {
		return Span{}, false
	}
	return Span{IP, start, end}, true
}

// allocated is where the public addresses of IPv6 lie, documented those of examples.
var allocated, documented = netip.MustParsePrefix("2000::/3"), netip.MustParsePrefix("2001:db8::/32")

// addresses6 finds IPv6 addresses that can be reached from outside, around their colons. Of three groups or more: x[2000::2] is a
// slice of Python's.
func addresses6(text string, found []Span) []Span {
	part := func(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' || c == ':' || c == '.' }
	for at := 0; ; {
		i := strings.IndexByte(text[at:], ':')
		if i < 0 {
			return found
		}
		start, end := at+i, at+i+1
		for start > at && part(text[start-1]) {
			start--
		}
		for end < len(text) && part(text[end]) {
			end++
		}
		at = end
		if text[start] == ':' && text[start+1:end] != "" && text[start+1] != ':' {
			start++ // IP:2a00:…
		}
		full := end
		for end > start && (text[end-1] == '.' || text[end-1] == ':' && !strings.HasSuffix(text[start:end], "::")) {
			end--
		}
		if s := text[start:end]; len(s) < len("2000:0:0::") || full == end && end < len(text) && (isWord(text[end]) || text[end] == '_') ||
			start > 0 && (isWord(text[start-1]) || text[start-1] == '_') || strings.Count(strings.Trim(strings.ReplaceAll(s, "::", ":"), ":"), ":") < 2 {
			continue
		}
		if a, err := netip.ParseAddr(text[start:end]); err == nil && allocated.Contains(a) && !documented.Contains(a) {
			found = append(found, Span{IP, start, end})
		}
	}
}

// socialSecurity reports whether text[start:] begins with a US number that may have been given out.
func socialSecurity(text string, start int) bool {
	const form = "000-00-0000"
	if start+len(form) > len(text) || start > 0 && (isDigit(text[start-1]) || text[start-1] == '-') {
		return false
	}
	s := text[start : start+len(form)]
	for i := range len(form) {
		if (form[i] == '-') != (s[i] == '-') || form[i] == '0' && !isDigit(s[i]) {
			return false
		}
	}
	next := start + len(form)
	return s[:3] != "000" && s[:3] != "666" && s[0] != '9' && s[4:6] != "00" && s[7:] != "0000" &&
		(next == len(text) || !isWord(text[next]) && text[next] != '-')
}

// resident checks a Chinese identity number (GB 11643): a date of birth at place 7, and a checksum modulo 11.
func resident(s string) bool {
	weights := [17]int{7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2}
	sum := 0
	for i, w := range weights {
		sum += int(s[i]-'0') * w
	}
	year, month, day := s[6:10], s[10:12], s[12:14]
	last := s[17]
	if last == 'x' {
		last = 'X'
	}
	return s[0] != '0' && year >= "1900" && year <= "2099" && month >= "01" && month <= "12" && day >= "01" && day <= "31" && "10X98765432"[sum%11] == last
}

// luhn checks a card number, which also does not begin with 0 nor consist of one digit.
func luhn(s string) bool {
	if s[0] < '3' || s[0] > '6' || strings.Count(s, s[:1]) == len(s) {
		return false
	}
	sum := 0
	for i := range len(s) {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// tokens are beginnings of keys that services give out, and how many characters follow at least.
var tokens = []struct {
	prefix string
	least  int
}{
	{"AKIA", 16}, {"ASIA", 16}, {"ghp_", 36}, {"gho_", 36}, {"ghs_", 36}, {"github_pat_", 40}, {"glpat-", 20}, {"hf_", 30}, {"sk-", 32}, {"sk_live_", 20},
	{"rk_live_", 20}, {"AIza", 35}, {"xoxb-", 24}, {"xoxp-", 24}, {"npm_", 36}, {"pypi-", 40}, {"LTAI", 16}, {"AKID", 32}, {"SG.", 40}, {"eyJ", 60},
}

// keys finds private keys and tokens.
func keys(text string, found []Span) []Span {
	const begin, end = "-----BEGIN ", " PRIVATE KEY-----"
	for at := 0; ; {
		i := strings.Index(text[at:], begin)
		if i < 0 {
			break
		}
		start := at + i
		at = start + len(begin)
		head := strings.Index(text[at:min(len(text), at+60)], "PRIVATE KEY-----")
		if head < 0 {
			continue
		}
		stop := len(text)
		if j := strings.Index(text[at:], "-----END "); j >= 0 {
			stop = at + j
			if k := strings.Index(text[stop:], end); k >= 0 && k < 60 {
				stop += k + len(end)
			}
		}
		found = append(found, Span{Key, start, stop})
		at = stop
	}
	for start, end := range runs(text) {
		found = tokensIn(text, start, end, found)
	}
	return found
}

// shortestToken is the least of prefix and what follows it, of all tokens.
const shortestToken = 20

// inToken is what tokens are made of.
var inToken = func() (t [256]bool) {
	for c := range t {
		t[c] = isWord(byte(c)) || c == '_' || c == '-' || c == '.'
	}
	return t
}()

// runs are the places of a text that could hold tokens: runs of shortestToken bytes of inToken or more. It looks at the last byte that a run
// must have first, and so at one byte in four of prose.
func runs(text string) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		for start := 0; start+shortestToken <= len(text); {
			last := start + shortestToken - 1
			for last >= start && inToken[text[last]] {
				last--
			}
			if last >= start {
				start = last + 1
				continue
			}
			end := start + shortestToken
			for end < len(text) && inToken[text[end]] {
				end++
			}
			if !yield(start, end) {
				return
			}
			start = end
		}
	}
}

// tokensIn finds tokens in a run of inToken.
func tokensIn(text string, from, to int, found []Span) []Span {
	for _, t := range tokens {
		for at := from; ; {
			i := strings.Index(text[at:to], t.prefix)
			if i < 0 {
				break
			}
			start := at + i
			end := start + len(t.prefix)
			for end < to && (text[end] != '.' || t.least >= 40) {
				end++
			}
			at = end
			if end-start-len(t.prefix) >= t.least && (start == 0 || !isWord(text[start-1])) && mixed(text[start+len(t.prefix):end]) {
				found = append(found, Span{Key, start, end})
			}
		}
	}
	return found
}

// mixed reports whether a string has letters and digits, as random ones have and names have not.
func mixed(s string) bool {
	digits, letters := 0, 0
	for i := range len(s) {
		if isDigit(s[i]) {
			digits++
		} else if isLetter(s[i]) {
			letters++
		}
	}
	return digits >= 2 && letters >= 2
}
