package read

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file://
	_ "gocloud.dev/blob/memblob"  // mem://, empty: for tests
)

// isBucket reports whether a path is the URL of an object store, such as s3://bucket/folder. Which schemes there are is decided by the
// drivers that are linked into the program; this package has file and mem.
func isBucket(path string) bool { return strings.Contains(path, "://") }

// openURL lists the objects of a bucket below the path of its URL: s3://bucket/folder?region=eu-west-1.
func openURL(ctx context.Context, spec Spec) (*Source, error) {
	u, err := url.Parse(spec.Path)
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", spec.Path, err)
	}
	folder := strings.Trim(u.Path, "/")
	if u.Scheme == "file" { // its path is the bucket
		folder = ""
	} else {
		u.Path = ""
	}
	bucket, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", spec.Path, err)
	}
	return OpenBucket(ctx, spec, bucket, folder)
}

// OpenBucket is [Open] for a bucket that is open already, which must stay so while the source is read: of the objects in folder,
// "" for all. Objects are read as a stream, Parquet files by the parts that are needed.
func OpenBucket(ctx context.Context, spec Spec, bucket *blob.Bucket, folder string) (*Source, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	prefix := ""
	if folder != "" {
		prefix = folder + "/"
	}
	s, seen := newListing(spec), bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		object, err := seen.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("open source %s: %w", spec.Path, err)
		}
		rel := strings.TrimPrefix(object.Key, prefix)
		if object.IsDir || rel == "" || strings.HasPrefix(rel, ".") || strings.Contains(rel, "/.") || strings.HasSuffix(rel, ".attrs") {
			continue
		}
		s.consider(file{path: object.Key, rel: rel, size: object.Size, bucket: bucket, sum: object.MD5})
	}
	return s.source()
}

// open opens the file for reading from its beginning.
func (f file) open(ctx context.Context) (io.ReadCloser, error) {
	if f.bucket == nil {
		return os.Open(f.path)
	}
	return f.bucket.NewReader(ctx, f.path, nil)
}

// openAt opens the file for reading at random.
func (f file) openAt(ctx context.Context) (interface {
	io.ReaderAt
	io.Closer
}, error) {
	if f.bucket == nil {
		return os.Open(f.path)
	}
	return objectAt{ctx, f}, nil
}

// objectAt reads parts of an object, each with a request of its own.
type objectAt struct {
	ctx context.Context
	file
}

// ReadAt fills b from byte at on.
func (o objectAt) ReadAt(b []byte, at int64) (int, error) {
	if at >= o.size {
		return 0, io.EOF
	}
	r, err := o.bucket.NewRangeReader(o.ctx, o.path, at, min(int64(len(b)), o.size-at), nil)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	n, err := io.ReadFull(r, b[:min(int64(len(b)), o.size-at)])
	if err == nil && n < len(b) {
		err = io.EOF
	}
	return n, err
}

// Close does nothing: there is no connection between two requests.
func (o objectAt) Close() error { return nil }
