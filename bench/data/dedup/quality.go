package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"pretrain/data"
	"pretrain/data/dedup"
	"pretrain/internal/prng"
)

// settings are what is compared.
var settings = []struct {
	name   string
	change func(*dedup.MinHash)
}{
	{"FineWeb's: 5-grams, 14x8", func(*dedup.MinHash) {}},
	{"3-grams, 40x3, threshold 20%", func(c *dedup.MinHash) { c.NGram, c.Bands, c.Rows, c.Threshold = 3, 40, 3, 0.2 }},
	{"2-grams, 128x2, threshold 20%", func(c *dedup.MinHash) { c.NGram, c.Bands, c.Rows, c.Threshold = 2, 128, 2, 0.2 }},
}

// injected makes copies of documents with 10 to 40% of their words edited, and looks how many are found.
func injected(ctx context.Context, files []string) error {
	records, err := readAll(ctx, files)
	if err != nil {
		return err
	}
	key := prng.New(1).Split("injected")
	if records, err = distinct(ctx, records); err != nil {
		return err
	}
	vocabulary := make([][]string, len(records)) // where insertions and replacements come from, each from another document
	for i, r := range records {
		vocabulary[i] = wordsOf(r.Text)
	}
	fmt.Printf("%d documents of 100 to 500 words, a third with an edited copy. Documents that have a near-duplicate of their own are left out.\n\n", len(records))
	fmt.Println("| setting | edits | part edited | Jaccard, mean | recall by the S-curve | recall | precision | F1 |")
	fmt.Println("|---|---|---:|---:|---:|---:|---:|---:|")
	for _, s := range settings {
		c := dedup.Default()
		s.change(&c.MinHash)
		for _, kind := range []string{"block", "scattered"} {
			for _, part := range []float64{0.1, 0.2, 0.3, 0.4, 0} {
				docs, truth, jaccard, curve := inject(records, vocabulary, c, kind, part, key)
				got, err := clusters(ctx, c, docs)
				if err != nil {
					return err
				}
				p, r, f1 := pairs(got, truth)
				name := fmt.Sprintf("%.0f%%", 100*part)
				if part == 0 {
					name = "10–40%"
				}
				fmt.Printf("| %s | %s | %s | %.2f | %.3f | %.3f | %.3f | **%.3f** |\n", s.name, kind, name, jaccard, curve, r, p, f1)
			}
		}
	}
	return nil
}

// distinct cuts documents to 500 words, and leaves out those below 100 and all but one of those that are alike already: so that what is
// found is what was injected.
func distinct(ctx context.Context, records []record) ([]record, error) {
	var cut []record
	for _, r := range records {
		if words := wordsOf(r.Text); len(words) >= 100 {
			r.Text = strings.Join(words[:min(len(words), 500)], "")
			cut = append(cut, r)
		}
	}
	c := dedup.Default()
	c.MinHash.NGram, c.MinHash.Bands, c.MinHash.Rows, c.MinHash.Threshold = 3, 128, 2, 0.12
	got, err := clusters(ctx, c, documents(cut))
	if err != nil {
		return nil, err
	}
	seen := map[int]bool{}
	var kept []record
	for i, r := range cut {
		if got[i] == 0 || !seen[got[i]] {
			kept = append(kept, r)
		}
		seen[got[i]] = true
	}
	return kept, nil
}

// inject returns the documents and an edited copy of every third one; truth numbers the documents that belong
// together. jaccard is the mean similarity of document and copy, curve the mean of what the S-curve makes of it.
func inject(records []record, vocabulary [][]string, c dedup.Config, kind string, part float64, key prng.Key) (docs []data.Document, truth []int, jaccard, curve float64) {
	var texts []string
	copies := 0
	for i, r := range records {
		original := r.Text
		texts, truth = append(texts, original), append(truth, i)
		if i%3 != 0 {
			continue
		}
		words := vocabulary[i]
		k := key.Split(kind).SplitN(uint64(i))
		p := part
		if p == 0 {
			p = 0.1 + 0.3*k.Float64At(1<<40)
		}
		edited := strings.Join(edit(words, vocabulary, kind, p, k), "")
		s := c.MinHash.Jaccard(original, edited)
		jaccard, curve, copies = jaccard+s, curve+c.MinHash.Candidate(s), copies+1
		texts, truth = append(texts, edited), append(truth, i)
	}
	for i, text := range texts {
		docs = append(docs, data.Document{ID: fmt.Sprint(i), Source: "bench", Text: text})
	}
	return docs, truth, jaccard / float64(copies), curve / float64(copies)
}

