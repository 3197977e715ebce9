package quality

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"pretrain/data"
)

// The reasons of the rules of repetition. Those of n-grams are "top_N_gram" and "duplicated_N_n_grams".
const (
	DupParagraphs     data.Reason = "dup_para_frac"
	DupParagraphChars data.Reason = "dup_para_char_frac"
	DupLines          data.Reason = "dup_line_frac"
	DupLineChars      data.Reason = "dup_line_char_frac"
)

const (
	firstTop   = 2 // n of the first of TopNgrams
	firstNgram = 5 // n of the first of Ngrams
)

// repetition is a step.
type repetition struct {
	Repetition
	units Units
	words *Words
	sums  []uint64 // polynomial hashes of the words up to each, and the power of the base
	chars []int    // characters of the words up to each
	live  []int32  // where n-grams begin that occur more than once
	first []int32  // where the n-gram at each of live occurs first
	times []int32  // how often the n-gram occurs that occurs first at each word
	top   []string // names and reasons, made once
	dup   []string
}

// Step judges documents, with words to cut them.
func (r Repetition) Step(units Units, w *Words) data.Step {
	s := &repetition{Repetition: r, units: units, words: w}
	for i := range r.TopNgrams {
		s.top = append(s.top, fmt.Sprintf("top_%d_gram", firstTop+i))
	}
	for i := range r.Ngrams {
		s.dup = append(s.dup, fmt.Sprintf("duplicated_%d_n_grams", firstNgram+i))
	}
	return s
}

// Apply judges one document.
func (r *repetition) Apply(d *data.Document) (data.Reason, string) {
	text := d.Text
	list := r.words.of(text, r.units)
	all := r.words.chars
	v := verdicts{d: d, mode: r.Mode, name: "repetition"}
	n, again, chars := duplicates(&r.words.set, trim(text), 2)
	if reason, detail := v.of([]figure{over("paragraphs", ratio(again, n), r.Paragraphs, DupParagraphs), over("paragraph_chars", ratio(chars, all), r.ParagraphChars, DupParagraphChars)}); reason != "" {
		return reason, detail
	}
	n, again, chars = duplicates(&r.words.set, text, 1)
	if reason, detail := v.of([]figure{over("lines", ratio(again, n), r.Lines, DupLines), over("line_chars", ratio(chars, all), r.LineChars, DupLineChars)}); reason != "" {
		return reason, detail
	}
	factor := 1
	if r.words.units == Char {
		factor = charsOfWord
	}
	r.prepare(list)
	for i, limit := range r.TopNgrams {
		n := (firstTop + i) * factor
		if reason, detail := v.of([]figure{over(r.top[i], ratio(r.mostFrequent(n, factor == 1), all), limit, data.Reason(r.top[i]))}); reason != "" {
			return reason, detail
		}
	}
	if len(r.TopNgrams) > firstNgram-firstTop {
		r.prepare(list) // it has been narrowed by longer ones than these
	}
	r.narrow(firstNgram * factor)
	for i, limit := range r.Ngrams {
		if reason, detail := v.of([]figure{over(r.dup[i], ratio(r.repeated((firstNgram+i)*factor), all), limit, data.Reason(r.dup[i]))}); reason != "" {
			return reason, detail
		}
	}
	return "", ""
}

// duplicates splits a text at runs of least line feeds or more. It returns the number of pieces, of those that occurred before,
// and the characters of the latter.
func duplicates(set *table, text string, least int) (n, again, chars int) {
	set.reset(strings.Count(text, "\n") + 1)
	for start := 0; ; {
		end, next := len(text), len(text)+1
		for at := start; at < len(text); {
			i := strings.IndexByte(text[at:], '\n')
			if i < 0 {
				break
			}
			i += at
			run := i
			for run < len(text) && text[run] == '\n' {
				run++
			}
			if run-i >= least {
				end, next = i, run
				break
			}
			at = run
		}
		piece := text[start:end]
		n++
		if set.seen(xxh3.HashString(piece)) {
			again++
			chars += utf8.RuneCountInString(piece)
		}
		if next > len(text) {
			return n, again, chars
		}
		start = next
	}
}

// base of the polynomial that makes an n-gram's hash of its words' hashes, modulo 2^64: any odd number.
const base = 0x9fb21c651e98df25

// prepare sums up the words, so that the hash and the length of any n-gram are a subtraction.
func (r *repetition) prepare(list []word) {
	r.sums, r.chars, r.live = append(r.sums[:0], 0), append(r.chars[:0], 0), r.live[:0]
	sum, chars := uint64(0), 0
	for i, w := range list {
		sum = sum*base + w.hash
		chars += w.chars
		r.sums, r.chars, r.live = append(r.sums, sum), append(r.chars, chars), append(r.live, int32(i))
	}
}

func power(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= base
	}
	return p
}

// narrow leaves in live where those n-grams begin that occur more than once: no longer one occurs twice anywhere else, so that there is
// less to look at for each length. It returns where the commonest n-gram begins first, and how often it occurs.
func (r *repetition) narrow(n int) (at, most int) {
	words := len(r.sums) - 1
	for len(r.live) > 0 && int(r.live[len(r.live)-1])+n > words {
		r.live = r.live[:len(r.live)-1]
	}
	set, p := &r.words.set, power(n)
	set.reset(len(r.live))
	r.first, r.times = r.first[:0], slices.Grow(r.times[:0], words)[:words]
	for _, i := range r.live {
		first, found := set.at(r.sums[int(i)+n] - r.sums[i]*p)
		if !found {
			*first, r.times[i] = i, 0
		}
		r.times[*first]++
		r.first = append(r.first, *first)
	}
	most = 1
	live := r.live[:0]
	for k, i := range r.live {
		times := int(r.times[r.first[k]])
		if times > 1 {
			live = append(live, i)
		}
		if times > most {
			at, most = int(i), times
		}
	}
	r.live = live
	return at, most
}

// mostFrequent is the characters in all occurrences of the commonest n-gram, the spaces within it counted.
func (r *repetition) mostFrequent(n int, spaced bool) int {
	if len(r.sums)-1 < n {
		return 0
	}
	at, most := r.narrow(n)
	chars := r.chars[at+n] - r.chars[at]
	if spaced {
		chars += n - 1
	}
	return chars * most
}

// repeated is the characters in n-grams that occurred before, counted without overlap.
func (r *repetition) repeated(n int) int {
	words := len(r.sums) - 1
	set, p, chars, next := &r.words.set, power(n), 0, 0
	set.reset(len(r.live))
	for _, start := range r.live {
		i := int(start)
		if i+n > words {
			break
		}
		if i >= next && set.seen(r.sums[i+n]-r.sums[i]*p) {
			chars += r.chars[i+n] - r.chars[i]
			next = i + n
		}
	}
	return chars
}
