package synth

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/zeebo/xxh3"
	"gonum.org/v1/gonum/floats"

	"pretrain/data/ngram"
	"pretrain/internal/prng"
)

// Topic is a cluster of documents.
type Topic struct {
	Number    int      `json:"number"` // from 1; the largest first
	Documents int      `json:"documents"`
	Terms     []string `json:"terms"`    // the words that tell it from others, the strongest first
	Examples  []string `json:"examples"` // ids of the documents nearest to its middle

	extracts []string // beginnings of its documents, nearest first
}

// Name is the topic's words in one line.
func (t Topic) Name() string { return strings.Join(t.Terms, ", ") }

// seed is a document to be clustered.
type seed struct {
	hash    uint64
	id      string
	extract string
	vector  vector
	best    int     // cluster
	near    float64 // cosine with its middle
}

// vector is a sparse unit vector.
type vector struct {
	at    []int32
	value []float64
}

func (v vector) dot(dense []float64) (sum float64) {
	for i, at := range v.at {
		sum += v.value[i] * dense[at]
	}
	return sum
}

const (
	topicBytes  = 8 << 10 // of a document decide its topic
	maxExamples = 5
	maxExtracts = 1000 // of a topic that are kept
	// maxTerms bounds the words that are counted for names; beyond it new ones stay nameless.
	maxTerms = 2_000_000
)

// findTopics clusters documents: spherical k-means, with k-means++ to begin with, over TF-IDF vectors of unit length. The outcome depends on the
// documents and c only.
func findTopics(ctx context.Context, documents iter.Seq2[Document, error], limit int, c Topics, extract int) ([]Topic, error) {
	seeds, err := choose(ctx, documents, limit, extract)
	if err != nil {
		return nil, err
	}
	v := newVocabulary(c.Dimensions)
	counts := make([]map[int32]float64, len(seeds))
	for i, s := range seeds {
		counts[i] = v.count(s.extract)
	}
	used := seeds[:0]
	for i, s := range seeds {
		if s.vector = v.vector(counts[i], len(seeds)); len(s.vector.at) > 0 {
			s.extract = runes(s.extract, extract)
			used = append(used, s)
		}
	}
	if len(used) < c.Count {
		return nil, fmt.Errorf("%d documents with words for %d topics: lower topics.count, or give more seeds", len(used), c.Count)
	}
	middles, err := kMeans(ctx, used, c)
	if err != nil {
		return nil, err
	}
	return v.topics(used, middles, c.Terms), nil
}

// Document is a document to take a topic from.
type Document struct{ ID, Text string }

// choose keeps the documents with the lowest hashes of their texts, sorted by them.
func choose(ctx context.Context, documents iter.Seq2[Document, error], limit, extract int) ([]seed, error) {
	var seeds []seed
	byHash := func(a, b seed) int { return cmp.Or(cmp.Compare(a.hash, b.hash), strings.Compare(a.id, b.id)) }
	for d, err := range documents {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		// The beginning, which names the topic, and at least what an extract needs of it.
		text := strings.ToValidUTF8(d.Text[:min(len(d.Text), topicBytes+4*extract)], "")
		seeds = append(seeds, seed{hash: xxh3.HashString(d.Text), id: d.ID, extract: text})
		if len(seeds) >= 2*limit+1024 {
			slices.SortFunc(seeds, byHash)
			seeds = seeds[:limit]
		}
	}
	slices.SortFunc(seeds, byHash)
	return seeds[:min(len(seeds), limit)], nil
}

// vocabulary counts in how many documents words are.
type vocabulary struct {
	dimensions int
	documents  []int            // with a word of the dimension
	terms      map[string]int32 // documents with the word
}

func newVocabulary(dimensions int) *vocabulary {
	return &vocabulary{dimensions: dimensions, documents: make([]int, dimensions), terms: map[string]int32{}}
}

func (v *vocabulary) dimension(term string) int32 {
	return int32(xxh3.HashString(term) % uint64(v.dimensions))
}

// count counts the words of a text by dimension.
func (v *vocabulary) count(text string) map[int32]float64 {
	counts := map[int32]float64{}
	seen := map[string]bool{}
	eachTerm(text[:min(len(text), topicBytes)], func(term string) {
		counts[v.dimension(term)]++
		if !seen[term] {
			seen[term] = true
			if _, ok := v.terms[term]; ok || len(v.terms) < maxTerms {
				v.terms[term]++
			}
		}
	})
	for d := range counts {
		v.documents[d]++
	}
	return counts
}

// eachTerm calls f with the words of a text: in lower case, of three letters or more, and pairs of neighbouring CJK characters.
func eachTerm(text string, f func(string)) {
	start, before := -1, ""
	word := func(end int) {
		if start >= 0 && end-start >= 3 && end-start <= 40 {
			f(strings.ToLower(text[start:end]))
		}
		start = -1
	}
	for i, r := range text {
		switch {
		case ngram.IsCJK(r):
			word(i)
			char := string(r)
			if before != "" {
				f(before + char)
			}
			before = char
			continue
		case !unicode.IsLetter(r) && !unicode.IsMark(r):
			word(i)
		case start < 0:
			start = i
		}
		before = ""
	}
	word(len(text))
}

