package dedup

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/zeebo/xxh3"
)

// record says that a document has a key. Records are sorted by key, so that those of equal key come together.
type record struct {
	key   xxh3.Uint128 // the lowest two bits of Lo are the kind
	id    uint64       // of the document: file<<32 | index
	sub   uint32       // the paragraph within the document
	score float32      // the document's, for the choice of which is kept
}

// kind is what a key is of. It lies in the key, so that one sort serves all kinds.
type kind uint64

const (
	exactKey kind = iota
	nearKey
	paragraphKey
)

const kindMask = 3

func (r *record) kind() kind { return kind(r.key.Lo & kindMask) }

func keyOf(h xxh3.Uint128, k kind) xxh3.Uint128 {
	h.Lo = h.Lo&^kindMask | uint64(k)
	return h
}

// part is the part of the key space that a key lies in: the parts are consecutive in the order of keys.
func part(key xxh3.Uint128) int { return int(key.Hi >> (64 - partBits)) }

func (r *record) compare(o *record) int {
	if r.key != o.key {
		if r.key.Hi != o.key.Hi {
			return cmp.Compare(r.key.Hi, o.key.Hi)
		}
		return cmp.Compare(r.key.Lo, o.key.Lo)
	}
	if r.id != o.id {
		return cmp.Compare(r.id, o.id)
	}
	return cmp.Compare(r.sub, o.sub)
}

// On disk a run is a header, the number of records of each part (uint64), and the records in order, all little-endian.
const (
	recordSize = 32
	headerSize = 8 * parts
	bufferSize = 64 << 10
)

func (r *record) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, r.key.Hi)
	b = binary.LittleEndian.AppendUint64(b, r.key.Lo)
	b = binary.LittleEndian.AppendUint64(b, r.id)
	return binary.LittleEndian.AppendUint64(b, uint64(r.sub)<<32|uint64(math.Float32bits(r.score)))
}

func (r *record) parse(b []byte) {
	r.key.Hi = binary.LittleEndian.Uint64(b)
	r.key.Lo = binary.LittleEndian.Uint64(b[8:])
	r.id = binary.LittleEndian.Uint64(b[16:])
	last := binary.LittleEndian.Uint64(b[24:])
	r.sub, r.score = uint32(last>>32), math.Float32frombits(uint32(last))
}

// sorter collects records and writes them as sorted runs, each of at most a given number of records.
type sorter struct {
	dir   string
	limit int
	runs  int
	buf   []record
}

func newSorter(dir string, memory int64) *sorter {
	return &sorter{dir: dir, limit: int(max(memory/recordSize, 1))}
}

func (s *sorter) add(r record) error {
	s.buf = append(s.buf, r)
	if len(s.buf) >= s.limit {
		return s.flush()
	}
	return nil
}

// flush writes what was collected. To be called at the end.
func (s *sorter) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	slices.SortFunc(s.buf, func(a, b record) int { return a.compare(&b) })
	path := runPath(s.dir, s.runs)
	s.runs++
	var counts [parts]uint64
	for i := range s.buf {
		counts[part(s.buf[i].key)]++
	}
	err := writeRun(path, counts, slices.Values(s.buf))
	s.buf = s.buf[:0]
	return err
}

func runPath(dir string, n int) string { return filepath.Join(dir, "run-"+strconv.Itoa(n)) }

// runsOf lists the runs in the folders. A folder without any is of a file without documents.
func runsOf(dirs []string) ([]string, error) {
	var runs []string
	for _, dir := range dirs {
		for n := 0; ; n++ {
			path := runPath(dir, n)
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				break
			} else if err != nil {
				return nil, err
			}
			runs = append(runs, path)
		}
	}
	return runs, nil
}

func writeRun(path string, counts [parts]uint64, records iter.Seq[record]) error {
	return createFile(path, func(w *bufio.Writer) error {
		b := make([]byte, 0, headerSize)
		for _, n := range counts {
			b = binary.LittleEndian.AppendUint64(b, n)
		}
		w.Write(b) // a bufio.Writer keeps its first error for Flush
		for r := range records {
			w.Write(r.append(w.AvailableBuffer()))
		}
		return nil
	})
}

// createFile writes a file. See the package's comment for who makes it durable.
func createFile(path string, write func(*bufio.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, bufferSize)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	return errors.Join(err, f.Close())
}

// run reads one part of a run in order.
type run struct {
	path string
	file *os.File
	in   *bufio.Reader
	left uint64
	head record
}

