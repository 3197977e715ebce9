package shard

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"pretrain/internal/vfs"
)

// Errors that a caller may want to tell apart.
var (
	// ErrNotCommitted: there is no .idx, because writing never ended or the prefix is wrong.
	ErrNotCommitted = errors.New("no committed shard")
	// ErrCorrupt: a file's content contradicts itself, the other files, or the vocabulary.
	ErrCorrupt = errors.New("damaged shard")
	// ErrTokenizer: the tokens were made by another tokenizer.
	ErrTokenizer = errors.New("tokenizer does not match the shard")
)

// Reader reads a shard. Opening takes the same time whatever the size; every read is one or a few preads. Safe for
// concurrent use. A file removed while open stays readable; one that shrinks gives an error that names it.
type Reader struct {
	prefix    string
	bin, idx  vfs.File
	docs, ids vfs.File // nil in a shard of another tool
	mask      vfs.File // nil for plain text
	idsSize   int64
	dtype     DType
	sequences int64
	documents int64
	tokens    int64
	manifest  *Manifest
	scratch   sync.Pool // of *[]byte
}

// Open opens the shard with that prefix ("dir/train" for dir/train.bin). Errors name the file and say what is wrong with
// it: [ErrNotCommitted], [ErrCorrupt], or the disk's.
func Open(fsys vfs.FS, prefix string) (*Reader, error) {
	r := &Reader{prefix: prefix}
	r.scratch.New = func() any { return new([]byte) }
	if err := r.open(fsys); err != nil {
		r.Close()
		return nil, fmt.Errorf("open shard %s: %w", prefix, err)
	}
	return r, nil
}

func (r *Reader) open(fsys vfs.FS) error {
	var idxSize, binSize int64
	var err error
	if r.idx, idxSize, err = openSized(fsys, r.prefix+".idx"); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotCommitted, err)
	} else if err != nil {
		return err
	}
	if r.bin, binSize, err = openSized(fsys, r.prefix+".bin"); err != nil {
		return err
	}
	if err := r.readHeader(idxSize); err != nil {
		return err
	}
	end, err := r.endOfLast()
	if err != nil {
		return err
	}
	if end != binSize {
		return fmt.Errorf("%w: %s.bin has %d bytes, its index wants %d", ErrCorrupt, r.prefix, binSize, end)
	}
	r.tokens = binSize / r.dtype.Size()
	return r.openSidecars(fsys)
}

// readHeader reads and checks the head of .idx, so that every later offset into it is within it.
func (r *Reader) readHeader(size int64) error {
	b := make([]byte, headerSize)
	if size < int64(headerSize) {
		return fmt.Errorf("%w: %s.idx has only %d bytes", ErrCorrupt, r.prefix, size)
	}
	if err := readAt(r.idx, r.prefix+".idx", b, 0); err != nil {
		return err
	}
	if string(b[:len(magic)]) != magic {
		return fmt.Errorf("%w: %s.idx does not begin with MMIDIDX: not a Megatron index", ErrCorrupt, r.prefix)
	}
	b = b[len(magic):]
	if v := binary.LittleEndian.Uint64(b); v != version {
		return fmt.Errorf("%w: %s.idx has version %d: want %d", ErrCorrupt, r.prefix, v, version)
	}
	if r.dtype = DType(b[8]); r.dtype != Uint16 && r.dtype != Int32 {
		return fmt.Errorf("%w: %s.idx says %v: want %v or %v, which hold tokens", ErrCorrupt, r.prefix, r.dtype, Uint16, Int32)
	}
	sequences, indices := binary.LittleEndian.Uint64(b[9:]), binary.LittleEndian.Uint64(b[17:])
	// The first comparisons keep the sum from overflowing. Multimodal data sets add one mode byte a sequence.
	if s := uint64(size); sequences > s/12 || indices < 1 || indices > s/8 ||
		uint64(headerSize)+12*sequences+8*indices != s && uint64(headerSize)+13*sequences+8*indices != s {
		return fmt.Errorf("%w: %s.idx has %d bytes, which do not fit its %d sequences and %d document indices: truncated?",
			ErrCorrupt, r.prefix, size, sequences, indices)
	}
	r.sequences, r.documents = int64(sequences), int64(indices)-1
	return nil
}

