package tokenizer

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// decoder is tokenizer.json's description of how tokens become text.
type decoder struct {
	Type     string    `json:"type"`
	Decoders []decoder `json:"decoders"` // of a Sequence
	Content  string    `json:"content"`  // of Replace and Strip
	Start    int       `json:"start"`    // of Strip: how many to take off the front
}

// piece returns the function from a token to its bytes, and whether decoded text begins with a space to take off.
func (d decoder) piece() (decode func(token string) string, trimSpace bool, err error) {
	steps := []decoder{d}
	if d.Type == "Sequence" {
		steps = d.Decoders
	}
	has := func(want func(decoder) bool) bool { return slices.ContainsFunc(steps, want) }
	switch {
	case has(func(s decoder) bool { return s.Type == "ByteLevel" }):
		return byteLevel, false, nil
	case has(func(s decoder) bool { return s.Type == "ByteFallback" }):
		return sentencePiece, has(func(s decoder) bool { return s.Type == "Strip" && s.Content == " " && s.Start > 0 }), nil
	}
	return nil, false, fmt.Errorf("tokenizer.json has a decoder of type %q, this program reads ByteLevel, and Sequence with ByteFallback", d.Type)
}

// alphabetByte maps GPT-2's byte alphabet back to bytes: printable Latin-1 stands for itself, the other bytes follow from
// U+0100 up (github.com/openai/gpt-2, encoder.py, bytes_to_unicode).
var alphabetByte = func() map[rune]byte {
	m := make(map[rune]byte, byteTokens)
	next := rune(0x100)
	for b := range rune(byteTokens) {
		if b >= 0x21 && b <= 0x7E || b >= 0xA1 && b <= 0xAC || b >= 0xAE {
			m[b] = byte(b)
		} else {
			m[next] = byte(b)
			next++
		}
	}
	return m
}()

// byteLevel reads each character of the token as a byte. A token with any other character is text as it stands.
func byteLevel(token string) string {
	piece := make([]byte, 0, len(token))
	for _, r := range token {
		b, ok := alphabetByte[r]
		if !ok {
			return token
		}
		piece = append(piece, b)
	}
	return string(piece)
}

// sentencePiece reads "<0x0A>" as a byte and "▁" as a space.
func sentencePiece(token string) string {
	if len(token) == len("<0x00>") && strings.HasPrefix(token, "<0x") && token[5] == '>' {
		if b, err := hex.DecodeString(token[3:5]); err == nil {
			return string(b)
		}
	}
	return strings.ReplaceAll(token, "▁", " ")
}
