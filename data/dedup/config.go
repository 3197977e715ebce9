// Package dedup finds documents and paragraphs that occur more than once, in a corpus of any size with bounded memory.
//
// Three kinds of duplicate are found in one pass over the text:
//
//   - exact: the same text, but for case and white space (XXH3, 128 bits);
//   - near: most of the same n-grams of words, by MinHash and locality-sensitive hashing (Broder 1997; the setting of
//     FineWeb: 5-grams, 14 bands of 8 hashes);
//   - paragraph: a long paragraph that another document has, too (CCNet, Wenzek et al. 2019). It is cut out.
//
// The work is four phases; each is a function of files and can run anywhere, in any order within its phase, twice:
//
//	Signer   one per input file, many at once   text → sorted runs of (key, document)
//	Match    one per part of the key space      runs → pairs of documents that share a key
//	Cluster  once                               pairs → connected components, and which document of each is kept
//	Verdicts one per input file                 what to do with each of its documents
//
// Each writes into an empty folder of its own. Nothing here is synced: the caller (package exec) syncs the files and commits
// the folder by renaming it.
//
// A document is known by its number: the file's in the upper 32 bits, its index within the file in the lower ones. The outcome
// depends on the texts, their numbers and the [Config], and on nothing else.
package dedup

import (
	"slices"

	"pretrain/data"
	"pretrain/data/ngram"
	"pretrain/internal/problem"
	"pretrain/internal/units"
)

// The reasons for which a document is dropped here.
const (
	Exact      data.Reason = "dup_exact"     // the text of a document that is kept, but for case and white space
	Near       data.Reason = "dup_near"      // in a cluster of near-duplicates, another of which is kept
	Paragraphs data.Reason = "dup_paragraph" // nothing was left when duplicate paragraphs had been cut out
)

// Scope says between which documents duplicates are looked for.
type Scope string

// The scopes.
const (
	All    Scope = "all"    // between all documents
	Source Scope = "source" // between documents of the same source only
)

// Split says what a paragraph is.
type Split string

// The ways to split a text into paragraphs.
const (
	Line  Split = "line"  // each line is one, as in text extracted from web pages
	Block Split = "block" // blank lines part them, as in hard-wrapped text
)

// Config says which duplicates are looked for and which copy is kept. Start from [Default].
type Config struct {
	// Mode is what is done with duplicates. tag drops nothing: dedup.cluster and dedup.kept become attributes, and
	// paragraphs stay. Default filter.
	Mode data.Mode `yaml:"mode" json:"mode"`
	// Scope is all, or source: documents of different sources are never duplicates of each other. Default all.
	Scope Scope `yaml:"scope" json:"scope"`
	// Keep names the numeric attribute that decides which document of a cluster is kept: the highest; without it, or among
	// equals, the first. Default none: the first in the order of sources and files.
	Keep string `yaml:"keep" json:"keep"`
	// Exact looks for exact duplicates. Default true.
	Exact bool `yaml:"exact" json:"exact"`
	// MinHash looks for near-duplicates.
	MinHash MinHash `yaml:"minhash" json:"minhash"`
	// Paragraph looks for paragraphs that several documents have.
	Paragraph Paragraph `yaml:"paragraph" json:"paragraph"`
	// Memory bounds what one Signer, or one Match, sorts at a time; beyond it, sorted runs go to disk. Default 64MiB, some
	// 150,000 documents.
	Memory units.Bytes `yaml:"memory" json:"memory"`
}

// MinHash is the setting of the near-duplicate search. Two documents whose sets of n-grams have the Jaccard similarity s
// become candidates with probability 1-(1-s^rows)^bands, see [MinHash.Candidate].
type MinHash struct {
	// Enabled looks for near-duplicates. Default true.
	Enabled bool `yaml:"enabled" json:"enabled"`
	// Chat looks for them among conversations, too. Default false, exact duplicates only: what conversations have in common, a long
	// system prompt or the wording of a task, is often most of their text, and what they differ in is what they are for.
	Chat bool `yaml:"chat" json:"chat"`
	// NGram is the number of consecutive words that are one feature; a CJK character counts as a word. Default 5 (FineWeb).
	// Scattered edits destroy n features each: 3 finds documents that are edited more heavily.
	NGram int `yaml:"ngram" json:"ngram"`
	// Bands is the number of chances to be a candidate. Default 14 (FineWeb): the curve is steepest at 0.72.
	Bands int `yaml:"bands" json:"bands"`
	// Rows is the number of hashes that must agree in one band. Default 8 (FineWeb).
	Rows int `yaml:"rows" json:"rows"`
	// Threshold drops candidates whose similarity, estimated from all bands·rows hashes, is lower. Default 0: every candidate
	// is a duplicate, as in FineWeb. Set it when rows are few and candidates many.
	Threshold units.Fraction `yaml:"threshold" json:"threshold"`
	// Seed of the hash functions. Default 1, datatrove's.
	Seed uint64 `yaml:"seed" json:"seed"`
}

// Paragraph is the setting of the search for duplicate paragraphs.
type Paragraph struct {
	// Enabled cuts duplicate paragraphs. Default false: it takes formulas, licences and refrains, too.
	Enabled bool `yaml:"enabled" json:"enabled"`
	// Split is line or block. Default line (CCNet, DCLM).
	Split Split `yaml:"split" json:"split"`
	// MinChars is the length from which on a paragraph counts, in characters. Default 100: headings, braces and short
	// sentences recur everywhere and mean nothing.
	MinChars int `yaml:"min_chars" json:"min_chars"`
}

// Default is exact duplicates and FineWeb's MinHash, over all sources, the first kept.
func Default() Config {
	return Config{
		Mode: data.Filter, Scope: All, Exact: true, Memory: 64 << 20,
		MinHash:   MinHash{Enabled: true, NGram: 5, Bands: 14, Rows: 8, Seed: 1},
		Paragraph: Paragraph{Split: Line, MinChars: 100},
	}
}

// maxHashes bounds bands·rows: a signature is kept for every document.
const maxHashes = 1 << 12

// Validate reports every problem at once, as joined [problem.Problem] errors.
func (c Config) Validate() error {
	var p problem.List
	p.Check(c.Mode.Valid(), "mode", c.Mode, "off, filter or tag")
	p.Check(slices.Contains([]Scope{All, Source}, c.Scope), "scope", c.Scope, "all or source")
	p.Check(c.Memory >= 1<<20, "memory", c.Memory, "at least 1MiB")
	m := c.MinHash
	p.Check(m.NGram >= 1 && m.NGram <= ngram.Max, "minhash.ngram", m.NGram, "1 to %d", ngram.Max)
	p.Check(m.Bands >= 1 && m.Rows >= 1 && m.Bands <= maxHashes && m.Rows <= maxHashes && m.Bands*m.Rows <= maxHashes,
		"minhash.bands", m.Bands, "bands and rows of at least 1 whose product is at most %d (rows are %d)", maxHashes, m.Rows)
	p.Check(m.Threshold >= 0 && m.Threshold <= 1, "minhash.threshold", m.Threshold, "0%% to 100%%")
	p.Check(slices.Contains([]Split{Line, Block}, c.Paragraph.Split), "paragraph.split", c.Paragraph.Split, "line or block")
	p.Check(c.Paragraph.MinChars >= 1, "paragraph.min_chars", c.Paragraph.MinChars, "at least 1")
	return p.Err()
}

// Parts is the number of parts of the key space, each the work of one Match. It is fixed, so that the files of a run do not
// depend on the number of workers.
func (Config) Parts() int { return parts }

const parts = 1 << partBits

const partBits = 4
