package dedup

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
)

// The files of a matched folder.
const (
	edgeFile      = "edges"
	paragraphFile = "paragraphs"
)

// edge says that two documents are duplicates. The winner is the better one of the two, see [better].
type edge struct {
	winner, loser           uint64
	winnerScore, loserScore float32
	kind                    kind
}

const edgeSize = 32

func (e edge) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, e.winner)
	b = binary.LittleEndian.AppendUint64(b, e.loser)
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.winnerScore))
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.loserScore))
	return binary.LittleEndian.AppendUint64(b, uint64(e.kind))
}

func parseEdge(b []byte) edge {
	return edge{
		winner: binary.LittleEndian.Uint64(b), loser: binary.LittleEndian.Uint64(b[8:]),
		winnerScore: math.Float32frombits(binary.LittleEndian.Uint32(b[16:])),
		loserScore:  math.Float32frombits(binary.LittleEndian.Uint32(b[20:])),
		kind:        kind(binary.LittleEndian.Uint64(b[24:])),
	}
}

// better reports whether a document is to be kept rather than another: the higher score, then the lower number.
func better(score float32, id uint64, otherScore float32, otherID uint64) bool {
	if score != otherScore {
		return score > otherScore
	}
	return id < otherID
}

// Match is the second phase: it finds, in one part of the key space, the documents that share a key. signed are the folders of
// the first phase, by file number; out is a folder that exists and is empty.
func (c Config) Match(ctx context.Context, part int, signed []string, out string) error {
	if part < 0 || part >= parts {
		return fmt.Errorf("match: part %d of %d", part, parts)
	}
	runs, err := runsOf(signed)
	if err != nil {
		return err
	}
	records, cleanup, err := merged(ctx, runs, part, out)
	if err != nil {
		return err
	}
	defer cleanup()
	m := matcher{threshold: float64(c.MinHash.Threshold), signatures: newSignatures(signed, c.MinHash)}
	defer m.signatures.close()
	if m.edges, err = newOutput(filepath.Join(out, edgeFile)); err != nil {
		return err
	}
	if m.paragraphs, err = newOutput(filepath.Join(out, paragraphFile)); err != nil {
		m.edges.file.Close()
		return err
	}
	first := true
	for r, err := range records {
		if err == nil && (first || r.key != m.best.key) {
			m.begin(r)
			first = false
		} else if err == nil {
			err = m.join(r)
		}
		if err != nil {
			m.edges.file.Close()
			m.paragraphs.file.Close()
			return err
		}
	}
	err = m.edges.finish()
	if perr := m.paragraphs.finish(); err == nil {
		err = perr
	}
	return err
}

// matcher sees the records of equal key one after another. It keeps the best of them only, so a group may be of any size: each
// record that is not the best loses exactly once.
type matcher struct {
	best       record // of the group so far
	alone      bool   // the group is one record so far
	threshold  float64
	leaders    []leader
	signatures *signatures
	edges      *output
	paragraphs *output
}

// leader is a document of the group that was not similar to any leader before it.
type leader struct {
	record
	signature []byte
}

// maxLeaders bounds the comparisons within a group: beyond it, a document that is like none of the leaders leads none.
const maxLeaders = 64

func (m *matcher) begin(r record) {
	m.best, m.alone, m.leaders = r, true, m.leaders[:0]
}

func (m *matcher) join(r record) error {
	switch {
	case r.kind() == paragraphKey:
		if m.alone {
			m.paragraph(m.best, true)
		}
		m.paragraph(r, false)
	case r.kind() == nearKey && m.threshold > 0:
		return m.compare(r)
	case better(r.score, r.id, m.best.score, m.best.id):
		m.edge(r, m.best)
		m.best = r
	default:
		m.edge(m.best, r)
	}
	m.alone = false
	return nil
}

// compare joins a candidate to each leader that it is similar to.
func (m *matcher) compare(r record) error {
	if m.alone {
		s, err := m.signatures.of(m.best.id)
		if err != nil {
			return err
		}
		m.leaders, m.alone = append(m.leaders, leader{m.best, s}), false
	}
	s, err := m.signatures.of(r.id)
	if err != nil {
		return err
	}
	leads := len(m.leaders) < maxLeaders
	for _, l := range m.leaders {
		if similarity(s, l.signature) < m.threshold {
			continue
		}
		leads = false
		if better(r.score, r.id, l.score, l.id) {
			m.edge(r, l.record)
		} else {
			m.edge(l.record, r)
		}
	}
	if leads {
		m.leaders = append(m.leaders, leader{r, s})
	}
	return nil
}

func (m *matcher) edge(winner, loser record) {
	e := edge{winner.id, loser.id, winner.score, loser.score, winner.kind()}
	m.edges.Write(e.append(m.edges.AvailableBuffer())) // its error comes back from finish
}

// paragraphSize is the size of one occurrence of a duplicate paragraph on disk: document, paragraph, score, and 1 where it is the
// first of its group.
const paragraphSize = 20

func (m *matcher) paragraph(r record, first bool) {
	b := binary.LittleEndian.AppendUint64(m.paragraphs.AvailableBuffer(), r.id)
	b = binary.LittleEndian.AppendUint32(b, r.sub)
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(r.score))
	var f uint32
	if first {
		f = 1
	}
	m.paragraphs.Write(binary.LittleEndian.AppendUint32(b, f))
}

// signatures reads the short signatures of documents, and their names.
type signatures struct {
	dirs []string
	size int // bytes of one signature
	open map[string]*os.File
}

func newSignatures(dirs []string, c MinHash) *signatures {
	return &signatures{dirs: dirs, size: 2 * c.Bands * c.Rows, open: map[string]*os.File{}}
}

func (s *signatures) of(id uint64) ([]byte, error) {
	return s.read(id, signatureFile, int64(uint32(id))*int64(s.size), s.size)
}

// name is SOURCE:ID of a document.
func (s *signatures) name(id uint64) (string, error) {
	index := int64(uint32(id))
	from := uint64(0)
	if index > 0 {
		b, err := s.read(id, nameIndexFile, 8*(index-1), 8)
		if err != nil {
			return "", err
		}
		from = binary.LittleEndian.Uint64(b)
	}
	b, err := s.read(id, nameIndexFile, 8*index, 8)
	if err != nil {
		return "", err
	}
	to := binary.LittleEndian.Uint64(b)
	if to < from || to-from > 1<<20 {
		return "", fmt.Errorf("read %s of file %d: damaged; remove the folder and run the step again", nameIndexFile, id>>32)
	}
	b, err = s.read(id, nameFile, int64(from), int(to-from))
	return string(b), err
}

// maxOpen bounds the files kept open.
const maxOpen = 512

func (s *signatures) read(id uint64, name string, offset int64, n int) ([]byte, error) {
	if id>>32 >= uint64(len(s.dirs)) {
		return nil, fmt.Errorf("a record names file %d, but there are %d: the folders are not those of one run", id>>32, len(s.dirs))
	}
	path := filepath.Join(s.dirs[id>>32], name)
	f := s.open[path]
	if f == nil {
		if len(s.open) >= maxOpen {
			s.close()
		}
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		s.open[path] = f
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, offset); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

func (s *signatures) close() {
	for _, f := range s.open {
		f.Close()
	}
	clear(s.open)
}
