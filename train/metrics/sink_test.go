package metrics_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
)

// Every sink takes the same run and keeps nothing of a record.
func TestSinks(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) metrics.Sink{
		"jsonl": func(t *testing.T) metrics.Sink { return open(t, vfs.NewCrashableMem(), 0) },
		"tensorboard": func(t *testing.T) metrics.Sink {
			s, err := metrics.OpenTensorBoard(vfs.OS, filepath.Join(t.TempDir(), "a", "tensorboard"), 0, metrics.Patience{})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"prometheus": func(t *testing.T) metrics.Sink {
			s, err := metrics.OpenPrometheus("localhost:0")
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		"console": func(*testing.T) metrics.Sink {
			return metrics.NewConsole(io.Discard).Training(metrics.Training{Steps: 20, EverySteps: 1})
		},
		"several": func(t *testing.T) metrics.Sink {
			return metrics.Sinks{open(t, vfs.NewCrashableMem(), 0), open(t, vfs.NewCrashableMem(), 0)}
		},
		"none": func(*testing.T) metrics.Sink { return metrics.Sinks{} },
	} {
		t.Run(name, func(t *testing.T) {
			sink := open(t)
			epoch := map[string]float64{}
			for step := range int64(20) {
				r := record(step, 0)
				maps.Copy(epoch, r.Epoch)
				r.Epoch = epoch // one map, changed between calls
				if err := errors.Join(sink.Write(r), sink.Flush()); err != nil {
					t.Fatal(err)
				}
			}
			if err := sink.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Write(metrics.Record) error { return f.err }
func (f failing) Flush() error               { return f.err }
func (f failing) Close() error               { return f.err }

func TestOneSinkFailing(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	broken := errors.New("broken")
	sinks := metrics.Sinks{failing{broken}, open(t, fsys, 0)}
	for _, err := range []error{sinks.Write(record(0, 0)), sinks.Flush(), sinks.Close()} {
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	same(t, fsys, 1)
}

// The golden bytes are those of the tensorboard package 2.20.0 for Python, RecordWriter over its own protobuf classes.
func TestTensorBoardGolden(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("testdata", "tfevents.golden.hex"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	fsys := vfs.NewCrashableMem()
	synctest.Test(t, func(t *testing.T) { // its clock starts with the year 2000, UTC
		time.Sleep(250 * time.Millisecond)
		tb, err := metrics.OpenTensorBoard(fsys, "tensorboard", 300, metrics.Patience{})
		if err != nil {
			t.Fatal(err)
		}
		r := metrics.Record{
			Step: 300, Tokens: 1232896, Loss: metrics.Unknown, LR: 0.01, GradNorm: 0.5, TokensPerSecond: 4600, MFU: 0.31, BatchTokens: 4096,
			Skipped: 1, Epoch: map[string]float64{"web": 0.25, "code": 1.5}, StepMS: 890.5, DataWaitMS: 0.25,
			Eval: &metrics.Eval{ValLoss: 3.25, ValBPB: 1.875},
		}
		if err := errors.Join(tb.Write(r), tb.Close()); err != nil {
			t.Fatal(err)
		}
	})
	entries, err := fsys.ReadDir("tensorboard")
	if err != nil || len(entries) != 1 || !strings.Contains(entries[0].Name(), "tfevents") {
		t.Fatalf("%v %v", entries, err)
	}
	got, err := vfs.ReadFile(fsys, filepath.Join("tensorboard", entries[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
	for rest := got; len(rest) > 0; {
		n := binary.LittleEndian.Uint64(rest)
		if masked(rest[:8]) != binary.LittleEndian.Uint32(rest[8:]) || masked(rest[12:12+n]) != binary.LittleEndian.Uint32(rest[12+n:]) {
			t.Fatal("a checksum is wrong")
		}
		rest = rest[16+n:]
	}
}

// TensorBoard reads event files in the order of their names: that of a resume must come last, also where the clock was
// set back by years in between.
func TestTensorBoardAfterAClockJump(t *testing.T) {
	fsys := vfs.NewCrashableMem()
	var order []string
	start := func(step int64) {
		before, _ := fsys.ReadDir("tensorboard")
		tb, err := metrics.OpenTensorBoard(fsys, "tensorboard", step, metrics.Patience{})
		if err := errors.Join(err, tb.Close()); err != nil {
			t.Fatal(err)
		}
		after, err := fsys.ReadDir("tensorboard")
		if err != nil || len(after) != len(before)+1 {
			t.Fatalf("%d files, then %d; %v", len(before), len(after), err)
		}
		order = append(order, after[len(after)-1].Name())
	}
	start(0)                                          // today
	synctest.Test(t, func(*testing.T) { start(100) }) // in the year 2000
	synctest.Test(t, func(*testing.T) { start(100) }) // and at the same moment again
	if !slices.IsSorted(order) || len(slices.Compact(order)) != 3 {
		t.Errorf("the newest files were, in turn, %q", order)
	}
}

// masked is TFRecord's checksum bit by bit: CRC-32C from its reflected polynomial.
func masked(data []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range data {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0x82f63b78&-(crc&1)
		}
	}
	crc = ^crc
	return (crc>>15 | crc<<17) + 0xa282ead8
}

func TestPrometheus(t *testing.T) {
	p, err := metrics.OpenPrometheus("localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := metrics.OpenPrometheus(p.Address()); err == nil || !strings.Contains(err.Error(), p.Address()) {
		t.Errorf("a second server at %s: %v", p.Address(), err)
	}
	if err := p.Write(record(3, 0)); err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://" + p.Address() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"pretrain_step 3", "pretrain_tokens 16384", "pretrain_loss 4", "pretrain_learning_rate 0.01", "pretrain_mfu NaN",
		"pretrain_step_seconds 0.89", "pretrain_val_loss 3.25", "pretrain_val_bits_per_byte 1.875", `pretrain_epoch{source="code"} 0.125`,
	} {
		if !strings.Contains(string(body), "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, body)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.DialTimeout("tcp", p.Address(), time.Second); err == nil {
		c.Close()
		t.Error("still listens after Close")
	}
}
