package read

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/errgroup"
)

// Fingerprint identifies the content of a source: xxh3-128, in hex, over every file's relative path, size and content.
// What the Spec says of how to read them is not in it. It reads all files, at the disk's speed on several cores.
// progress, if not nil, is told the bytes of each part read, from several goroutines.
func (s *Source) Fingerprint(ctx context.Context, progress func(bytes int64)) (string, error) {
	sums := make([][16]byte, len(s.files))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, f := range s.files {
		group.Go(func() (err error) {
			sums[i], err = hashFile(ctx, f, progress)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", fmt.Errorf("fingerprint %s: %w", s.spec.Path, err)
	}
	h := xxh3.New()
	for i, f := range s.files {
		// Lengths first, so that no two lists of files give the same bytes.
		fmt.Fprintf(h, "%d %d ", len(f.rel), f.size)
		io.WriteString(h, f.rel)
		h.Write(sums[i][:])
	}
	sum := h.Sum128().Bytes()
	return fmt.Sprintf("%x", sum), nil
}

// HashFile is the xxh3-128, in hex, of the i-th file's content.
func (s *Source) HashFile(ctx context.Context, i int) (string, error) {
	sum, err := hashFile(ctx, s.files[i], nil)
	if err != nil {
		return "", fmt.Errorf("hash %s: %w", s.files[i].path, err)
	}
	return fmt.Sprintf("%x", sum), nil
}

// hashFile reads a file; of an object whose store says the MD5 that is taken instead.
func hashFile(ctx context.Context, source file, progress func(int64)) (sum [16]byte, err error) {
	if len(source.sum) == len(sum) {
		return [16]byte(source.sum), nil
	}
	f, err := source.open(ctx)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h, buf := xxh3.New(), make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if progress != nil && n > 0 {
			progress(int64(n))
		}
		if err == io.EOF {
			return h.Sum128().Bytes(), nil
		}
		if err != nil {
			return sum, err
		}
	}
}
