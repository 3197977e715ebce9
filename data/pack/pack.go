// Package pack cuts documents into rows of fixed length, and rows into the arrays a training step takes: tokens, segment
// ids, positions that start again with each document, and the loss mask.
//
// # From documents to rows
//
// A source is n documents, N tokens in all. A [Layout] says which pieces of which documents are in row r of the source,
// for r = 0, 1, 2, … through as many epochs as a run asks for. It is computed from the documents' lengths, a key and r
// alone, so nothing is stored and any row can be had first. There are two:
//
// [Concat] joins the documents end to end, epoch after epoch, and cuts the stream every T tokens. No token is lost and none
// is padding.
//
// [BestFit] cuts no document unless it is longer than a row, and pads what stays free; [BestFit.Waste] reports it.
//
// # Targets
//
// A row holds T+1 tokens: T inputs, and T targets that are the same tokens one place on. Rows of Concat overlap by that
// one token, so each token of the stream is a target exactly once, the source's very first excepted, which has nothing
// before it. Pieces of a document that BestFit must cut overlap the same way.
//
// # Shuffling, and why it is done in two levels
//
// The order must be O(1) in time and memory on a trillion tokens, and yet shuffle well. Three ways were weighed:
//
//   - Shuffle documents, then cut. A row's place in the shuffled stream is a prefix sum over the shuffled lengths: 8 bytes
//     a document, and a pass over all documents at each start and each epoch, in every process. Measured at 5 s and 80 MB
//     for 10 million documents (on a 2-core machine with other work on it, as are the times below): minutes and 8 GB for
//     a billion. And rows still need a shuffle of their own, or one book fills whole batches.
//   - Cut, then shuffle the rows only. O(1) and 1 µs, but a row always holds documents that are neighbours in the file,
//     the same ones in every epoch, cut at the same places.
//   - Both, bounded; this is what is done. Documents are shuffled anew in each epoch within blocks of about a thousand
//     ([BlockDocuments]) that follow each other in the file. A shuffle leaves a block's token count as it was, so blocks
//     lie in the stream where they lie in the file, and that prefix sum is the shard index itself. Then all rows of the
//     epoch are shuffled by a keyed permutation ([prng.Permutation]), over the whole source. Finding a row costs one
//     search among the blocks, one shuffle of a thousand numbers and one scan: 14 to 23 µs in a source of 10 thousand
//     documents, 31 to 33 µs in one of 10 million, where the index is no longer in the cache (BenchmarkAssemble of
//     package mix: 8 to 18 million tokens/s a goroutine with T = 256).
//
// So the documents in a row, their order and the places of the cuts differ from epoch to epoch, the rows of a batch come
// from anywhere in the source, and a long document's rows are spread over the epoch. What it does not do is bring
// documents from the two ends of a file into one row. A source whose file order means something (sorted by date, by
// site) is better shuffled once when it is prepared; with document masking it hardly matters.
//
// Reads are as random as the order asks for: per row, one place in the index and one per document in the tokens. That suits
// memory and flash, not spinning disks or a network file system without a cache.
package pack

import "fmt"

// Index is the lengths of a source's documents, in the order of its files. A memory-mapped shard index has it for nothing.
// Methods are called from several goroutines.
type Index interface {
	// Docs is the number of documents.
	Docs() int
	// Offset is the number of tokens before document doc, 0 ≤ doc ≤ Docs(); Offset(Docs()) is the total.
	Offset(doc int) int64
}

// Corpus is an Index with its tokens.
type Corpus interface {
	Index
	// Read fills dst with the tokens of document doc from token offset on. The document holds them all, or it is an error.
	Read(dst []uint32, doc, offset int) error
}

// Mask says which tokens of a source are trained on.
type Mask interface {
	// ReadMask fills dst for the tokens of document doc from token offset on: true where the token counts as a target.
	ReadMask(dst []bool, doc, offset int) error
}

// Segment is a piece of one document in a row: Len tokens of document Doc from its token Offset on.
type Segment struct {
	Doc    int `json:"document"`
	Offset int `json:"offset"`
	Len    int `json:"length"`
}

