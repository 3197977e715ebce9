package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
	"pretrain/train/runs"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/rogpeppe/go-internal/testscript"
)

// exits CODE program args...: runs the program, which has to end with this code, without a stack trace.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2, "exits CODE program args...")
	err := ts.Exec(args[1], args[2:]...)
	wantExit(ts, err, ts.ReadFile("stderr"), args[0])
}

func usage(ts *testscript.TestScript, wrong bool, text string) {
	if wrong {
		ts.Fatalf("usage: %s", text)
	}
}

// wantExit compares how a program ended with an exit code, or "killed".
func wantExit(ts *testscript.TestScript, err error, stderr, want string) {
	got := "0"
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		got = strconv.Itoa(exit.ExitCode())
		if s := exit.Sys().(syscall.WaitStatus); s.Signaled() {
			got = s.Signal().String()
		}
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit %s, want %s", got, want)
	}
	if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic:") {
		ts.Fatalf("a stack trace")
	}
}

// signals SIGNAL[,SIGNAL] CODE FILE REGEXP program args...: starts the program, sends it INT, TERM or KILL (one after the
// other) once FILE has a match, and waits for its end. CODE is its exit code, or "killed".
func signals(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 5, "signals SIGNAL CODE FILE REGEXP program args...")
	var stdout, stderr bytes.Buffer
	path, err := exec.LookPath(args[4])
	ts.Check(err)
	cmd := exec.Command(path, args[5:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = ts.MkAbs("."), &stdout, &stderr
	for _, key := range append([]string{"PATH", "TMPDIR"}, scriptEnv...) {
		cmd.Env = append(cmd.Env, key+"="+ts.Getenv(key))
	}
	ts.Check(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := await(ts.MkAbs(args[2]), args[3], ended); err != nil {
		_ = cmd.Process.Kill() // which fails where it has ended
		ts.Fatalf("%s: %v\n%s", args[4], err, stderr.String())
	}
	for name := range strings.SplitSeq(args[0], ",") {
		signal := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[name]
		_ = cmd.Process.Signal(signal)    // the same
		time.Sleep(20 * time.Millisecond) // two equal signals at once are one
	}
	err = <-ended
	_, _ = ts.Stdout().Write(stdout.Bytes()) // these do not fail
	_, _ = ts.Stderr().Write(stderr.Bytes())
	wantExit(ts, err, stderr.String(), args[1])
}

// random NAME FROM TO sets an environment variable to a random number, TO excluded; the log of a failure shows which.
func random(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 3, "random NAME FROM TO")
	from, err := strconv.Atoi(args[1])
	ts.Check(err)
	to, err := strconv.Atoi(args[2])
	ts.Check(err)
	value := strconv.Itoa(from + rand.IntN(to-from))
	ts.Logf("%s=%s", args[0], value)
	ts.Setenv(args[0], value)
}

// waitfor FILE REGEXP waits until the file has a match.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "waitfor FILE REGEXP")
	ts.Check(await(ts.MkAbs(args[0]), args[1], nil))
}

// await returns when the file has a match; it fails after a minute and when ended yields, to which it gives the value back.
func await(path, pattern string, ended chan error) error {
	re, err := regexp.Compile(pattern)
	for deadline := time.Now().Add(time.Minute); err == nil; time.Sleep(time.Millisecond) {
		text, readErr := os.ReadFile(path)
		if readErr == nil && re.Match(text) {
			return nil
		}
		select {
		case end := <-ended:
			ended <- end
			err = fmt.Errorf("ended (%v) before %s had %s", end, path, pattern)
		default:
		}
		if time.Now().After(deadline) {
			err = fmt.Errorf("%s has no %s in a minute", path, pattern)
		}
	}
	return err
}

// keys FILE KEY...: each line of the file (or of stdout) is a JSON object with these keys and no others. A "?" after a key
// lets it be absent.
func keys(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) < 2, "keys FILE KEY...")
	var required, known []string
	for _, key := range args[1:] {
		name, optional := strings.CutSuffix(key, "?")
		if known = append(known, name); !optional {
			required = append(required, name)
		}
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n")
	for i, line := range lines {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			ts.Fatalf("%s line %d: %v: %s", args[0], i+1, err, line)
		}
		for _, key := range required {
			if _, has := object[key]; !has {
				ts.Fatalf("%s line %d: no %q: %s", args[0], i+1, key, line)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			if !slices.Contains(known, key) {
				ts.Fatalf("%s line %d: unexpected %q: %s", args[0], i+1, key, line)
			}
		}
	}
}

