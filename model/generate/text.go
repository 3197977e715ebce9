package generate

import "strings"

// Decoder turns tokens into text, one at a time, never half a character; tokenizer.Stream is one.
type Decoder interface {
	// Next adds a token and returns the characters it completes.
	Next(id uint32) string
	// Flush ends the text and returns what is left of an unfinished character.
	Flush() string
}

// Text makes text of tokens as they come, up to a stop string, which is not part of it.
type Text struct {
	decoder Decoder
	stops   []string
	held    string // may be the beginning of a stop string
	stopped bool
}

// NewText begins a text that ends before the first of the stop strings; empty ones do not count.
func NewText(d Decoder, stops []string) *Text {
	t := &Text{decoder: d}
	for _, s := range stops {
		if s != "" {
			t.stops = append(t.stops, s)
		}
	}
	return t
}

// Add adds tokens and returns the text that is certain to be in the result. After a stop string there is no more.
func (t *Text) Add(tokens []uint32) string {
	var out strings.Builder
	for _, token := range tokens {
		out.WriteString(t.add(t.decoder.Next(token)))
	}
	return out.String()
}

// Stopped reports whether a stop string ended the text.
func (t *Text) Stopped() bool { return t.stopped }

// End ends the text and returns the rest of it.
func (t *Text) End() string {
	rest := t.add(t.decoder.Flush())
	if !t.stopped {
		rest += t.held
	}
	t.held = ""
	return rest
}

func (t *Text) add(piece string) string {
	if t.stopped || piece == "" {
		return ""
	}
	text := t.held + piece
	first := -1
	for _, stop := range t.stops {
		if i := strings.Index(text, stop); i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	if first >= 0 {
		t.stopped, t.held = true, ""
		return text[:first]
	}
	keep := 0
	for _, stop := range t.stops {
		for n := min(len(stop)-1, len(text)); n > keep; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				keep = n
			}
		}
	}
	t.held = text[len(text)-keep:]
	return text[:len(text)-keep]
}
