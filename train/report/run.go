package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pretrain/internal/chart"
	"pretrain/internal/section"
	"pretrain/internal/vfs"
	"pretrain/train/metrics"
	"pretrain/train/runs"
	"pretrain/train/spike"
)

// Run is what a report says of a run directory. [Open] reads it; [Run.Refresh] takes in what was added since.
type Run struct {
	// Dir is the run's directory, Name what the report calls it.
	Dir, Name string
	// Config is the run's configuration as YAML; "" where there is none yet.
	Config string
	// First and Last are the first and the last record; Records counts them, a branch's trunk included.
	First, Last metrics.Record
	Records     int64
	// LastEval is the last validation; nil before the first.
	LastEval *metrics.Eval
	// Seconds is the sum of all steps' times, Waited the part of it in which the batch was waited for.
	Seconds, Waited float64
	// Modified is when the metrics were last written to.
	Modified time.Time
	// Problem says why the records could not be read to their end; nil if they could.
	Problem error

	fsys          vfs.FS
	curves        map[string]*Curve
	smooth        smoother
	phases, stage []chart.Band
	sources       []string // that were validated, sorted
	offset        int64    // of metrics.jsonl, read so far
}

// Open reads a run directory.
func Open(fsys vfs.FS, dir, name string) (*Run, error) {
	r := &Run{Dir: dir, Name: name, fsys: fsys}
	if err := r.reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// metricsPath is the run's own records.
func (r *Run) metricsPath() string { return filepath.Join(r.Dir, "metrics.jsonl") }

// reload reads everything: a branch's trunk up to where it branched off, then the run's own records.
func (r *Run) reload() error {
	*r = Run{Dir: r.Dir, Name: r.Name, fsys: r.fsys, curves: map[string]*Curve{}}
	if err := r.readConfig(); err != nil {
		return err
	}
	id, err := runs.ReadIdentity(r.fsys, r.Dir)
	if err != nil {
		return err
	}
	if id != nil && id.Parent != nil {
		for record, err := range runs.History(r.fsys, runs.ParentDir(r.Dir, *id.Parent)) {
			if err != nil {
				r.Problem = fmt.Errorf("the steps before it branched off: %w", err)
				break
			}
			if record.Step >= id.Parent.Step {
				break
			}
			r.add(&record)
		}
	}
	_, err = r.readOn()
	return err
}

func (r *Run) readConfig() error {
	text, err := vfs.ReadFile(r.fsys, filepath.Join(r.Dir, "config.yaml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	r.Config = string(text)
	return nil
}

// Refresh takes in what was written since, and reports whether there was anything. A run that went back, to resume or after a
// spike, is read anew.
func (r *Run) Refresh() (changed bool, err error) {
	info, err := r.fsys.Stat(r.metricsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Size() < r.offset {
		return true, r.reload()
	}
	if info.Size() == r.offset {
		return false, nil
	}
	contiguous, err := r.readOn()
	if err == nil && !contiguous {
		err = r.reload()
	}
	return true, err
}

// readOn reads the run's own records from where it was. It is false if what it finds there does not follow.
func (r *Run) readOn() (contiguous bool, err error) {
	file, err := r.fsys.Open(r.metricsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close() // only read from
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	r.Modified = info.ModTime()
	from := r.offset
	counted := &countingReader{r: io.NewSectionReader(file, from, info.Size()-from)}
	for record, err := range metrics.Records(counted) {
		if err != nil {
			if from > 0 {
				return false, nil // in the middle of another line
			}
			r.Problem = fmt.Errorf("%s: %w", r.metricsPath(), err)
			return true, nil
		}
		if r.Records > 0 && record.Step <= r.Last.Step {
			return false, nil
		}
		r.add(&record)
	}
	r.offset = from + counted.lines
	return true, nil
}

// countingReader counts the bytes up to the last line end that was read.
type countingReader struct {
	r           io.Reader
	read, lines int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if i := bytes.LastIndexByte(p[:n], '\n'); i >= 0 {
		c.lines = c.read + int64(i) + 1
	}
	c.read += int64(n)
	return n, err
}

// add takes in a record.
func (r *Run) add(m *metrics.Record) {
	if r.Records == 0 {
		r.First = *m
	}
	r.Records++
	r.Last = *m
	x := float64(m.Tokens)
	for _, d := range drawn {
		r.curve(d.key).Add(x, d.value(m))
	}
	loss := float64(m.Loss)
	r.curve(keyLoss).Add(x, loss)
	if !math.IsNaN(loss) {
		r.curve(keySmooth).Add(x, r.smooth.add(loss))
	}
	if step := float64(m.StepMS); step > 0 {
		r.Seconds, r.Waited = r.Seconds+step/1000, r.Waited+float64(m.DataWaitMS)/1000
	}
	begin := x - float64(m.BatchTokens)
	r.phases, r.stage = stretch(r.phases, begin, x, m.Phase), stretch(r.stage, begin, x, m.Stage)
	if m.Eval == nil {
		return
	}
	r.LastEval = m.Eval
	r.curve(keyValLoss).Add(x, float64(m.ValLoss))
	r.curve(keyValBPB).Add(x, float64(m.ValBPB))
	for name, s := range m.ValSources {
		r.curve(sourcePart+name).Add(x, float64(s.BPB))
		if i, known := slices.BinarySearch(r.sources, name); !known {
			r.sources = slices.Insert(r.sources, i, name)
		}
	}
}

func (r *Run) curve(key string) *Curve {
	c := r.curves[key]
	if c == nil {
		c = new(Curve)
		r.curves[key] = c
	}
	return c
}

// stretch makes the last band longer, or begins one where the name changes.
func stretch(bands []chart.Band, from, to float64, name string) []chart.Band {
	if n := len(bands); n > 0 && bands[n-1].Name == name {
		bands[n-1].To = to
		return bands
	}
	return append(bands, chart.Band{From: from, To: to, Name: name})
}

// Spike is one that was filed.
type Spike struct {
	Step     int64
	Reason   string
	Loss     metrics.Number
	GradNorm metrics.Number
	Policy   string
}

// maxSpikes bounds the table; the count says how many there were.
const maxSpikes = 20

// Spikes reads the bundles that the run filed, newest first, at most maxSpikes of them.
func (r *Run) Spikes() (list []Spike, total int, err error) {
	folders, err := r.folder("spikes", "step-")
	for _, name := range slices.Backward(folders) {
		text, err := vfs.ReadFile(r.fsys, filepath.Join(r.Dir, "spikes", name, "spike.json"))
		var b spike.Bundle
		if err != nil || json.Unmarshal(text, &b) != nil { // one that is being written
			continue
		}
		if total++; total <= maxSpikes {
			list = append(list, Spike{b.Step, b.Reason, b.Loss, b.GradNorm, string(b.Policy)})
		}
	}
	return list, total, err
}

// Sample is text that the run generated.
type Sample struct {
	Step int64
	Text string
}

// maxSamples are shown, evenly spread over the run.
const maxSamples = 8

// Samples reads the run's samples, at most maxSamples of them, evenly spread, the first and the last among them.
func (r *Run) Samples() ([]Sample, error) {
	names, err := r.folder(runs.SampleFolder, "step-")
	if err != nil {
		return nil, err
	}
	var list []Sample
	for i, name := range spread(names, maxSamples) {
		step, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(name, "step-"), ".txt"), 10, 64)
		if err != nil {
			continue
		}
		text, err := vfs.ReadFile(r.fsys, filepath.Join(r.Dir, runs.SampleFolder, name))
		if err != nil {
			return list, fmt.Errorf("sample %d: %w", i, err)
		}
		list = append(list, Sample{step, string(text)})
	}
	return list, nil
}

// spread keeps at most n of a list, evenly spread, first and last included.
func spread[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	kept := make([]T, n)
	for i := range kept {
		kept[i] = list[i*(len(list)-1)/(n-1)]
	}
	return kept
}

// folder lists what begins with a prefix in a folder of the run, sorted; nothing where there is no such folder.
func (r *Run) folder(name, prefix string) ([]string, error) {
	entries, err := r.fsys.ReadDir(filepath.Join(r.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// Sections reads what analyses of the run, and of the prepared folders given, have left.
func (r *Run) Sections(prepared ...string) (list []section.Filed, problems []error) {
	for _, dir := range append([]string{r.Dir}, prepared...) {
		found, err := section.Read(r.fsys, dir, func(err error) { problems = append(problems, err) })
		if err != nil {
			problems = append(problems, err)
		}
		list = append(list, found...)
	}
	return list, problems
}
