// Package mirror keeps a second copy of a run's checkpoints in an object store: a bucket of Amazon S3 or of what speaks its
// protocol, or a folder, such as one on another machine's disk.
//
// Below a run's prefix the objects are named as the files in the run directory:
//
//	checkpoints/step-000001000/state-00001-of-00001.safetensors
//	checkpoints/step-000001000/MANIFEST.json     last: without it the step is not there
//	run.json, metrics.jsonl
//
// Each file is hashed while it is sent and compared with the manifest, so that what rotted on the disk is not
// mirrored; an interrupted copy goes on with the files that are not there yet. A checkpoint that is fetched back is
// verified whole before it gets its name.
package mirror

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // file:///folder
	_ "gocloud.dev/blob/memblob"  // mem://, for tests
	_ "gocloud.dev/blob/s3blob"   // s3://bucket?region=…
	"gocloud.dev/gcerrors"

	"pretrain/internal/atomicfile"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
)

const (
	folder  = "checkpoints/"
	hashKey = "xxh3_128"
)

// SideFiles are the files of a run directory, besides its checkpoints, that a run needs to go on as itself.
var SideFiles = []string{"run.json", "metrics.jsonl"}

// ErrOtherRun is wrapped by the error of a mirror that has another run's checkpoints.
var ErrOtherRun = errors.New("the mirror has another run")

// Mirror is a run's place in an object store. It is for one process at a time, as the run is.
type Mirror struct {
	bucket *blob.Bucket
	url    string
	fsys   vfs.FS
	dir    string // the run's
}

// Open opens the store at url for the run in dir; its objects are below the name of dir. The URL is one of gocloud.dev's:
// s3://BUCKET?region=REGION&prefix=FOLDER/ (endpoint=https://HOST for stores other than Amazon's; credentials come from the
// environment as for its own tools), or file:///FOLDER (create_dir=true makes it).
func Open(ctx context.Context, url string, fsys vfs.FS, dir string) (*Mirror, error) {
	bucket, err := blob.OpenBucket(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open mirror %s: %w", url, err)
	}
	return &Mirror{blob.PrefixedBucket(bucket, filepath.Base(dir)+"/"), url, fsys, dir}, nil
}

// Close ends it.
func (m *Mirror) Close() error { return m.bucket.Close() }

func key(step string, file string) string { return path.Join("checkpoints", step, file) }

// Steps are those that are there whole, ascending.
func (m *Mirror) Steps(ctx context.Context) ([]int64, error) {
	var steps []int64
	list := m.bucket.List(&blob.ListOptions{Prefix: folder})
	for {
		o, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			slices.Sort(steps)
			return steps, nil
		}
		if err != nil {
			return nil, fmt.Errorf("list mirror %s: %w", m.url, err)
		}
		var step int64
		name, file := path.Split(strings.TrimPrefix(o.Key, folder))
		if _, err := fmt.Sscanf(name, "step-%d/", &step); err == nil && file == checkpoint.ManifestName {
			steps = append(steps, step)
		}
	}
}

// Push copies a checkpoint and the side files. What is there already is not sent again.
func (m *Mirror) Push(ctx context.Context, store *checkpoint.Store, step int64) error {
	if err := m.sameRun(ctx); err != nil {
		return err
	}
	files, err := store.Files(step)
	if err != nil {
		return err
	}
	name, manifest := filepath.Base(store.Path(step)), files[len(files)-1]
	if a, err := m.bucket.Attributes(ctx, key(name, manifest.Name)); err == nil && a.Metadata[hashKey] != manifest.Hash {
		// Another version of the step: it is not there from the first file that is replaced on.
		if err := m.bucket.Delete(ctx, key(name, manifest.Name)); err != nil {
			return fmt.Errorf("mirror step %d to %s: %w", step, m.url, err)
		}
	}
	for _, f := range files {
		if err := m.send(ctx, filepath.Join(store.Path(step), f.Name), key(name, f.Name), f.Hash); err != nil {
			return fmt.Errorf("mirror step %d to %s: %w", step, m.url, err)
		}
	}
	for _, name := range SideFiles {
		err := m.send(ctx, filepath.Join(m.dir, name), name, "")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mirror %s to %s: %w", name, m.url, err)
		}
	}
	return nil
}

