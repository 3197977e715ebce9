package dedup

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"

	"github.com/zeebo/xxh3"
)

// StatsFile is the name of a file with [Stats], beside the verdicts.
const StatsFile = "clusters.json"

// Stats says what was found. As clusters.json it lies beside the verdicts.
type Stats struct {
	Documents  int64 `json:"documents"`  // in all
	Clusters   int64 `json:"clusters"`   // of two documents or more
	Exact      int64 `json:"exact"`      // documents that go as exact duplicates
	Near       int64 `json:"near"`       // documents that go as near-duplicates
	Paragraphs int64 `json:"paragraphs"` // that are cut out of documents that stay
	// Sizes counts clusters by the number of their documents: 2 to 3, 4 to 7, 8 to 15, …
	Sizes   []SizeCount `json:"sizes"`
	Largest []Cluster   `json:"largest"` // the 20 largest, in that order
}

// SizeCount is a bar of the histogram of cluster sizes.
type SizeCount struct {
	From     int64 `json:"from"`
	To       int64 `json:"to"` // inclusive
	Clusters int64 `json:"clusters"`
}

// Cluster is a set of documents that are duplicates of each other.
type Cluster struct {
	Number  int64    `json:"number"` // from 1, in the order of first members
	Size    int64    `json:"size"`
	Kept    string   `json:"kept"`              // SOURCE:ID of the document that stays
	Dropped []string `json:"dropped,omitempty"` // of the first ten that go
}

const (
	statsFile = StatsFile
	largest   = 20
	samples   = 10
)

// Cluster is the third phase: documents that are duplicates, directly or through others, are one cluster, of which the best
// document is kept. matched are the folders of all parts; out is a folder that exists and is empty. It takes some 80 bytes of
// memory for each document that has a duplicate.
func (c Config) Cluster(ctx context.Context, signed, matched []string, out string) (Stats, error) {
	f := forest{node: map[uint64]int{}}
	for _, dir := range matched {
		if err := f.read(ctx, filepath.Join(dir, edgeFile)); err != nil {
			return Stats{}, err
		}
	}
	f.settle()
	s := newSignatures(signed, c.MinHash)
	defer s.close()
	var stats Stats
	for _, dir := range signed {
		info, err := os.Stat(filepath.Join(dir, nameIndexFile))
		if err != nil {
			return Stats{}, err
		}
		stats.Documents += info.Size() / 8
	}
	cuts := newSorter(out, int64(c.Memory))
	for _, dir := range matched {
		if err := f.cuts(ctx, filepath.Join(dir, paragraphFile), cuts); err != nil {
			return Stats{}, err
		}
	}
	if err := cuts.flush(); err != nil {
		return Stats{}, err
	}
	if err := c.writeVerdicts(ctx, out, len(signed), &f, s, cuts.runs, &stats); err != nil {
		return Stats{}, err
	}
	if err := f.describe(s, &stats); err != nil {
		return Stats{}, err
	}
	return stats, createFile(filepath.Join(out, statsFile), func(w *bufio.Writer) error {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(stats)
	})
}

// forest is a union–find over the documents that have a duplicate.
type forest struct {
	node   map[uint64]int // document → index into the others
	id     []uint64
	score  []float32
	exact  []bool // lost against an exact duplicate
	parent []int
	size   []int64 // of the tree, at its root

	// After settle:
	order   []int   // nodes by document
	best    []int   // of each root: the node that is kept
	cluster []int64 // of each root: its number, from 1
}

// read joins the ends of all edges of a file.
func (f *forest) read(ctx context.Context, path string) error {
	return readFixed(ctx, path, edgeSize, func(b []byte) error {
		e := parseEdge(b)
		w, l := f.at(e.winner, e.winnerScore), f.at(e.loser, e.loserScore)
		if e.kind == exactKey {
			f.exact[l] = true
		}
		f.union(w, l)
		return nil
	})
}

