package pack_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pretrain/data/pack"
)

type mask map[int]bool // by document

func (m mask) ReadMask(dst []bool, doc, _ int) error {
	for i := range dst {
		dst[i] = m[doc]
	}
	return nil
}

func TestRowRead(t *testing.T) {
	c := newCorpus(10, 10, 10)
	segments := []pack.Segment{{Doc: 1, Offset: 7, Len: 3}, {Doc: 0, Offset: 0, Len: 2}}
	for _, tt := range []struct {
		name string
		o    pack.Options
		loss []float32
	}{
		// Inputs are 1007 1008 1009 0 1 pad pad; targets 1008 1009 0 1 pad pad pad.
		{"all", pack.Options{Pad: 5}, []float32{1, 1, 1, 1, 0, 0, 0}},
		{"boundary", pack.Options{Pad: 5, MaskBoundary: true}, []float32{1, 1, 0, 1, 0, 0, 0}},
		{"assistant", pack.Options{Pad: 5, Mask: mask{0: true}}, []float32{0, 0, 1, 1, 0, 0, 0}},
	} {
		r := pack.NewRow(7)
		for i := range r.Loss { // what a row held before does not show through
			r.Loss[i], r.Segments[i], r.Positions[i] = 9, 9, 9
		}
		if err := r.Read(c, segments, tt.o); err != nil {
			t.Fatal(err)
		}
		want := &pack.Row{
			Tokens:   []uint32{1007, 1008, 1009, 0, 1, 5, 5, 5},
			Segments: []int32{1, 1, 1, 2, 2, 0, 0}, Positions: []int32{0, 1, 2, 0, 1, 0, 0}, Loss: tt.loss,
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// A full row's last token is a target only.
func TestFullRow(t *testing.T) {
	r := pack.NewRow(3)
	if err := r.Read(newCorpus(3, 9), []pack.Segment{{Doc: 0, Offset: 0, Len: 3}, {Doc: 1, Offset: 0, Len: 1}}, pack.Options{}); err != nil {
		t.Fatal(err)
	}
	want := &pack.Row{Tokens: []uint32{0, 1, 2, 1000}, Segments: []int32{1, 1, 1}, Positions: []int32{0, 1, 2}, Loss: []float32{1, 1, 1}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The rest of a document that was cut is not predicted from the document before it: its first token was a target already.
func TestRestFollowsNothing(t *testing.T) {
	r := pack.NewRow(4)
	if err := r.Read(newCorpus(3, 9), []pack.Segment{{Doc: 0, Offset: 0, Len: 3}, {Doc: 1, Offset: 4, Len: 2}}, pack.Options{}); err != nil {
		t.Fatal(err)
	}
	want := &pack.Row{Tokens: []uint32{0, 1, 2, 1004, 1005}, Segments: []int32{1, 1, 1, 2}, Positions: []int32{0, 1, 2, 0}, Loss: []float32{1, 1, 0, 1}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

var errGone = errors.New("shard removed")

type gone struct{ corpus }

func (gone) Read([]uint32, int, int) error   { return errGone }
func (gone) ReadMask([]bool, int, int) error { return errGone }

func TestRowReadErrors(t *testing.T) {
	c := newCorpus(5, 5)
	one := []pack.Segment{{Doc: 1, Offset: 2, Len: 3}}
	if err := pack.NewRow(4).Read(gone{c}, one, pack.Options{}); !errors.Is(err, errGone) || !strings.Contains(err.Error(), "tokens 2 to 5 of document 1") {
		t.Errorf("error is %v", err)
	}
	if err := pack.NewRow(4).Read(c, one, pack.Options{Mask: gone{}}); !errors.Is(err, errGone) {
		t.Errorf("error is %v", err)
	}
	if err := pack.NewRow(1).Read(c, one, pack.Options{}); err == nil {
		t.Error("a segment longer than the row is taken")
	}
}

func TestSlice(t *testing.T) {
	row := []pack.Segment{{Doc: 4, Offset: 10, Len: 3}, {Doc: 2, Offset: 0, Len: 4}, {Doc: 7, Offset: 1, Len: 2}}
	for _, tt := range []struct {
		from, n int
		want    []pack.Segment
	}{
		{0, 9, row},
		{0, 3, row[:1]},
		{2, 3, []pack.Segment{{Doc: 4, Offset: 12, Len: 1}, {Doc: 2, Offset: 0, Len: 2}}},
		{4, 2, []pack.Segment{{Doc: 2, Offset: 1, Len: 2}}},
		{7, 5, row[2:]},
		{9, 1, nil},
	} {
		if diff := cmp.Diff(tt.want, pack.Slice(nil, row, tt.from, tt.n)); diff != "" {
			t.Errorf("tokens %d to %d (-want +got):\n%s", tt.from, tt.from+tt.n, diff)
		}
	}
}
