package metrics_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
)

// record is what a run says of a step; the times differ from one attempt to the next.
func record(step int64, attempt int) metrics.Record {
	r := metrics.Record{
		Step: step, Tokens: (step + 1) * 4096, Loss: metrics.Number(8 / math.Sqrt(float64(step+1))), LR: 0.01, GradNorm: 0.5,
		TokensPerSecond: metrics.Number(4600 + 10*attempt), MFU: metrics.Unknown, Stage: "stable", Phase: "stable", BatchTokens: 4096,
		Epoch: map[string]float64{"web": float64(step) / 64, "code": 0.125}, StepMS: metrics.Number(890 + attempt), DataWaitMS: 0.25,
	}
	if step%5 == 2 {
		r.Loss, r.GradNorm, r.Skipped = metrics.Number(math.Inf(1)), metrics.Unknown, 1
	}
	if step%4 == 3 {
		r.Eval = &metrics.Eval{ValLoss: 3.25, ValBPB: 1.875}
	}
	return r
}

func open(t testing.TB, fsys vfs.FS, step int64) *metrics.JSONL {
	t.Helper()
	j, err := metrics.OpenJSONL(fsys, "metrics.jsonl", step, metrics.Patience{})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// run writes the records from step to end.
func run(t testing.TB, fsys vfs.FS, step, end int64, attempt int) {
	t.Helper()
	j := open(t, fsys, step)
	for s := step; s < end; s++ {
		if err := j.Write(record(s, attempt)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func content(t testing.TB, fsys vfs.FS) string {
	t.Helper()
	data, err := vfs.ReadFile(fsys, "metrics.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func put(t testing.TB, fsys vfs.FS, data string) {
	t.Helper()
	f, err := fsys.Create("metrics.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(data))
	if err := errors.Join(err, f.Sync(), f.Close(), fsys.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, data string) []metrics.Record {
	t.Helper()
	var records []metrics.Record
	for r, err := range metrics.Records(strings.NewReader(data)) {
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

// same fails unless the file is, but for the times, what an uninterrupted run of so many steps writes.
func same(t testing.TB, fsys vfs.FS, steps int64) {
	t.Helper()
	got := read(t, content(t, fsys))
	if int64(len(got)) != steps {
		t.Fatalf("%d records, want %d:\n%s", len(got), steps, content(t, fsys))
	}
	for i, r := range got {
		if got, want := text(t, r.Deterministic()), text(t, record(int64(i), 0).Deterministic()); got != want {
			t.Fatalf("record %d:\n%s\nwant:\n%s", i, got, want)
		}
	}
}

func text(t testing.TB, r metrics.Record) string {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGolden(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	run(t, fsys, 0, 4, 0)
	want, err := os.ReadFile(filepath.Join("testdata", "metrics.golden.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, fsys); got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	same(t, fsys, 4)
}

// Cut off at every byte that an unflushed file may end at, with what a crash may leave there, and resumed at every step
// that could have been checkpointed.
func TestCutAtEveryByte(t *testing.T) {
	const steps = 7
	fsys := vfs.NewCrashableMem()
	run(t, fsys, 0, steps, 0)
	whole := content(t, fsys)
	ends := []int{0} // ends[s] is where the records before s end
	for i, c := range whole {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	for s := range int64(steps) + 1 {
		for offset := ends[s]; offset <= len(whole); offset++ {
			for _, tail := range []string{"", "\x00\x00\x00", "{\"step\":1}\n}\x00"} {
				if tail != "" && s < steps && offset%17 != 0 {
					continue
				}
				fsys := vfs.NewCrashableMem()
				put(t, fsys, whole[:offset]+tail)
				run(t, fsys, s, steps, 1)
				got := content(t, fsys)
				if !strings.HasPrefix(got, whole[:ends[s]]) {
					t.Fatalf("cut at %d, resumed at %d: earlier records have changed", offset, s)
				}
				same(t, fsys, steps)
			}
		}
	}
}

// A power cut at each file operation of a resume, with all or nothing of what was not synced surviving.
func TestCrashWhileResuming(t *testing.T) {
	for _, survive := range []func(int) int{nil, func(n int) int { return n - 1 }} {
		for at := 0; ; at++ {
			fsys := vfs.NewCrashableMem()
			run(t, fsys, 0, 6, 0)
			fsys.CrashAt(at)
			resumed := func() error {
				j, err := metrics.OpenJSONL(fsys, "metrics.jsonl", 4, metrics.Patience{})
				if err != nil {
					return err
				}
				return errors.Join(j.Write(record(4, 1)), j.Flush(), j.Write(record(5, 1)), j.Close())
			}()
			crashed := fsys.Crashed()
			if (resumed == nil) == crashed {
				t.Fatalf("crash at operation %d: %v", at, resumed)
			}
			fsys.Crash(survive)
			run(t, fsys, 4, 8, 2)
			same(t, fsys, 8)
			if !crashed {
				break
			}
		}
	}
}

func TestDamage(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	run(t, fsys, 0, 4, 0)
	whole := strings.SplitAfter(content(t, fsys), "\n")
	damaged := whole[0] + "{\"step\":1,\"los\n" + whole[2] + whole[3]
	put(t, fsys, damaged)

	_, err := metrics.OpenJSONL(fsys, "metrics.jsonl", 4, metrics.Patience{})
	var line *metrics.LineError
	if !errors.As(err, &line) || line.Line != 2 || line.Offset != int64(len(whole[0])) {
		t.Errorf("got %v", err)
	}
	for _, part := range []string{"metrics.jsonl", "line 2", "mend or move the file"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %q", err, part)
		}
	}
	if got := content(t, fsys); got != damaged {
		t.Error("the file was changed")
	}
	put(t, fsys, whole[0]+whole[2]+whole[1]+whole[3])
	if _, err := metrics.OpenJSONL(fsys, "metrics.jsonl", 4, metrics.Patience{}); err == nil || !strings.Contains(err.Error(), "step 1 comes after step 2") {
		t.Errorf("lines out of order: %v", err)
	}
	run(t, fsys, 1, 4, 0) // what comes before the damage can be resumed from
	same(t, fsys, 4)
}

func TestFullDisk(t *testing.T) {
	mem := vfs.NewCrashableMem()
	full := false
	noSpace := errors.New("no space left on device")
	fsys := vfs.WithErrors(mem, func(op vfs.Op) error {
		if full && op.Kind == vfs.OpWrite {
			return noSpace
		}
		return nil
	})
	j := open(t, fsys, 0)
	for s := range int64(5) {
		full = s == 3
		err := j.Write(record(s, 0))
		if (s >= 3) != errors.Is(err, noSpace) {
			t.Fatalf("step %d: %v", s, err)
		}
		if s == 3 && (!strings.Contains(err.Error(), "metrics.jsonl") || !strings.Contains(err.Error(), "step 3")) {
			t.Errorf("%v names neither the file nor the step", err)
		}
	}
	if err := j.Close(); !errors.Is(err, noSpace) {
		t.Errorf("close: %v", err)
	}
	same(t, mem, 3)
	run(t, mem, 3, 5, 0)
	same(t, mem, 5)
}

// A disk that refuses any one operation, or all for a while, costs nothing: in the end the file is that of a run without
// trouble, and what a Flush took for durable survives a power cut. A sync that fails loses what was not durable, as the
// kernel's does, though a second one may succeed.
func TestDiskRefusesForAWhile(t *testing.T) {
	const steps = 8
	try := func(t *testing.T, from, width int, cut bool) (met bool) {
		mem := vfs.NewCrashableMem()
		put(t, mem, "")
		at, armed, durable := -1, false, ""
		fsys := vfs.WithErrors(mem, func(op vfs.Op) error {
			if !armed || op.Kind == vfs.OpClose {
				return nil
			}
			if at++; at < from || at >= from+width {
				return nil
			}
			if op.Kind == vfs.OpSync && op.Path == "metrics.jsonl" {
				put(t, mem, durable)
			}
			met = true
			return syscall.ENOSPC
		})
		var said []error
		j, err := metrics.OpenJSONL(fsys, "metrics.jsonl", 0, metrics.Patience{
			GiveUpAfter: time.Minute, Report: func(err error) { said = append(said, err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		armed = true
		flushed := int64(0)
		for s := range int64(steps) {
			if err := j.Write(record(s, 0)); err != nil {
				t.Fatalf("operation %d and %d more, step %d: %v", from, width-1, s, err)
			}
			if s%3 != 2 {
				continue
			}
			switch err := j.Flush(); {
			case err == nil:
				flushed, durable = s+1, content(t, mem)
			case !errors.Is(err, metrics.ErrPending):
				t.Fatalf("operation %d: flush: %v", from, err)
			}
		}
		armed = false
		if cut {
			mem.Crash(nil)
			if n := int64(len(read(t, content(t, mem)))); n < flushed {
				t.Fatalf("operation %d and %d more: %d records after a power cut, %d were flushed", from, width-1, n, flushed)
			}
			return met
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		same(t, mem, steps)
		if met && (len(said) != 2 || said[0] == nil || said[1] != nil) {
			t.Errorf("operation %d and %d more: said %v, want one warning and its end", from, width-1, said)
		}
		return met
	}
	for _, width := range []int{1, 3, 8} {
		for _, cut := range []bool{false, true} {
			for from := 0; try(t, from, width, cut); from++ {
			}
		}
	}
}

// Patience has an end: then the error is that of the disk, and nothing more is written.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := vfs.WithErrors(vfs.NewCrashableMem(), func(op vfs.Op) error {
			if op.Kind == vfs.OpWrite || op.Kind == vfs.OpSync {
				return syscall.ENOSPC
			}
			return nil
		})
		j, err := metrics.OpenJSONL(fsys, "metrics.jsonl", 0, metrics.Patience{GiveUpAfter: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		for s := range int64(60) {
			if err := j.Write(record(s, 0)); err != nil {
				t.Fatalf("step %d, after %d s: %v", s, s, err)
			}
			time.Sleep(time.Second)
		}
		for _, err := range []error{j.Write(record(60, 0)), j.Flush(), j.Close()} {
			if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, metrics.ErrPending) {
				t.Errorf("after a minute: %v", err)
			}
		}
	})
}

func TestRecords(t *testing.T) {
	for name, test := range map[string]struct {
		text    string
		records int
		err     string
	}{
		"empty":                     {"", 0, ""},
		"half a line":               {"{\"step\":0}\n{\"step\":1", 1, ""},
		"keys of a later version":   {"{\"step\":0,\"new\":{}}\r\n", 1, ""},
		"not JSON":                  {"{\"step\":0}\nstep 1\n{\"step\":2}\n", 1, "line 2 (byte 11) is not a record: invalid character 's' looking for beginning of value"},
		"no object":                 {"null\n", 0, "line 1 (byte 0) is not a record: want a JSON object"},
		"an empty line":             {"{\"step\":0}\n\n", 1, "line 2 (byte 11) is not a record: unexpected end of JSON input"},
		"a wrong type":              {"{\"step\":\"0\"}\n", 0, "line 1 (byte 0) is not a record: json: cannot unmarshal string into Go struct field Record.step of type int64"},
		"a step before the first":   {"{\"step\":-1}\n", 0, "line 1 (byte 0) is not a record: step -1: want 0 or more"},
		"a file without line ends":  {strings.Repeat(" ", 1<<20+1), 0, "line 1 (byte 0) is not a record: longer than 1048576 bytes"},
		"a large file without them": {strings.Repeat(" ", 1<<20+1) + "\n", 0, "line 1 (byte 0) is not a record: longer than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			records, failed := 0, ""
			for _, err := range metrics.Records(strings.NewReader(test.text)) {
				if err != nil {
					failed = err.Error()
					continue
				}
				records++
			}
			if records != test.records || failed != test.err {
				t.Errorf("%d records, error %q; want %d, %q", records, failed, test.records, test.err)
			}
		})
	}
}

func FuzzRecords(f *testing.F) {
	fsys := vfs.NewCrashableMem()
	run(f, fsys, 0, 3, 0)
	f.Add(content(f, fsys), int64(2))
	f.Add(content(f, fsys)[:700], int64(9))
	f.Add("{\"step\":0,\"loss\":null,\"val_bpb\":1e99}\n{\"step\":5}\nx\n", int64(1))
	f.Add("null\n\n{}\n[1]\n", int64(0))
	f.Fuzz(func(t *testing.T, text string, step int64) {
		for _, err := range metrics.Records(strings.NewReader(text)) {
			var line *metrics.LineError
			if err != nil && !errors.As(err, &line) {
				t.Fatalf("%T %v", err, err)
			}
		}
		fsys := vfs.NewCrashableMem()
		put(t, fsys, text)
		j, err := metrics.OpenJSONL(fsys, "metrics.jsonl", step, metrics.Patience{})
		kept := content(t, fsys)
		if err != nil {
			if kept != text {
				t.Fatal("refused, but changed")
			}
			return
		}
		if !strings.HasPrefix(text, kept) {
			t.Fatalf("kept %q", kept)
		}
		for _, r := range read(t, kept) {
			if r.Step >= step {
				t.Fatalf("kept step %d, resumed at %d", r.Step, step)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		open(t, fsys, step)
		if again := content(t, fsys); again != kept {
			t.Fatalf("opened again: %q, then %q", kept, again)
		}
	})
}

// Tail reads the end of a file, whatever its length, and no more of it than needed.
func TestTail(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	const steps = 2000 // some 500 kB: several times what is read at first
	run(t, fsys, 0, steps, 0)
	put(t, fsys, content(t, fsys)+"{\"step\":2000,\"los") // being written
	for _, test := range []struct {
		last  int64
		n     int
		first int64 // of what is expected, up to last
	}{{steps, 1, steps - 1}, {1500, 200, 1301}, {1500, 5000, 0}, {3, 200, 0}, {steps - 1, steps, 0}, {100, 90, 11}} {
		records, err := metrics.Tail(fsys, "metrics.jsonl", test.last, test.n)
		last := min(test.last, steps-1)
		if err != nil || int64(len(records)) != last-test.first+1 || records[0].Step != test.first || records[len(records)-1].Step != last {
			t.Errorf("%d up to %d: %d records, %v", test.n, test.last, len(records), err)
		}
	}
	var read int64
	counting := vfs.WithErrors(fsys, func(op vfs.Op) error {
		if op.Kind == vfs.OpRead {
			read++
		}
		return nil
	})
	if _, err := metrics.Tail(counting, "metrics.jsonl", steps, 1); err != nil || read > 3 {
		t.Errorf("%d reads for one record, %v", read, err)
	}
	put(t, fsys, "x\n")
	if _, err := metrics.Tail(fsys, "metrics.jsonl", 5, 1); err == nil || !strings.Contains(err.Error(), "metrics.jsonl") {
		t.Errorf("damaged: %v", err)
	}
	if _, err := metrics.Tail(fsys, "none", 5, 1); err == nil {
		t.Error("no file, no error")
	}
}