// Layout is how a source's documents lie in rows of T+1 tokens. Rows are counted from 0 through all epochs: those of epoch
// e are RowsBefore(e) ≤ r < RowsBefore(e+1). Implementations hold no state that changes.
type Layout interface {
	// RowsBefore is the number of rows in the epochs before epoch.
	RowsBefore(epoch int) int64
	// Epoch is the epoch in which row begins.
	Epoch(row int64) int
	// Append appends the segments of a row to dst, in order; none is empty, and they hold at most T+1 tokens together.
	Append(dst []Segment, row int64) []Segment
	// Rows lists, in ascending order, the rows that hold a token of document doc as epoch goes through it. Concat's last
	// row of an epoch can run on into the next one, so a row may belong to the epoch before.
	Rows(doc, epoch int) []int64
	// Fill is the part of a row that is tokens and not padding, on average: 1 for Concat.
	Fill() float64
}

// Slice appends the part of a row's segments that begins at token from and is n tokens long.
func Slice(dst, segments []Segment, from, n int) []Segment {
	for _, s := range segments {
		if n == 0 {
			break
		}
		if from >= s.Len {
			from -= s.Len
			continue
		}
		take := min(n, s.Len-from)
		dst = append(dst, Segment{s.Doc, s.Offset + from, take})
		n, from = n-take, 0
	}
	return dst
}

// Row is one training sequence. T is the number of inputs.
type Row struct {
	Tokens    []uint32  // [T+1] inputs are Tokens[:T], targets Tokens[1:]
	Segments  []int32   // [T] 1, 2, … by document, 0 for padding: position i attends to j ≤ i where Segments[i] = Segments[j]
	Positions []int32   // [T] from 0 in each segment
	Loss      []float32 // [T] 1 where the target counts, else 0
}

// NewRow has room for T inputs.
func NewRow(t int) *Row {
	return &Row{make([]uint32, t+1), make([]int32, t), make([]int32, t), make([]float32, t)}
}

// Options say how a Row is filled. The zero value trains on every target.
type Options struct {
	// Pad is the token where a row has none. It is in no segment and no loss, so any id of the vocabulary will do.
	Pad uint32
	// MaskBoundary leaves out the loss of predicting a document's first token from the end of the document before it
	// (Megatron-LM's eod_mask_loss). Default false, as there: after an end-of-text token that is how a model learns how
	// documents begin.
	MaskBoundary bool
	// Mask limits the loss to the tokens it names (`loss: assistant`). Nil: all.
	Mask Mask
}

// Read fills the row with segments of a corpus, all of it, whatever it held before. Where segments hold fewer than T+1
// tokens the rest is padding. Errors are the corpus's, with the document, and segments that are too long.
func (r *Row) Read(c Corpus, segments []Segment, o Options) error {
	t, at := len(r.Segments), 0
	var mask []bool
	if o.Mask != nil {
		mask = make([]bool, t+1)
	}
	clear(r.Loss)
	for i, s := range segments {
		if s.Len > len(r.Tokens)-at {
			return fmt.Errorf("row of %d tokens: segment %d of %d tokens begins at token %d", len(r.Tokens), i, s.Len, at)
		}
		if err := c.Read(r.Tokens[at:at+s.Len], s.Doc, s.Offset); err != nil {
			return fmt.Errorf("read tokens %d to %d of document %d: %w", s.Offset, s.Offset+s.Len, s.Doc, err)
		}
		if mask != nil {
			if err := o.Mask.ReadMask(mask[at:at+s.Len], s.Doc, s.Offset); err != nil {
				return fmt.Errorf("read loss mask of tokens %d to %d of document %d: %w", s.Offset, s.Offset+s.Len, s.Doc, err)
			}
		}
		for j := range s.Len {
			if at+j < t {
				r.Segments[at+j], r.Positions[at+j] = int32(i+1), int32(j)
			}
			// The rest of a document that best_fit cut does not follow from what stands before it, and its first token is a target
			// of the piece before.
			follows := j > 0 || s.Offset == 0 && !o.MaskBoundary
			if target := at + j - 1; target >= 0 && follows && (mask == nil || mask[at+j]) {
				r.Loss[target] = 1
			}
		}
		at += s.Len
	}
	for ; at < len(r.Tokens); at++ {
		r.Tokens[at] = o.Pad
		if at < t {
			r.Segments[at], r.Positions[at] = 0, 0
		}
	}
	return nil
}
