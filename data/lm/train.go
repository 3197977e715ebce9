package lm

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
)

// Train estimates a model of a reference set. Texts beyond c.MaxTrain units are not asked for. progress, which may be nil, is told the units
// read and, once they are counted, the n-grams. The same texts in the same order give the same model.
func Train(ctx context.Context, texts iter.Seq2[string, error], c Config, progress func(units, grams int)) (*Model, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	var all []uint64 // the texts one after another, each after a begin
	n := 0
	for text, err := range texts {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		before := len(all) + 1
		all = c.tokens(append(all, begin), text, before+c.MaxTrain-n)
		n += len(all) - before
		progress(n, 0)
		if n >= c.MaxTrain {
			break
		}
	}
	if n == 0 {
		return nil, errors.New("the reference set has no text")
	}
	if err := forgetRare(all, c.MinCount); err != nil {
		return nil, err
	}
	k := counts{order: c.Order, table: newTable(4 * n)}
	for i := 0; i < len(all); {
		next := i + 1
		for next < len(all) && all[next] != begin {
			next++
		}
		k.text(all[i:next])
		i = next
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		progress(n, len(k.grams))
	}
	return k.estimate(c, n)
}

// forgetRare makes units that occur fewer than min times unknown.
func forgetRare(all []uint64, min int) error {
	if min == 1 {
		return nil
	}
	seen := newTable(len(all) / 16)
	for _, u := range all {
		if s := seen.at(u); s.key != 0 {
			s.value++
		} else {
			seen.put(u, 1)
		}
	}
	known := false
	for i, u := range all {
		if u == begin {
			continue
		}
		if seen.at(u).value < uint64(min) {
			all[i] = unknown
		} else {
			known = true
		}
	}
	if !known {
		return fmt.Errorf("no word of the reference set occurs %d times: give more text, or set min_count to 1", min)
	}
	return nil
}

// counts are the n-grams of the reference set.
type counts struct {
	order int
	table *table // an n-gram's hash → its index in grams
	grams []gram
}

// gram is an n-gram that occurs, h·w.
type gram struct {
	hash uint64
	// count is, of the highest order and of n-grams that begin with begin, how often it occurs; of others, how many different
	// units stand before it (Kneser and Ney 1995).
	count   uint32
	context uint32 // index of h
	suffix  uint32 // index of the n-gram without its first unit
	order   uint8
}

const none = math.MaxUint32

// text counts the n-grams of a text that starts with begin.
func (k *counts) text(units []uint64) {
	before := make([]uint32, 0, k.order) // the n-grams that end at the unit before, by order from 1
	var now []uint32
	for i, u := range append(slices.Clip(units), end) {
		now = now[:0]
		hash := extend(0, u)
		for n := 1; n <= min(k.order, i+1); n++ {
			if n > 1 {
				hash = extend(hash, units[i-n+1])
			}
			s := k.table.at(hash)
			isNew := s.key == 0
			if isNew {
				g := gram{hash: hash, order: uint8(n), context: none, suffix: none}
				if n > 1 {
					g.context, g.suffix = before[n-2], now[n-2]
				}
				k.table.put(hash, uint64(len(k.grams)))
				now = append(now, uint32(len(k.grams)))
				k.grams = append(k.grams, g)
			} else {
				now = append(now, uint32(s.value))
			}
			if n == k.order || n == i+1 {
				k.grams[now[n-1]].count++
			}
			if isNew && n > 1 {
				k.grams[now[n-2]].count++
			}
		}
		before, now = now, before
	}
}

// discounts are what is taken from counts of 1, 2, and 3 or more.
type discounts [4]float64

// estimate computes the probabilities: p(w|h) = (c(hw) - D(c(hw)))/Σc(h·) + γ(h) p(w|h'), where γ(h) gives away what was discounted and h' is h
// without its first unit; below one unit all are equally likely.
func (k *counts) estimate(c Config, trained int) (*Model, error) {
	// begin is the context of a text's first unit and never predicted itself.
	beginIndex := uint32(k.table.at(extend(0, begin)).value)
	k.grams[beginIndex].count = 0

	var ofCount [maxOrder + 1][5]float64 // n-grams of each order that have count 1 to 4
	for _, g := range k.grams {
		if g.count >= 1 && g.count <= 4 {
			ofCount[g.order][g.count]++
		}
	}
	var d [maxOrder + 1]discounts
	for n := 1; n <= k.order; n++ {
		d[n] = discountsOf(ofCount[n])
	}

	type context struct{ total, given float64 }
	contexts := make([]context, len(k.grams))
	var root context // of the empty context
	words := 1.0     // the unknown one
	for _, g := range k.grams {
		at := &root
		if g.order > 1 {
			at = &contexts[g.context]
		} else if g.count > 0 && g.hash != extend(0, unknown) {
			words++
		}
		at.total += float64(g.count)
		at.given += d[g.order][min(g.count, 3)]
	}
	m := &Model{header: header{Version: format.Version, Config: c, Trained: trained, Grams: len(k.grams)}}
	probabilities := make([]float64, len(k.grams))
	m.entries = make([]entry, 0, len(k.grams)+1)
	m.entries = append(m.entries, entry{hash: 0, logP: float32(math.Log(root.given / root.total / words))}) // the unknown word, if it has no count
	// An n-gram's suffix and context stand before it in the list, so their values are there already.
	for i, g := range k.grams {
		at, lower := root, 1/words
		if g.order > 1 {
			at, lower = contexts[g.context], probabilities[g.suffix]
		}
		probabilities[i] = (float64(g.count)-d[g.order][min(g.count, 3)])/at.total + at.given/at.total*lower
		e := entry{hash: g.hash, logP: float32(math.Log(probabilities[i]))}
		if ctx := contexts[i]; ctx.total > 0 {
			e.logBackoff = float32(math.Log(ctx.given / ctx.total))
		}
		m.entries = append(m.entries, e)
	}
	m.index()
	return m, nil
}

// discountsOf are Chen and Goodman's estimates from the numbers of n-grams with count 1 to 4; where those are too few to tell, KenLM's
// fallback of 0.5, 1 and 1.5.
func discountsOf(n [5]float64) discounts {
	fallback := discounts{0, 0.5, 1, 1.5}
	if n[1] == 0 || n[2] == 0 || n[3] == 0 {
		return fallback
	}
	y := n[1] / (n[1] + 2*n[2])
	d := discounts{0, 1 - 2*y*n[2]/n[1], 2 - 3*y*n[3]/n[2], 3 - 4*y*n[4]/n[3]}
	for i := 1; i < len(d); i++ {
		if d[i] < 0 || d[i] > float64(i) {
			return fallback
		}
	}
	return d
}