func openRun(path string, part int, buffer int) (*run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &run{path: path, file: f}
	if err := r.seek(part, buffer); err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (r *run) seek(part, buffer int) error {
	var header [headerSize]byte
	if _, err := io.ReadFull(r.file, header[:]); err != nil {
		return fmt.Errorf("no run of records: %w", err)
	}
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	var before, total uint64
	room := uint64(info.Size()-headerSize) / recordSize
	for p := range parts {
		n := binary.LittleEndian.Uint64(header[8*p:])
		if p < part {
			before += n
		} else if p == part {
			r.left = n
		}
		if total += n; n > room || total > room {
			return errors.New("a run of records that ends early; remove the folder and run the step again")
		}
	}
	if _, err := r.file.Seek(int64(headerSize+before*recordSize), io.SeekStart); err != nil {
		return err
	}
	r.in = bufio.NewReaderSize(r.file, buffer)
	return nil
}

// next reads the next record into head; io.EOF at the end of the part.
func (r *run) next() error {
	if r.left == 0 {
		return io.EOF
	}
	b, err := r.in.Peek(recordSize)
	if err != nil {
		return fmt.Errorf("read %s: %w", r.path, io.ErrUnexpectedEOF)
	}
	r.head.parse(b)
	r.left--
	_, err = r.in.Discard(recordSize)
	return err
}

// maxFanIn is how many runs are merged at a time: each takes a file descriptor and a buffer.
const maxFanIn = 256

// merged iterates over one part of all runs in the order of keys. Where there are too many runs for one pass, groups of them are
// merged first, into the folder temp. cleanup removes what is temporary, also after an iteration that ended early.
func merged(ctx context.Context, runs []string, part int, temp string) (records iter.Seq2[record, error], cleanup func(), err error) {
	var made []string
	cleanup = func() {
		for _, path := range made {
			os.Remove(path)
		}
	}
	for len(runs) > maxFanIn {
		var fewer []string
		for group := range slices.Chunk(runs, maxFanIn) {
			path := filepath.Join(temp, "merge-"+strconv.Itoa(len(made)))
			made = append(made, path)
			if err := mergeTo(ctx, path, group, part); err != nil {
				cleanup()
				return nil, nil, err
			}
			fewer = append(fewer, path)
		}
		runs = fewer
	}
	return mergePass(ctx, runs, part), cleanup, nil
}

func mergeTo(ctx context.Context, path string, runs []string, part int) error {
	var counts [parts]uint64
	for _, path := range runs {
		r, err := openRun(path, part, 16)
		if err != nil {
			return err
		}
		counts[part] += r.left
		r.file.Close()
	}
	var failed error
	err := writeRun(path, counts, func(yield func(record) bool) {
		for r, err := range mergePass(ctx, runs, part) {
			if failed = err; err != nil || !yield(r) {
				return
			}
		}
	})
	return errors.Join(failed, err)
}

// mergePass merges runs with a binary heap of their heads.
func mergePass(ctx context.Context, runs []string, part int) iter.Seq2[record, error] {
	return func(yield func(record, error) bool) {
		var heap []*run
		defer func() {
			for _, r := range heap {
				r.file.Close()
			}
		}()
		for _, path := range runs {
			r, err := openRun(path, part, bufferSize)
			if err != nil {
				yield(record{}, err)
				return
			}
			if err := r.next(); err == io.EOF {
				r.file.Close()
				continue
			} else if err != nil {
				r.file.Close()
				yield(record{}, err)
				return
			}
			heap = append(heap, r)
		}
		for i := len(heap)/2 - 1; i >= 0; i-- {
			sink(heap, i)
		}
		for n := 0; len(heap) > 0; n++ {
			if n%4096 == 0 && ctx.Err() != nil {
				yield(record{}, ctx.Err())
				return
			}
			first := heap[0]
			if !yield(first.head, nil) {
				return
			}
			if err := first.next(); err == io.EOF {
				first.file.Close()
				heap[0] = heap[len(heap)-1]
				heap = heap[:len(heap)-1]
			} else if err != nil {
				yield(record{}, err)
				return
			}
			sink(heap, 0)
		}
	}
}

// sink moves a run down the heap until no child of it is smaller.
func sink(heap []*run, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1].head.compare(&heap[child].head) < 0 {
			child++
		}
		if heap[i].head.compare(&heap[child].head) <= 0 {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}