// vector weighs counts: (1 + ln tf)·ln(N/df), to unit length.
func (v *vocabulary) vector(counts map[int32]float64, n int) vector {
	var x vector
	for d, count := range counts {
		if idf := math.Log(float64(n) / float64(v.documents[d])); idf > 0 && v.documents[d] > 1 {
			x.at = append(x.at, d)
			x.value = append(x.value, (1+math.Log(count))*idf)
		}
	}
	// In the order of dimensions, so that sums are the same each time.
	order := make([]int, len(x.at))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(x.at[a], x.at[b]) })
	sorted := vector{make([]int32, len(order)), make([]float64, len(order))}
	for i, o := range order {
		sorted.at[i], sorted.value[i] = x.at[o], x.value[o]
	}
	if norm := floats.Norm(sorted.value, 2); norm > 0 {
		floats.Scale(1/norm, sorted.value)
	}
	return sorted
}

// kMeans assigns seeds to clusters and returns the clusters' middles, of unit length.
func kMeans(ctx context.Context, seeds []seed, c Topics) ([][]float64, error) {
	middles := begin(seeds, c)
	for range c.Iterations {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		moved := assign(seeds, middles)
		if moved == 0 {
			break
		}
		for _, m := range middles {
			clear(m)
		}
		for _, s := range seeds {
			for i, at := range s.vector.at {
				middles[s.best][at] += s.vector.value[i]
			}
		}
		for k, m := range middles {
			norm := floats.Norm(m, 2)
			if norm == 0 { // nobody's: it starts again at the document that fits worst
				worst := 0
				for i := range seeds {
					if seeds[i].near < seeds[worst].near {
						worst = i
					}
				}
				seeds[worst].near, seeds[worst].best = 1, k
				for i, at := range seeds[worst].vector.at {
					m[at] = seeds[worst].vector.value[i]
				}
				continue
			}
			floats.Scale(1/norm, m)
		}
	}
	assign(seeds, middles)
	return middles, nil
}

// begin chooses the first middles by k-means++ (Arthur and Vassilvitskii 2007): each a document, the likelier the farther it is from
// those before.
func begin(seeds []seed, c Topics) [][]float64 {
	key := prng.New(c.Seed).Split("topics")
	distance := make([]float64, len(seeds))
	for i := range distance {
		distance[i] = 1
	}
	var middles [][]float64
	for k := range c.Count {
		target := key.Float64At(uint64(k)) * floats.Sum(distance)
		at := 0
		for sum := distance[0]; sum <= target && at+1 < len(seeds); sum += distance[at] {
			at++
		}
		middle := make([]float64, c.Dimensions)
		for i, d := range seeds[at].vector.at {
			middle[d] = seeds[at].vector.value[i]
		}
		middles = append(middles, middle)
		parallel(len(seeds), func(i int) {
			distance[i] = max(0, min(distance[i], 1-seeds[i].vector.dot(middle)))
		})
	}
	for i := range seeds {
		seeds[i].best = -1
	}
	return middles
}

// assign gives each document to the nearest middle, and returns how many changed.
func assign(seeds []seed, middles [][]float64) int {
	changed := make([]bool, len(seeds))
	parallel(len(seeds), func(i int) {
		s := &seeds[i]
		best, near := 0, math.Inf(-1)
		for k, m := range middles {
			if x := s.vector.dot(m); x > near {
				best, near = k, x
			}
		}
		changed[i] = best != s.best
		s.best, s.near = best, near
	})
	n := 0
	for _, c := range changed {
		if c {
			n++
		}
	}
	return n
}

// parallel calls f with 0 to n-1 on all cores.
func parallel(n int, f func(i int)) {
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := n * w / workers; i < n*(w+1)/workers; i++ {
				f(i)
			}
		})
	}
	wg.Wait()
}

// topics describes the clusters, the largest first.
func (v *vocabulary) topics(seeds []seed, middles [][]float64, terms int) []Topic {
	mean := make([]float64, v.dimensions)
	for _, m := range middles {
		floats.AddScaled(mean, 1/float64(len(middles)), m)
	}
	// The most common word of each dimension names it.
	names := make([]string, v.dimensions)
	for term, n := range v.terms {
		d := v.dimension(term)
		if old := names[d]; old == "" || n > v.terms[old] || n == v.terms[old] && term < old {
			names[d] = term
		}
	}
	members := make([][]seed, len(middles))
	for _, s := range seeds {
		members[s.best] = append(members[s.best], s)
	}
	var topics []Topic
	for k, m := range middles {
		if len(members[k]) == 0 {
			continue
		}
		slices.SortStableFunc(members[k], func(a, b seed) int { return cmp.Compare(b.near, a.near) })
		t := Topic{Documents: len(members[k]), Terms: []string{}}
		for i, s := range members[k] {
			if i < maxExamples {
				t.Examples = append(t.Examples, s.id)
			}
			if i < maxExtracts {
				t.extracts = append(t.extracts, s.extract)
			}
		}
		excess := floats.SubTo(make([]float64, len(m)), m, mean)
		order := make([]int, len(m))
		floats.Argsort(excess, order)
		for i := len(order) - 1; i >= 0 && len(t.Terms) < terms && excess[i] > 0; i-- {
			if name := names[order[i]]; name != "" {
				t.Terms = append(t.Terms, name)
			}
		}
		topics = append(topics, t)
	}
	slices.SortStableFunc(topics, func(a, b Topic) int {
		return cmp.Or(cmp.Compare(b.Documents, a.Documents), strings.Compare(a.Name(), b.Name()))
	})
	for i := range topics {
		topics[i].Number = i + 1
	}
	return topics
}

// runes is the first n characters of a text, without a broken word at the end where there is a space to cut at.
func runes(text string, n int) string {
	for i := range text {
		if n--; n < 0 {
			cut := text[:i]
			if space := strings.LastIndexFunc(cut, unicode.IsSpace); space > len(cut)*3/4 {
				cut = cut[:space]
			}
			return strings.TrimSpace(cut)
		}
	}
	return strings.TrimSpace(text)
}