func (r *Reader) openSidecars(fsys vfs.FS) error {
	b, err := vfs.ReadFile(fsys, r.prefix+".json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	r.manifest = new(Manifest)
	if err := json.Unmarshal(b, r.manifest); err != nil {
		return fmt.Errorf("%w: %s.json: %w", ErrCorrupt, r.prefix, err)
	}
	if r.manifest.Version != manifestVersion {
		return fmt.Errorf("%w: %s.json has version %d, this program reads %d: prepare the data again", ErrCorrupt, r.prefix, r.manifest.Version, manifestVersion)
	}
	if r.manifest.Documents != r.documents || r.manifest.Tokens != r.tokens {
		return fmt.Errorf("%w: %s.json is of another shard: it has %d documents and %d tokens, the index %d and %d",
			ErrCorrupt, r.prefix, r.manifest.Documents, r.manifest.Tokens, r.documents, r.tokens)
	}
	var size int64
	if r.docs, size, err = openSized(fsys, r.prefix+".docs"); err != nil {
		return err
	}
	if want := int64(len(docsMagic)) + r.documents*docRowSize; size != want {
		return fmt.Errorf("%w: %s.docs has %d bytes: want %d", ErrCorrupt, r.prefix, size, want)
	}
	if r.ids, r.idsSize, err = openSized(fsys, r.prefix+".ids"); err != nil || r.manifest.Template == "" {
		return err
	}
	if r.mask, size, err = openSized(fsys, r.prefix+".mask"); err != nil {
		return err
	}
	if want := int64(len(maskMagic)) + (r.tokens+7)/8; size != want {
		return fmt.Errorf("%w: %s.mask has %d bytes: want %d", ErrCorrupt, r.prefix, size, want)
	}
	return nil
}

// Documents is the number of documents.
func (r *Reader) Documents() int64 { return r.documents }

// Tokens is the number of tokens of all documents.
func (r *Reader) Tokens() int64 { return r.tokens }

// DType is how tokens are stored.
func (r *Reader) DType() DType { return r.dtype }

// Manifest is the shard's record of itself; false if another tool wrote the shard.
func (r *Reader) Manifest() (Manifest, bool) {
	if r.manifest == nil {
		return Manifest{}, false
	}
	return *r.manifest, true
}

// CheckTokenizer compares the tokenizer that made the tokens with hash, from [HashTokenizer]. A shard of another tool
// passes: it does not say.
func (r *Reader) CheckTokenizer(hash string) error {
	if r.manifest == nil || r.manifest.Tokenizer == hash {
		return nil
	}
	return fmt.Errorf("%w: %s was tokenised with %.12s…, this run has %.12s…: use that tokenizer, or prepare the data again",
		ErrTokenizer, r.prefix, r.manifest.Tokenizer, hash)
}

// Read fills dst with the tokens from start on, across documents. An error names the file that has been truncated or
// damaged, or says that the range is beyond the shard.
func (r *Reader) Read(dst []uint32, start int64) error {
	if start < 0 || start > r.tokens-int64(len(dst)) {
		return fmt.Errorf("shard %s: tokens %d to %d of %d", r.prefix, start, start+int64(len(dst)), r.tokens)
	}
	size := int(r.dtype.Size())
	buf := r.scratch.Get().(*[]byte)
	defer r.scratch.Put(buf)
	if cap(*buf) < len(dst)*size {
		*buf = make([]byte, len(dst)*size)
	}
	b := (*buf)[:len(dst)*size]
	if err := readAt(r.bin, r.prefix+".bin", b, start*int64(size)); err != nil {
		return err
	}
	var most uint32 // the largest token, a negative int32 as a very large one
	if r.dtype == Uint16 {
		for i := range dst {
			t := uint32(binary.LittleEndian.Uint16(b[2*i:]))
			dst[i], most = t, max(most, t)
		}
	} else {
		for i := range dst {
			t := binary.LittleEndian.Uint32(b[4*i:])
			dst[i], most = t, max(most, t)
		}
	}
	if limit := r.vocabulary(); most >= limit {
		return fmt.Errorf("%w: %s.bin: token id %d between tokens %d and %d: the vocabulary has %d",
			ErrCorrupt, r.prefix, int32(most), start, start+int64(len(dst)), limit)
	}
	return nil
}

// HasMask reports whether the shard is of conversations and says which tokens are the assistant's.
func (r *Reader) HasMask() bool { return r.mask != nil }

// ReadMask fills dst with whether the tokens from start on count as targets under `loss: assistant`. Errors: as [Reader.Read],
// and a shard without a mask.
func (r *Reader) ReadMask(dst []bool, start int64) error {
	if r.mask == nil {
		return fmt.Errorf("shard %s has no loss mask: it holds plain text", r.prefix)
	}
	if start < 0 || start > r.tokens-int64(len(dst)) {
		return fmt.Errorf("shard %s: loss mask of tokens %d to %d of %d", r.prefix, start, start+int64(len(dst)), r.tokens)
	}
	if len(dst) == 0 {
		return nil
	}
	first := start / 8
	b := make([]byte, (start+int64(len(dst))-1)/8-first+1)
	if err := readAt(r.mask, r.prefix+".mask", b, int64(len(maskMagic))+first); err != nil {
		return err
	}
	for i := range dst {
		at := start + int64(i)
		dst[i] = b[at/8-first]>>(at%8)&1 == 1
	}
	return nil
}

// vocabulary is the bound of token ids.
func (r *Reader) vocabulary() uint32 {
	if r.manifest != nil && r.manifest.VocabSize > 0 {
		return uint32(r.manifest.VocabSize)
	}
	return 1 << 31
}

// Close releases the files.
func (r *Reader) Close() error {
	var errs []error
	for _, f := range []vfs.File{r.bin, r.idx, r.docs, r.ids, r.mask} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func openSized(fsys vfs.FS, path string) (vfs.File, int64, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// readAt reads all of b. The sizes of all files were checked on opening, so an early end means that one shrank since.
func readAt(f vfs.File, path string, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return fmt.Errorf("%w: %s was truncated while in use: it ends at byte %d, wanted %d", ErrCorrupt, path, at+int64(n), at+int64(len(b)))
	}
	return fmt.Errorf("read %s: %w", path, err)
}