func (f *forest) at(id uint64, score float32) int {
	n, ok := f.node[id]
	if !ok {
		n = len(f.id)
		f.node[id] = n
		f.id = append(f.id, id)
		f.score = append(f.score, score)
		f.exact = append(f.exact, false)
		f.parent = append(f.parent, n)
		f.size = append(f.size, 1)
	}
	return n
}

func (f *forest) find(n int) int {
	for f.parent[n] != n {
		f.parent[n] = f.parent[f.parent[n]]
		n = f.parent[n]
	}
	return n
}

func (f *forest) union(a, b int) {
	a, b = f.find(a), f.find(b)
	if a == b {
		return
	}
	if f.size[a] < f.size[b] {
		a, b = b, a
	}
	f.parent[b] = a
	f.size[a] += f.size[b]
}

// settle names the clusters and the document of each that is kept. Neither depends on the order of the edges.
func (f *forest) settle() {
	f.order = make([]int, len(f.id))
	f.best = make([]int, len(f.id))
	f.cluster = make([]int64, len(f.id))
	for n := range f.order {
		f.order[n], f.best[n] = n, -1
	}
	slices.SortFunc(f.order, func(a, b int) int { return cmp.Compare(f.id[a], f.id[b]) })
	clusters := int64(0)
	for _, n := range f.order {
		root := f.find(n)
		if f.cluster[root] == 0 {
			clusters++
			f.cluster[root] = clusters
		}
		if b := f.best[root]; b < 0 || better(f.score[n], f.id[n], f.score[b], f.id[b]) {
			f.best[root] = n
		}
	}
}

// goes reports whether a document is dropped.
func (f *forest) goes(id uint64) bool {
	n, ok := f.node[id]
	return ok && f.best[f.find(n)] != n
}

// cuts picks, of each group of equal paragraphs, those that are cut out: all but one of those in documents that stay.
func (f *forest) cuts(ctx context.Context, path string, out *sorter) error {
	var best record
	have := false
	return readFixed(ctx, path, paragraphSize, func(b []byte) error {
		r := record{
			id: binary.LittleEndian.Uint64(b), sub: binary.LittleEndian.Uint32(b[8:]),
			score: math.Float32frombits(binary.LittleEndian.Uint32(b[12:])),
		}
		// Sorted by key, so the key is the place.
		r.key = xxh3.Uint128{Hi: r.id, Lo: uint64(r.sub)}
		if binary.LittleEndian.Uint32(b[16:]) == 1 {
			have = false
		}
		switch {
		case f.goes(r.id):
			return nil
		case !have:
			best, have = r, true
			return nil
		case r.id != best.id && better(r.score, r.id, best.score, best.id):
			r, best = best, r
		}
		return out.add(r)
	})
}

// readFixed calls each with the records of a file of fixed-size ones.
func readFixed(ctx context.Context, path string, size int, each func([]byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, bufferSize)
	b := make([]byte, size)
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := io.ReadFull(in, b); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read %s: %w; remove the folder and run the step again", path, err)
		}
		if err := each(b); err != nil {
			return err
		}
	}
}