// sameRun refuses a prefix that has another run's identity.
func (m *Mirror) sameRun(ctx context.Context) error {
	own, err := vfs.ReadFile(m.fsys, filepath.Join(m.dir, SideFiles[0]))
	if err != nil {
		return err
	}
	there, err := m.bucket.ReadAll(ctx, SideFiles[0])
	switch {
	case gcerrors.Code(err) == gcerrors.NotFound:
		return nil
	case err != nil:
		return fmt.Errorf("mirror %s: %w", m.url, err)
	case string(own) != string(there):
		return fmt.Errorf("%w: %s below %s/: name the run directory otherwise, or mirror elsewhere", ErrOtherRun, m.url, filepath.Base(m.dir))
	}
	return nil
}

// send copies a file unless the object has its hash already. Of a file without a known hash it is not asked.
func (m *Mirror) send(ctx context.Context, file, object, hash string) (err error) {
	if hash != "" {
		a, err := m.bucket.Attributes(ctx, object)
		if err == nil && a.Metadata[hashKey] == hash {
			return nil
		}
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return err
		}
	}
	f, err := m.fsys.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := m.bucket.NewWriter(ctx, object, &blob.WriterOptions{Metadata: map[string]string{hashKey: hash}, ContentType: "application/octet-stream"})
	if err != nil {
		return err
	}
	sum := xxh3.New()
	_, err = io.Copy(io.MultiWriter(w, sum), f)
	if got := digest(sum); err == nil && hash != "" && got != hash {
		err = fmt.Errorf("%s: damaged: its hash is %s, that of what was written %s", file, got, hash)
	}
	if err != nil {
		cancel() // leaves no object
		_ = w.Close()
		return err
	}
	return w.Close()
}

func digest(h *xxh3.Hasher) string {
	sum := h.Sum128().Bytes()
	return hex.EncodeToString(sum[:])
}

// Keep deletes the checkpoints that are not among steps.
func (m *Mirror) Keep(ctx context.Context, steps []int64) error {
	there, err := m.Steps(ctx)
	if err != nil {
		return err
	}
	for _, step := range there {
		if slices.Contains(steps, step) {
			continue
		}
		name := fmt.Sprintf("step-%09d", step)
		// The manifest first: a step is there whole or not at all.
		if err := m.bucket.Delete(ctx, key(name, checkpoint.ManifestName)); err != nil {
			return fmt.Errorf("delete %s from %s: %w", name, m.url, err)
		}
		list := m.bucket.List(&blob.ListOptions{Prefix: key(name, "") + "/"})
		for {
			o, err := list.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			if err == nil {
				err = m.bucket.Delete(ctx, o.Key)
			}
			if err != nil {
				return fmt.Errorf("delete %s from %s: %w", name, m.url, err)
			}
		}
	}
	return nil
}

// Pull fetches a checkpoint into a store, and the side files into the run directory where it has none.
func (m *Mirror) Pull(ctx context.Context, store *checkpoint.Store, step int64) error {
	name := filepath.Base(store.Path(step))
	err := store.Receive(ctx, step, func(file string, w io.Writer) error { return m.fetch(ctx, key(name, file), w) })
	if err != nil {
		return fmt.Errorf("fetch step %d from mirror %s: %w", step, m.url, err)
	}
	for _, side := range SideFiles {
		if _, err := m.fsys.Stat(filepath.Join(m.dir, side)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		err := atomicfile.WriteFile(m.fsys, filepath.Join(m.dir, side), func(w io.Writer) error { return m.fetch(ctx, side, w) })
		if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return fmt.Errorf("fetch %s from mirror %s: %w", side, m.url, err)
		}
	}
	return nil
}

func (m *Mirror) fetch(ctx context.Context, object string, w io.Writer) error {
	r, err := m.bucket.NewReader(ctx, object, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, r.Close())
}
