package shard

import "fmt"

// Corpus is a shard with the beginnings of its documents in memory, 8 bytes a document: for readers that ask for them at
// random and all the time, as packing does. It is safe for concurrent use.
type Corpus struct {
	*Reader
	starts []int64
}

// Corpus loads the beginnings of all documents.
func (r *Reader) Corpus() (*Corpus, error) {
	c := &Corpus{Reader: r, starts: make([]int64, r.documents+1)}
	const batch = 1 << 16 // bounds the copy that Starts makes
	for i := int64(0); i <= r.documents; i += batch {
		if err := r.Starts(c.starts[i:min(i+batch, r.documents+1)], i); err != nil {
			return nil, err
		}
		if i > 0 && c.starts[i] < c.starts[i-1] {
			return nil, fmt.Errorf("%w: %s.idx: document %d begins before the one in front of it", ErrCorrupt, r.prefix, i)
		}
	}
	return c, nil
}

// Docs is the number of documents.
func (c *Corpus) Docs() int { return int(c.documents) }

// Offset is the number of tokens before document doc; Offset(Docs()) is the total.
func (c *Corpus) Offset(doc int) int64 { return c.starts[doc] }

// Read fills dst with the tokens of document doc from token offset on, all within the document. Errors are those of
// [Reader.Read].
func (c *Corpus) Read(dst []uint32, doc, offset int) error {
	at, err := c.within(doc, offset, len(dst))
	if err != nil {
		return err
	}
	return c.Reader.Read(dst, at)
}

// ReadMask fills dst with the loss mask of the same tokens as Read. Errors are those of [Reader.ReadMask].
func (c *Corpus) ReadMask(dst []bool, doc, offset int) error {
	at, err := c.within(doc, offset, len(dst))
	if err != nil {
		return err
	}
	return c.Reader.ReadMask(dst, at)
}

// within is where n tokens of a document from token offset on begin in the shard.
func (c *Corpus) within(doc, offset, n int) (int64, error) {
	at := c.starts[doc] + int64(offset)
	if offset < 0 || at+int64(n) > c.starts[doc+1] {
		return 0, fmt.Errorf("shard %s: tokens %d to %d of document %d, which has %d",
			c.prefix, offset, offset+n, doc, c.starts[doc+1]-c.starts[doc])
	}
	return at, nil
}