// learns RUN STEPS: metrics.jsonl has one line for each of so many steps ("all": however many), and the loss falls by more
// than 1 nat.
func learns(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "learns RUN STEPS")
	records, err := readMetrics(ts.MkAbs(args[0]))
	ts.Check(err)
	if args[1] != "all" && strconv.Itoa(len(records)) != args[1] {
		ts.Fatalf("%d steps, want %s", len(records), args[1])
	}
	for i, r := range records {
		if r.Step != int64(i) {
			ts.Fatalf("line %d is of step %d", i+1, r.Step)
		}
	}
	if first, last := records[0].Loss, records[len(records)-1].Loss; !(last < first-1) {
		ts.Fatalf("loss from %v to %v", first, last)
	}
}

// agree FILE KEY FILE KEY: the numbers under the keys of two JSON objects are the same, to a millionth.
func agree(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 4, "agree FILE KEY FILE KEY")
	var values [2]float64
	for i := range values {
		var object map[string]json.RawMessage
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[2*i])), &object))
		ts.Check(json.Unmarshal(object[args[2*i+1]], &values[i]))
	}
	if math.Abs(values[0]-values[1]) > 1e-6*math.Abs(values[0]) {
		ts.Fatalf("%s is %g, %s is %g", args[1], values[0], args[3], values[1])
	}
}

// prunes FILE: of an analysis of layers, the layer of least influence costs less loss to take out than the others do on average.
func prunes(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "prunes FILE")
	var r layersResult
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &r))
	least, others := 0, 0.0
	for i, l := range r.Layers {
		if l.Influence < r.Layers[least].Influence {
			least = i
		}
		others += (r.LossWithout[i] - r.Loss) / float64(len(r.Layers)-1)
	}
	cost := r.LossWithout[least] - r.Loss
	others -= cost / float64(len(r.Layers)-1)
	ts.Logf("layer %d of %d has the least influence and costs %g nats, the others %g on average", least, len(r.Layers), cost, others)
	if !(cost < others) {
		ts.Fatalf("layer %d costs %g nats to take out, the others %g on average", least, cost, others)
	}
}

// readMetrics has the records of a run, of a branch the trunk's first.
func readMetrics(run string) ([]metrics.Record, error) {
	var records []metrics.Record
	for r, err := range runs.History(vfs.OS, run) {
		if err != nil {
			return nil, err
		}
		records = append(records, r.Deterministic())
	}
	return records, nil
}

// samerun A B: two runs came to the same, whatever happened on the way: their newest checkpoints have the same tensors to
// the bit, and their metrics are equal but for the measured times.
func sameRun(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "samerun A B")
	var states [2]map[string][]byte
	var records [2][]metrics.Record
	for i, run := range args {
		var err error
		states[i], err = newestState(ts.MkAbs(run))
		ts.Check(err)
		records[i], err = readMetrics(ts.MkAbs(run))
		ts.Check(err)
	}
	if a, b := slices.Sorted(maps.Keys(states[0])), slices.Sorted(maps.Keys(states[1])); !slices.Equal(a, b) {
		ts.Fatalf("the newest checkpoints have other files: %v and %v", a, b)
	}
	for name, a := range states[0] {
		if b := states[1][name]; !bytes.Equal(a, b) {
			ts.Fatalf("%s differs: %d and %d bytes", name, len(a), len(b))
		}
	}
	if diff := cmp.Diff(records[0], records[1], cmpopts.EquateNaNs()); diff != "" {
		ts.Fatalf("metrics differ: -%s +%s\n%s", args[0], args[1], diff)
	}
}

// nearrun A B TOLERANCE: two runs saw the same tokens and their losses are equal within the tolerance, in training and on
// held-out text.
func nearRun(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 3, "nearrun A B TOLERANCE")
	tolerance, err := strconv.ParseFloat(args[2], 64)
	ts.Check(err)
	var records [2][]metrics.Record
	for i, run := range args[:2] {
		records[i], err = readMetrics(ts.MkAbs(run))
		ts.Check(err)
		for j := range records[i] {
			records[i][j].GradNorm = 0
		}
	}
	near := cmp.Comparer(func(a, b metrics.Number) bool {
		return a == b || a != a && b != b || math.Abs(float64(a-b)) <= tolerance
	})
	if diff := cmp.Diff(records[0], records[1], near, cmpopts.EquateNaNs()); diff != "" {
		ts.Fatalf("metrics differ: -%s +%s\n%s", args[0], args[1], diff)
	}
}

// newestState has the tensor files of a run's newest checkpoint, by the checkpoint's name and theirs.
func newestState(run string) (map[string][]byte, error) {
	checkpoints, err := filepath.Glob(filepath.Join(run, "checkpoints", "step-*"))
	if err != nil || len(checkpoints) == 0 {
		return nil, fmt.Errorf("%s has no checkpoints (%w)", run, err)
	}
	files, err := filepath.Glob(filepath.Join(slices.Max(checkpoints), "*.safetensors"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("%s has no tensors (%w)", slices.Max(checkpoints), err)
	}
	state := map[string][]byte{}
	for _, file := range files {
		name, err := filepath.Rel(run, file)
		if err != nil {
			return nil, err
		}
		if state[name], err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	return state, nil
}