// wordsOf splits a text into words with the space and punctuation after each; a CJK character is a word.
func wordsOf(text string) []string {
	var words []string
	start, inWord := 0, false
	for i, r := range text {
		wide := unicode.In(r, unicode.Han)
		letter := unicode.IsLetter(r) || unicode.IsDigit(r)
		if wide || letter && !inWord {
			if i > start {
				words = append(words, text[start:i])
			}
			start = i
		}
		inWord = letter && !wide
	}
	return append(words, text[start:])
}

// edit changes the part p of the words: deletes, inserts or replaces, a third each. block edits in stretches of 20 words, as revisions
// and other pages' boilerplate do; scattered one word at a time, as noise and paraphrase do.
func edit(words []string, vocabulary [][]string, kind string, p float64, k prng.Key) []string {
	length := 1
	if kind == "block" {
		length = 20
	}
	var out []string
	n := uint64(0)
	for at := 0; at < len(words); at += length {
		stretch := words[at:min(at+length, len(words))]
		n += 3
		if k.Float64At(n) >= p {
			out = append(out, stretch...)
			continue
		}
		other := vocabulary[k.Uint64At(n+2)%uint64(len(vocabulary))]
		from := int(k.Uint64At(n+1)>>8) % len(other)
		foreign := other[from:min(from+len(stretch), len(other))]
		switch k.Uint64At(n+1) % 3 {
		case 0:
		case 1:
			out = append(append(out, foreign...), stretch...)
		default:
			out = append(out, foreign...)
		}
	}
	return out
}

// clusters are the cluster numbers of documents; those alone have 0.
func clusters(ctx context.Context, c dedup.Config, docs []data.Document) ([]int, error) {
	dir, err := os.MkdirTemp("", "dedup")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c.Mode = data.Tag
	c.Exact = false
	signed := filepath.Join(dir, "signed")
	if err := os.Mkdir(signed, 0o755); err != nil {
		return nil, err
	}
	s, err := dedup.NewSigner(signed, 0, c)
	if err != nil {
		return nil, err
	}
	for i := range docs {
		if err := s.Add(uint32(i), &docs[i]); err != nil {
			return nil, err
		}
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	var matched []string
	for part := range c.Parts() {
		m := filepath.Join(dir, fmt.Sprint(part))
		matched = append(matched, m)
		if err := os.Mkdir(m, 0o755); err != nil {
			return nil, err
		}
		if err := c.Match(ctx, part, []string{signed}, m); err != nil {
			return nil, err
		}
	}
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return nil, err
	}
	if _, err := c.Cluster(ctx, []string{signed}, matched, out); err != nil {
		return nil, err
	}
	v, err := dedup.OpenVerdicts(out, 0)
	if err != nil {
		return nil, err
	}
	numbers := make([]int, len(docs))
	for i := range docs {
		v.Apply(uint32(i), &docs[i])
		n, _ := docs[i].Number("dedup.cluster")
		numbers[i] = int(n)
	}
	return numbers, nil
}

// pairs compares clusters with the truth by the pairs of documents that are together.
func pairs(got, truth []int) (precision, recall, f1 float64) {
	right, found, all := 0, 0, 0
	for i := range got {
		for j := range i {
			same := truth[i] == truth[j]
			together := got[i] > 0 && got[i] == got[j]
			if same {
				all++
			}
			if together {
				found++
			}
			if same && together {
				right++
			}
		}
	}
	precision, recall = float64(right)/float64(max(found, 1)), float64(right)/float64(max(all, 1))
	return precision, recall, 2 * float64(right) / float64(max(found+all, 1))
}

// revisions looks how well documents of the same repository, which are revisions of the same book, are found.
func revisions(ctx context.Context, files []string) error {
	records, err := readAll(ctx, files)
	if err != nil {
		return err
	}
	var truth []int
	var names []string
	// A listing of a server's folder, filed under a book's name: not a revision of the book.
	records = slices.DeleteFunc(records, func(r record) bool { return strings.HasSuffix(r.Source, "old/pandp09.txt") })
	for _, r := range records {
		name := strings.Join(strings.SplitN(r.Source, "/", 3)[:2], "/")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		truth = append(truth, slices.Index(names, name))
	}
	docs := documents(records)
	fmt.Printf("%d files of %d books.\n\n", len(records), len(names))
	fmt.Println("| setting | precision | recall | F1 |\n|---|---:|---:|---:|")
	for _, s := range settings {
		c := dedup.Default()
		s.change(&c.MinHash)
		got, err := clusters(ctx, c, docs)
		if err != nil {
			return err
		}
		p, r, f1 := pairs(got, truth)
		fmt.Printf("| %s | %.3f | %.3f | **%.3f** |\n", s.name, p, r, f1)
	}
	return nil
}
