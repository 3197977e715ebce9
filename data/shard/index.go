package shard

import (
	"encoding/binary"
	"fmt"
)

// This file reads the index. Sequences follow each other without gaps in .bin, so where one begins is where the one
// before ends, and Megatron's lengths are needed for the last one only; Verify compares the others.

// endOfLast is where the last sequence ends in .bin, in bytes.
func (r *Reader) endOfLast() (int64, error) {
	if r.sequences == 0 {
		return 0, nil
	}
	var b [12]byte
	if err := r.readIdx(b[:4], 4*(r.sequences-1)); err != nil {
		return 0, err
	}
	if err := r.readIdx(b[4:], 12*r.sequences-8); err != nil {
		return 0, err
	}
	length, start := int64(int32(binary.LittleEndian.Uint32(b[:]))), int64(binary.LittleEndian.Uint64(b[4:]))
	if length < 0 || start < 0 || start > 1<<62 || start%r.dtype.Size() != 0 {
		return 0, fmt.Errorf("%w: %s.idx: the last sequence has %d tokens from byte %d on", ErrCorrupt, r.prefix, length, start)
	}
	return start + length*r.dtype.Size(), nil
}

// readIdx reads from .idx, at an offset behind the header.
func (r *Reader) readIdx(b []byte, at int64) error {
	return readAt(r.idx, r.prefix+".idx", b, int64(headerSize)+at)
}

// Span is where a document's tokens are: [start, start+length) in the shard.
func (r *Reader) Span(document int64) (start, length int64, err error) {
	var s [2]int64
	if err := r.Starts(s[:], document); err != nil {
		return 0, 0, err
	}
	return s[0], s[1] - s[0], nil
}

// Starts fills dst with where consecutive documents begin, in tokens, the first document's start first. The last element
// may be that of document [Reader.Documents], which is where the last document ends. So n+1 elements give n spans, some
// hundred times faster than n calls of [Reader.Span].
func (r *Reader) Starts(dst []int64, first int64) error {
	n := int64(len(dst))
	if n == 0 {
		return nil
	}
	if first < 0 || first > r.documents-(n-1) {
		return fmt.Errorf("shard %s: documents %d to %d of %d", r.prefix, first, first+n-2, r.documents)
	}
	b := make([]byte, 8*n)
	if err := r.readIdx(b, 12*r.sequences+8*first); err != nil {
		return err
	}
	for i := range dst {
		dst[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
		if dst[i] < 0 || dst[i] > r.sequences || i > 0 && dst[i] < dst[i-1] {
			return fmt.Errorf("%w: %s.idx: document %d begins with sequence %d of %d", ErrCorrupt, r.prefix, first+int64(i), dst[i], r.sequences)
		}
	}
	return r.sequenceStarts(dst, first)
}

// sequenceStarts replaces each sequence number in dst, which ascend, by the token it begins at.
func (r *Reader) sequenceStarts(dst []int64, document int64) error {
	base := dst[0]
	n := min(dst[len(dst)-1], r.sequences-1) - base + 1
	b := make([]byte, 8*max(n, 0))
	if err := r.readIdx(b, 4*r.sequences+8*base); err != nil {
		return err
	}
	size, end, last := r.dtype.Size(), r.tokens*r.dtype.Size(), int64(0)
	for i, sequence := range dst {
		at := end
		if sequence < r.sequences {
			at = int64(binary.LittleEndian.Uint64(b[8*(sequence-base):]))
		}
		if at < last || at > end || at%size != 0 {
			return fmt.Errorf("%w: %s.idx: document %d begins at byte %d of %d", ErrCorrupt, r.prefix, document+int64(i), at, end)
		}
		last = at
		dst[i] = at / size
	}
	return nil
}

// Find is the document that holds a token. It takes some 2·log2(documents) reads of the index.
func (r *Reader) Find(token int64) (document int64, err error) {
	if token < 0 || token >= r.tokens {
		return 0, fmt.Errorf("shard %s: token %d of %d", r.prefix, token, r.tokens)
	}
	var start [1]int64
	lo, hi := int64(0), r.documents // the last document that begins at or before token is in [lo, hi)
	for lo+1 < hi {
		mid := lo + (hi-lo)/2
		if err := r.Starts(start[:], mid); err != nil {
			return 0, err
		}
		if start[0] <= token {
			lo = mid
		} else {
			hi = mid
		}
	}
	from, length, err := r.Span(lo)
	if err == nil && (token < from || token >= from+length) {
		err = fmt.Errorf("%w: %s.idx: token %d is in no document", ErrCorrupt, r.prefix, token)
	}
	return lo, err
}
