package shard

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"

	"github.com/zeebo/xxh3"
	"pretrain/internal/vfs"
)

// Options describe a shard to be written.
type Options struct {
	VocabSize int    // tokens are below it; it decides the [DType]
	Tokenizer string // [HashTokenizer] of the tokenizer in use
	Source    string // fingerprint of the raw data
	// Template names the chat template of a shard of conversations, whose tokens come with a loss mask. "": plain text.
	Template string
}

// Writer writes one shard. Nothing can be seen under the shard's names until [Writer.Commit]; a crash before leaves
// temporary files (x.bin.tmp, …) that the next Writer of the same prefix overwrites. Not safe for concurrent use, and one
// Writer a prefix at a time.
type Writer struct {
	fsys     vfs.FS
	prefix   string
	manifest Manifest
	dtype    DType
	bin      *output
	docs     *output
	ids      *output
	mask     *output // nil for plain text
	bits     byte    // of the mask, not yet a whole byte
	lengths  []int32 // tokens of each document: the index is written at the end, because it begins with the counts
	path     stringRef
	about    stringRef // attributes
	buf      []byte
	err      error // the first failure; the Writer is then of no more use
}

// stringRef is a string already in .ids.
type stringRef struct {
	s  string
	at uint64
}

// Create starts a shard. Errors: a committed shard of that prefix exists (fs.ErrExist), or the disk's.
func Create(fsys vfs.FS, prefix string, o Options) (*Writer, error) {
	if _, err := fsys.Stat(prefix + ".idx"); err == nil {
		return nil, fmt.Errorf("create shard %s: %w: shards never change; remove it first", prefix, fs.ErrExist)
	}
	if o.VocabSize < 1 || o.VocabSize > math.MaxInt32 {
		return nil, fmt.Errorf("create shard %s: vocabulary of %d tokens: want 1 to %d", prefix, o.VocabSize, math.MaxInt32)
	}
	dtype := DTypeFor(o.VocabSize)
	w := &Writer{fsys: fsys, prefix: prefix, dtype: dtype, manifest: Manifest{
		Version: manifestVersion, DType: dtype.String(), VocabSize: o.VocabSize, Tokenizer: o.Tokenizer, Source: o.Source, Template: o.Template,
		Files: map[string]FileSum{},
	}}
	outputs := map[string]**output{".bin": &w.bin, ".docs": &w.docs, ".ids": &w.ids}
	if o.Template != "" {
		outputs[".mask"] = &w.mask
	}
	for ext, out := range outputs {
		if *out, w.err = createOutput(fsys, prefix, ext); w.err != nil {
			return nil, w.fail(w.err)
		}
	}
	if _, err := w.docs.WriteString(docsMagic); err != nil {
		return nil, w.fail(err)
	}
	if w.mask != nil {
		if _, err := w.mask.WriteString(maskMagic); err != nil {
			return nil, w.fail(err)
		}
	}
	return w, nil
}

// Add appends a document. Its tokens must be below the vocabulary size. mask says of each token whether `loss: assistant`
// counts it as a target; it is nil in a shard of plain text, and only there. After an error the shard is aborted.
func (w *Writer) Add(doc Doc, tokens []uint32, mask []bool) error {
	if w.err != nil {
		return w.err
	}
	if w.mask == nil && mask != nil || w.mask != nil && len(mask) != len(tokens) {
		return w.fail(fmt.Errorf("document %s: a loss mask of %d for %d tokens in a shard of template %q", doc.ID, len(mask), len(tokens), w.manifest.Template))
	}
	if len(tokens) > math.MaxInt32 {
		return w.fail(fmt.Errorf("document %s: %d tokens: Megatron's format ends at %d", doc.ID, len(tokens), math.MaxInt32))
	}
	w.buf = w.buf[:0]
	for i, t := range tokens {
		if t >= uint32(w.manifest.VocabSize) {
			return w.fail(fmt.Errorf("document %s: token %d is %d: the vocabulary has %d", doc.ID, i, t, w.manifest.VocabSize))
		}
		if w.dtype == Uint16 {
			w.buf = binary.LittleEndian.AppendUint16(w.buf, uint16(t))
		} else {
			w.buf = binary.LittleEndian.AppendUint32(w.buf, t)
		}
	}
	if _, err := w.bin.Write(w.buf); err != nil {
		return w.fail(err)
	}
	if err := w.addDoc(doc); err != nil {
		return w.fail(err)
	}
	if err := w.addMask(mask); err != nil {
		return w.fail(err)
	}
	w.lengths = append(w.lengths, int32(len(tokens)))
	w.manifest.Documents++
	w.manifest.Tokens += int64(len(tokens))
	w.manifest.Bytes += doc.Bytes
	return nil
}

