package shard

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/zeebo/xxh3"

	"pretrain/internal/vfs"
)

// Verify reads the whole shard: every file against the sums of the manifest, and that the sequences of the index follow
// each other without a gap. It takes as long as reading the files does.
func (r *Reader) Verify(ctx context.Context) error {
	if r.manifest != nil {
		type part struct {
			ext  string
			file vfs.File
		}
		files := []part{{".bin", r.bin}, {".idx", r.idx}, {".docs", r.docs}, {".ids", r.ids}}
		if r.mask != nil {
			files = append(files, part{".mask", r.mask})
		}
		for _, f := range files {
			sum, err := sumFile(ctx, f.file)
			if err != nil {
				return fmt.Errorf("verify %s%s: %w", r.prefix, f.ext, err)
			}
			if want := r.manifest.Files[f.ext]; sum != want {
				return fmt.Errorf("%w: %s%s has %d bytes with xxh3 %s: the manifest says %d, %s",
					ErrCorrupt, r.prefix, f.ext, sum.Size, sum.XXH3, want.Size, want.XXH3)
			}
		}
	}
	return r.verifyIndex(ctx)
}

func (r *Reader) verifyIndex(ctx context.Context) error {
	const batch = 4096
	lengths := make([]byte, 4*batch)
	var next int64 // where the next sequence must begin, in tokens
	for i := int64(0); i < r.sequences; i += batch {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(batch, r.sequences-i)
		starts := make([]int64, n)
		for j := range starts {
			starts[j] = i + int64(j)
		}
		if err := r.sequenceStarts(starts, i); err != nil {
			return err
		}
		if err := r.readIdx(lengths[:4*n], 4*i); err != nil {
			return err
		}
		for j, start := range starts {
			if start != next {
				return fmt.Errorf("%w: %s.idx: sequence %d begins at token %d, the one before ends at %d", ErrCorrupt, r.prefix, i+int64(j), start, next)
			}
			next += int64(int32(binary.LittleEndian.Uint32(lengths[4*j:])))
		}
	}
	if next != r.tokens {
		return fmt.Errorf("%w: %s.idx: the sequences have %d tokens, %s.bin %d", ErrCorrupt, r.prefix, next, r.prefix, r.tokens)
	}
	starts := make([]int64, batch)
	for i := int64(0); i <= r.documents; i += batch {
		if err := r.Starts(starts[:min(batch, r.documents+1-i)], i); err != nil {
			return err
		}
	}
	return nil
}

func sumFile(ctx context.Context, f io.ReaderAt) (FileSum, error) {
	h, buf := xxh3.New(), make([]byte, 256<<10)
	var at int64
	for {
		if err := ctx.Err(); err != nil {
			return FileSum{}, err
		}
		n, err := f.ReadAt(buf, at)
		h.Write(buf[:n])
		at += int64(n)
		if err == io.EOF {
			return FileSum{Size: at, XXH3: hexSum(h)}, nil
		}
		if err != nil {
			return FileSum{}, err
		}
	}
}

// HashTokenizer identifies a tokenizer by its tokenizer.json: SHA-256 in hex.
func HashTokenizer(tokenizerJSON []byte) string {
	sum := sha256.Sum256(tokenizerJSON)
	return hex.EncodeToString(sum[:])
}
