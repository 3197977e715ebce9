package generate

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// letters decodes token n as the n-th piece.
type letters []string

func (l letters) Next(id uint32) string { return l[id] }
func (l letters) Flush() string         { return "" }

// TestText: however the text is cut into tokens, what comes out is the text up to the first stop string, and nothing that
// came out is part of one.
func TestText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching("[ab.]{0,30}").Draw(t, "text")
		stops := rapid.SliceOfN(rapid.StringMatching("[ab.]{0,4}"), 0, 3).Draw(t, "stops")
		var pieces letters
		var ids []uint32
		for rest := text; rest != ""; {
			n := rapid.IntRange(0, min(4, len(rest))).Draw(t, "cut")
			pieces, rest = append(pieces, rest[:n]), rest[n:]
			ids = append(ids, uint32(len(ids)))
		}
		want := text
		for _, stop := range stops {
			if stop == "" {
				continue
			}
			if before, _, found := strings.Cut(text, stop); found && len(before) < len(want) {
				want = before
			}
		}
		x := NewText(pieces, stops)
		got := ""
		for _, id := range ids {
			got += x.Add([]uint32{id})
			if !strings.HasPrefix(want, got) {
				t.Fatalf("shown %q of %q", got, want)
			}
		}
		got += x.End()
		if got != want || x.Stopped() != (want != text) {
			t.Fatalf("%q (stopped %v), want %q", got, x.Stopped(), want)
		}
	})
}