// addMask appends the bits of a document's tokens, which begin where the document before it ended.
func (w *Writer) addMask(mask []bool) error {
	at := w.manifest.Tokens
	w.buf = w.buf[:0]
	for _, counts := range mask {
		if counts {
			w.bits |= 1 << (at % 8)
		}
		if at++; at%8 == 0 {
			w.buf, w.bits = append(w.buf, w.bits), 0
		}
	}
	if len(w.buf) == 0 {
		return nil
	}
	_, err := w.mask.Write(w.buf)
	return err
}

// addDoc writes the row of .docs. The records of one file follow each other and a whole file's id is its path, so each
// path is stored about once; and so are attributes that a whole source has.
func (w *Writer) addDoc(doc Doc) error {
	attributes, err := json.Marshal(doc.Attributes)
	if err != nil {
		return err
	}
	about := string(attributes)
	if about == "{}" {
		about = ""
	}
	for _, ref := range []struct {
		last *stringRef
		s    string
	}{{&w.path, doc.Path}, {&w.about, about}} {
		if ref.last.s != ref.s || w.manifest.Documents == 0 {
			*ref.last = stringRef{ref.s, uint64(w.ids.size)}
			if _, err := w.ids.WriteString(ref.s); err != nil {
				return err
			}
		}
	}
	id := w.path
	if doc.ID != doc.Path {
		id = stringRef{doc.ID, uint64(w.ids.size)}
		if _, err := w.ids.WriteString(doc.ID); err != nil {
			return err
		}
	}
	row := w.buf[:0]
	for _, v := range []uint64{id.at, w.path.at, uint64(doc.Bytes), uint64(doc.Line)} {
		row = binary.LittleEndian.AppendUint64(row, v)
	}
	row = binary.LittleEndian.AppendUint32(row, uint32(len(doc.ID)))
	row = binary.LittleEndian.AppendUint32(row, uint32(len(doc.Path)))
	row = binary.LittleEndian.AppendUint64(row, w.about.at)
	row = binary.LittleEndian.AppendUint32(row, uint32(len(about)))
	_, err = w.docs.Write(row)
	return err
}

// Commit makes the shard durable and visible, all of it or nothing.
func (w *Writer) Commit() (Manifest, error) {
	if w.err != nil {
		return Manifest{}, w.err
	}
	if w.mask != nil && w.manifest.Tokens%8 != 0 {
		if _, err := w.mask.Write([]byte{w.bits}); err != nil {
			return Manifest{}, w.fail(err)
		}
	}
	for _, out := range w.outputs() {
		if err := w.finish(out); err != nil {
			return Manifest{}, w.fail(err)
		}
	}
	if err := w.writeIndex(); err != nil {
		return Manifest{}, w.fail(err)
	}
	if err := w.writeManifest(); err != nil {
		return Manifest{}, w.fail(err)
	}
	dir := filepath.Dir(w.prefix)
	names := []string{".json", ".idx"}
	for _, out := range w.outputs() {
		names = append([]string{out.ext}, names...)
	}
	for _, ext := range names {
		if ext == ".idx" { // the others must have their names before the index makes them a shard
			if err := w.fsys.SyncDir(dir); err != nil {
				return Manifest{}, w.fail(err)
			}
		}
		if err := w.fsys.Rename(w.prefix+ext+".tmp", w.prefix+ext); err != nil {
			return Manifest{}, w.fail(err)
		}
	}
	if err := w.fsys.SyncDir(dir); err != nil {
		return Manifest{}, fmt.Errorf("write shard %s: %w", w.prefix, err)
	}
	w.err = fmt.Errorf("shard %s is committed", w.prefix)
	return w.manifest, nil
}