// writeVerdicts writes one file of verdicts for each input file.
func (c Config) writeVerdicts(ctx context.Context, out string, files int, f *forest, s *signatures, runs int, stats *Stats) error {
	paths, err := runsOf([]string{out})
	if err != nil {
		return err
	}
	if len(paths) != runs {
		return fmt.Errorf("cluster: %s is not an empty folder", out)
	}
	next, stop := iter.Pull2(allParts(ctx, paths, out))
	defer stop()
	w := verdictWriter{forest: f, signatures: s, stats: stats, next: next}
	w.cut, w.err, w.cutting = next()
	for file := range uint32(files) {
		if err := createFile(verdictPath(out, file), func(b *bufio.Writer) error { return w.write(c, file, b) }); err != nil {
			return err
		}
	}
	if w.cutting || w.at < len(f.order) {
		return errors.New("cluster: the matched folders name files that the signed ones do not have: they are not of one run")
	}
	for _, path := range paths {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// verdictWriter merges the documents of clusters with the paragraphs to cut, both in the order of documents.
type verdictWriter struct {
	*forest
	signatures *signatures
	stats      *Stats
	at         int // of forest.order: the next document of a cluster
	next       func() (record, error, bool)
	cut        record // the next paragraph, where cutting
	cutting    bool
	err        error // of reading it
}

// write writes the verdicts on a file, after the settings.
func (w *verdictWriter) write(c Config, file uint32, b *bufio.Writer) error {
	e := json.NewEncoder(b)
	if err := e.Encode(c); err != nil {
		return err
	}
	for {
		id, ok := w.document()
		if w.err != nil || !ok || uint32(id>>32) != file {
			return w.err
		}
		v := verdict{Index: uint32(id)}
		if w.at < len(w.order) && w.id[w.order[w.at]] == id {
			if err := w.verdict(&v, w.order[w.at], w.signatures, w.stats); err != nil {
				return err
			}
			w.at++
		}
		for w.err == nil && w.cutting && w.cut.id == id {
			v.Cut = append(v.Cut, w.cut.sub)
			w.stats.Paragraphs++
			w.cut, w.err, w.cutting = w.next()
		}
		if err := e.Encode(v); err != nil {
			return err
		}
	}
}

// document is the next document that has a verdict.
func (w *verdictWriter) document() (id uint64, ok bool) {
	switch clustered := w.at < len(w.order); {
	case clustered && w.cutting:
		return min(w.id[w.order[w.at]], w.cut.id), true
	case clustered:
		return w.id[w.order[w.at]], true
	}
	return w.cut.id, w.cutting
}

func allParts(ctx context.Context, runs []string, temp string) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		for part := range parts {
			records, cleanup, err := merged(ctx, runs, part, temp)
			if err != nil {
				yield(record{}, err)
				return
			}
			for r, err := range records {
				if !yield(r, err) || err != nil {
					cleanup()
					return
				}
			}
			cleanup()
		}
	}
}

// verdict fills in what the cluster of a node means for it.
func (f *forest) verdict(v *verdict, n int, s *signatures, stats *Stats) error {
	root := f.find(n)
	kept := f.best[root]
	v.Cluster = f.cluster[root]
	if kept == n {
		return nil
	}
	of, err := s.name(f.id[kept])
	if err != nil {
		return err
	}
	v.Of = of
	if f.exact[n] {
		v.Reason, v.Similarity = Exact, 1
		stats.Exact++
		return nil
	}
	v.Reason = Near
	stats.Near++
	a, err := s.of(f.id[n])
	if err != nil {
		return err
	}
	b, err := s.of(f.id[kept])
	v.Similarity = similarity(a, b)
	return err
}

// describe fills in the figures about clusters.
func (f *forest) describe(s *signatures, stats *Stats) error {
	sizes := map[int]int64{} // by the number of bits
	var roots []int
	for n := range f.id {
		if f.parent[n] == n {
			roots = append(roots, n)
			sizes[bits.Len64(uint64(f.size[n]))]++
		}
	}
	stats.Clusters = int64(len(roots))
	for b := range 64 {
		if n := sizes[b]; n > 0 {
			stats.Sizes = append(stats.Sizes, SizeCount{From: 1 << (b - 1), To: 1<<b - 1, Clusters: n})
		}
	}
	slices.SortFunc(roots, func(a, b int) int {
		return cmp.Or(cmp.Compare(f.size[b], f.size[a]), cmp.Compare(f.cluster[a], f.cluster[b]))
	})
	shown := map[int]*Cluster{}
	stats.Largest = make([]Cluster, min(largest, len(roots)))
	for i := range stats.Largest {
		root := roots[i]
		kept, err := s.name(f.id[f.best[root]])
		if err != nil {
			return err
		}
		stats.Largest[i] = Cluster{Number: f.cluster[root], Size: f.size[root], Kept: kept}
		shown[root] = &stats.Largest[i]
	}
	for _, n := range f.order {
		root := f.find(n)
		if c := shown[root]; c != nil && n != f.best[root] && len(c.Dropped) < samples {
			name, err := s.name(f.id[n])
			if err != nil {
				return err
			}
			c.Dropped = append(c.Dropped, name)
		}
	}
	return nil
}
