package tokenizer

import "unicode/utf8"

// Stream decodes one token at a time without cutting a character in two: a character may need several tokens. What Next
// and Flush return, joined, is [Vocab.Decode] of the ids. Not safe for concurrent use.
type Stream struct {
	vocab   *Vocab
	pending []byte // an unfinished character, at most three bytes
	started bool
}

// Stream starts decoding a text.
func (v *Vocab) Stream() *Stream { return &Stream{vocab: v} }

// Next adds a token and returns the characters it completes, often none. Bytes that can no longer become a character are
// returned as they are.
func (s *Stream) Next(id uint32) string {
	piece := s.vocab.Bytes(id)
	if !s.started && piece != "" {
		s.started = true
		if s.vocab.trimSpace && piece[0] == ' ' {
			piece = piece[1:]
		}
	}
	text := append(s.pending, piece...)
	n := len(text) - unfinished(text)
	done := string(text[:n])
	s.pending = append(s.pending[:0], text[n:]...)
	return done
}

// Flush ends the text and returns the bytes of an unfinished character.
func (s *Stream) Flush() string {
	rest := string(s.pending)
	s.pending, s.started = s.pending[:0], false
	return rest
}

// unfinished is the number of bytes at the end of text that begin a character and lack the rest of it.
func unfinished(text []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(text); n++ {
		tail := text[len(text)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