func (w *Writer) writeIndex() error {
	idx, err := createOutput(w.fsys, w.prefix, ".idx")
	if err != nil {
		return err
	}
	defer idx.file.Close()
	n := uint64(len(w.lengths))
	head := binary.LittleEndian.AppendUint64([]byte(magic), version)
	head = append(head, byte(w.dtype))
	head = binary.LittleEndian.AppendUint64(head, n)
	head = binary.LittleEndian.AppendUint64(head, n+1)
	idx.Write(head) // idx is buffered: the first error stays and comes back from finish
	var b [8]byte
	for _, l := range w.lengths {
		binary.LittleEndian.PutUint32(b[:4], uint32(l))
		idx.Write(b[:4])
	}
	var at uint64
	for _, l := range w.lengths {
		binary.LittleEndian.PutUint64(b[:], at)
		idx.Write(b[:])
		at += uint64(l) * uint64(w.dtype.Size())
	}
	for i := range n + 1 {
		binary.LittleEndian.PutUint64(b[:], i)
		idx.Write(b[:])
	}
	return w.finish(idx)
}

func (w *Writer) writeManifest() error {
	out, err := createOutput(w.fsys, w.prefix, ".json")
	if err != nil {
		return err
	}
	defer out.file.Close()
	b, err := json.MarshalIndent(w.manifest, "", "  ")
	if err != nil {
		return err
	}
	out.Write(append(b, '\n'))
	if err := out.Flush(); err != nil {
		return err
	}
	return errors.Join(out.file.Sync(), out.file.Close())
}

// finish makes a file's bytes durable and takes its sum into the manifest.
func (w *Writer) finish(out *output) error {
	if err := out.Flush(); err != nil {
		return err
	}
	if err := errors.Join(out.file.Sync(), out.file.Close()); err != nil {
		return err
	}
	w.manifest.Files[out.ext] = FileSum{Size: out.size, XXH3: hexSum(out.hash)}
	return nil
}

// Abort drops what was written. It does nothing after Commit, so it can be deferred.
func (w *Writer) Abort() {
	if w.err == nil {
		_ = w.fail(errors.New("aborted"))
	}
}

// fail closes and removes the temporary files and remembers the error.
func (w *Writer) fail(err error) error {
	for _, out := range w.outputs() {
		out.file.Close()
	}
	for _, ext := range []string{".bin", ".docs", ".ids", ".mask", ".json", ".idx"} {
		w.fsys.Remove(w.prefix + ext + ".tmp")
	}
	w.err = fmt.Errorf("write shard %s: %w", w.prefix, err)
	return w.err
}

// outputs are the files that are written as documents come.
func (w *Writer) outputs() (all []*output) {
	for _, out := range []*output{w.bin, w.docs, w.ids, w.mask} {
		if out != nil {
			all = append(all, out)
		}
	}
	return all
}

// output is a temporary file that is hashed and counted while it is written.
type output struct {
	*bufio.Writer
	file vfs.File
	ext  string
	hash *xxh3.Hasher
	size int64
}

func createOutput(fsys vfs.FS, prefix, ext string) (*output, error) {
	f, err := fsys.Create(prefix + ext + ".tmp")
	if err != nil {
		return nil, err
	}
	return &output{Writer: bufio.NewWriterSize(f, 256<<10), file: f, ext: ext, hash: xxh3.New()}, nil
}

func (o *output) Write(b []byte) (int, error) {
	o.hash.Write(b)
	o.size += int64(len(b))
	return o.Writer.Write(b)
}

func (o *output) WriteString(s string) (int, error) {
	o.hash.WriteString(s)
	o.size += int64(len(s))
	return o.Writer.WriteString(s)
}

func hexSum(h *xxh3.Hasher) string { return fmt.Sprintf("%x", h.Sum128().Bytes()) }
