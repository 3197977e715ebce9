package lm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/zeebo/xxh3"

	"pretrain/internal/atomicfile"
	"pretrain/internal/modelfile"
	"pretrain/internal/vfs"
)

// Model is an estimated model. It is only read, so any number of goroutines may share it.
type Model struct {
	header
	entries []entry
	table   *table // hash → logP in the upper, logBackoff in the lower 32 bits of the value
}

// header is the part of a model's file that is JSON.
type header struct {
	Version int    `json:"version"`
	Config  Config `json:"config"`
	Trained int    `json:"trained"` // units of the reference set
	Grams   int    `json:"grams"`   // different n-grams
	// Entries is the XXH3 of the n-grams and their probabilities, 128 bits.
	Entries string `json:"entries"`
}

// entry is an n-gram with its probability and the weight of shorter ones after it, as natural logarithms. The first entry, of hash 0,
// is that of units which are not known where the reference set has none.
type entry struct {
	hash             uint64
	logP, logBackoff float32
}

var format = modelfile.Format{Name: "n-gram model", Version: 1, Maker: "pretrain data prepare"}

const entrySize = 16

// index makes the table from the entries.
func (m *Model) index() {
	m.table = newTable(len(m.entries))
	for _, e := range m.entries[1:] {
		m.table.put(e.hash, uint64(math.Float32bits(e.logP))<<32|uint64(math.Float32bits(e.logBackoff)))
	}
	m.header.Entries = modelfile.Hash(m.raw())
}

// Key identifies the model: the perplexities follow from it.
func (m *Model) Key() string {
	h := xxh3.New()
	fmt.Fprintf(h, "%+v %s", m.header.Config, m.header.Entries)
	return fmt.Sprintf("%016x", h.Sum64())
}

// Size is the number of units it was trained on, and of different n-grams.
func (m *Model) Size() (units, grams int) { return m.header.Trained, m.header.Grams }

// scorer scores texts. One goroutine uses it at a time.
type scorer struct {
	*Model
	units       []uint64
	before, now [maxOrder]float64 // log backoff of the n-grams that end at the unit before, and at this one, by order from 1
}

// Scorer returns a function that gives the perplexity of a text for each unit of the model: exp of the mean of -ln p(unit | units before) over
// its first MaxScore units and, where that is all of it, its end. It is infinite for a text without units. One goroutine
// uses it at a time.
func (m *Model) Scorer() func(text string) float64 {
	s := &scorer{Model: m}
	return func(text string) float64 {
		sum, n := s.score(text)
		if n == 0 {
			return math.Inf(1)
		}
		return math.Exp(-sum / float64(n))
	}
}

// score sums ln p over the units of a text.
func (s *scorer) score(text string) (sum float64, n int) {
	limit := math.MaxInt - 2
	if c := s.header.Config; c.MaxScore > 0 {
		limit = c.MaxScore
	}
	s.units = s.header.Config.tokens(append(s.units[:0], begin), text, limit+2) // one more, to see whether there is more
	if len(s.units) == 1 {
		return 0, 0
	}
	if len(s.units) > limit+1 {
		s.units = s.units[:limit+1]
	} else {
		s.units = append(s.units, end)
	}
	known := 0 // orders of before that are set
	for i, u := range s.units {
		slot := s.table.at(extend(0, u))
		if slot.key == 0 {
			u = unknown
			s.units[i] = u
			slot = s.table.at(extend(0, u))
		}
		logP, matched := float64(s.entries[0].logP), 0
		hash := extend(0, u)
		for slot.key != 0 {
			logP = float64(math.Float32frombits(uint32(slot.value >> 32)))
			s.now[matched] = float64(math.Float32frombits(uint32(slot.value)))
			if matched++; matched == s.header.Config.Order || matched > i {
				break
			}
			hash = extend(hash, s.units[i-matched])
			slot = s.table.at(hash)
		}
		// The contexts longer than the match give their weight to shorter ones.
		for order := max(matched, 1); order <= known; order++ {
			logP += s.before[order-1]
		}
		if i > 0 {
			sum += logP
			n++
		}
		s.before, s.now = s.now, s.before
		known = min(matched, s.header.Config.Order-1)
	}
	return sum, n
}

// Save writes the model to a file, at once or not at all.
func (m *Model) Save(path string) error { return atomicfile.WriteFile(vfs.OS, path, m.write) }

func (m *Model) write(w io.Writer) error { return format.Write(w, m.header, m.raw()) }

func (m *Model) raw() []byte {
	b := make([]byte, 0, entrySize*len(m.entries))
	for _, e := range m.entries {
		b = binary.LittleEndian.AppendUint64(b, e.hash)
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.logP))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(e.logBackoff))
	}
	return b
}

// Load reads a model that [Model.Save] wrote. Errors name the file.
func Load(path string) (*Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := readModel(f)
	if err != nil {
		return nil, fmt.Errorf("n-gram model %s: %w", path, err)
	}
	return m, nil
}

func readModel(r io.Reader) (*Model, error) {
	var m Model
	body, err := format.Read(r, &m.header)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	if err := m.header.Config.Validate(); err != nil {
		return nil, fmt.Errorf("damaged header: %w", err)
	}
	want := m.header.Entries
	buffered := bufio.NewReaderSize(body, 1<<20)
	for {
		b, err := buffered.Peek(entrySize)
		if err == io.EOF && len(b) == 0 {
			break
		} else if err != nil {
			return nil, fmt.Errorf("damaged n-grams: %w", err)
		}
		e := entry{
			hash:       binary.LittleEndian.Uint64(b),
			logP:       math.Float32frombits(binary.LittleEndian.Uint32(b[8:])),
			logBackoff: math.Float32frombits(binary.LittleEndian.Uint32(b[12:])),
		}
		if (e.hash == 0) != (len(m.entries) == 0) {
			return nil, errors.New("damaged n-grams")
		}
		m.entries = append(m.entries, e)
		_, _ = buffered.Discard(entrySize) // they are there: they were peeked at
	}
	if len(m.entries) == 0 {
		return nil, errors.New("damaged n-grams: there are none")
	}
	if m.index(); m.header.Entries != want {
		return nil, errors.New("damaged n-grams: their hash is not the one in the header")
	}
	return &m, nil
}
