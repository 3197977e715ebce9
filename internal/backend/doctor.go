package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"

	"pretrain/internal/plugin"
)

// DoctorOptions says what Doctor looks at.
type DoctorOptions struct {
	// Backend is the spec that a run would use, as in Open.
	Backend string
	// Open has the options that a run would use.
	Open Options
	// Dirs are the folders that the program writes to, caches for one; the plugins' is looked at in any case. One that
	// does not exist counts by its nearest existing parent.
	Dirs []string
	// Check tries what the program does on an open backend beyond a plain product: the attention kernel, if it has one. nil: nothing.
	Check func(compute.Backend) error
	// Tokenizers returns the version of the linked tokenizers library; nil where none is linked.
	Tokenizers func() (string, error)
}

// Report is what Doctor found.
type Report struct {
	Go         string          `json:"go"` // that this program was built with
	Platform   string          `json:"platform"`
	Cores      int             `json:"cores"`
	Tools      []Tool          `json:"tools"`
	Tokenizers string          `json:"tokenizers,omitempty"`
	Plugins    []plugin.Plugin `json:"plugins"`
	GPUs       []GPU           `json:"gpus"`
	// Backend is what opened, nil where nothing did.
	Backend *Info `json:"backend"`
	// OpenSeconds and ComputeSeconds are the times to open the backend, and to compile and run a small program on it.
	OpenSeconds    float64   `json:"open_seconds"`
	ComputeSeconds float64   `json:"compute_seconds"`
	Dirs           []Dir     `json:"dirs"`
	Problems       []Problem `json:"problems"`
}

// Tool is a program on PATH; Path is "" where it is absent.
type Tool struct {
	Name    string `json:"name"`
	Path    string `json:"path,omitempty"`
	Version string `json:"version,omitempty"`
}

// Dir is a folder that the program writes to.
type Dir struct {
	Path      string `json:"path"`
	Writable  bool   `json:"writable"`
	FreeBytes int64  `json:"free_bytes"`
}

// OK says that a run will work: no problem but optional ones.
func (r Report) OK() bool {
	return !slices.ContainsFunc(r.Problems, func(p Problem) bool { return !p.Optional })
}

// minFree is the disk space below which Doctor complains: the CPU plugin takes 0.2 GB, its wheel 0.06 GB, the
// checkpoints of a quickstart under 0.1 GB.
const minFree = 1 << 30

// neededTools lists what set-up needs; a program that is already set up runs without.
var neededTools = []struct{ name, versionArg, why, mend string }{
	{"go", "version", "build the program", "install Go 1.26 or newer"},
	{"cargo", "--version", "build the tokenizers library", "install Rust"},
	{"cc", "--version", "link the program with XLA's interface and the tokenizers library", "install a C compiler (Debian, Ubuntu: apt-get install build-essential)"},
	{"make", "--version", "run the set-up", "install make"},
	{"python3", "--version", "fetch the PJRT plugin with pip", "install Python 3 with pip (Debian, Ubuntu: apt-get install python3 python3-pip)"},
}

// Doctor looks at everything that a run needs, opens the backend and computes something on it. It changes nothing and
// never goes online. What is wrong is in the report; ctx bounds the tools it asks and is checked between steps.
func Doctor(ctx context.Context, o DoctorOptions) Report {
	r := Report{
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Cores:    runtime.GOMAXPROCS(0),
		GPUs:     visibleGPUs(),
	}
	r.checkTools(ctx)
	if o.Tokenizers != nil {
		var err error
		if r.Tokenizers, err = o.Tokenizers(); err != nil {
			r.add(fmt.Sprintf("the tokenizers library does not answer: %v", err), "run `make setup build`", false)
		}
	}
	if o.Open.Library.Dir == "" {
		var err error
		if o.Open.Library, err = plugin.Default(); err != nil {
			r.add(err.Error(), "set HOME", false)
			return r
		}
	}
	r.checkPlugins(o.Open.Library)
	for _, dir := range append([]string{o.Open.Library.Dir}, o.Dirs...) {
		r.checkDir(dir)
	}
	if err := ctx.Err(); err != nil {
		r.add("stopped before the backend was tried: "+err.Error(), "run it again", false)
		return r
	}
	r.checkBackend(o)
	return r
}

func (r *Report) add(what, mend string, optional bool) {
	r.Problems = append(r.Problems, Problem{what, mend, optional})
}

func (r *Report) checkTools(ctx context.Context) {
	for _, t := range neededTools {
		tool := Tool{Name: t.name}
		path, err := exec.LookPath(t.name)
		if err != nil {
			r.add(fmt.Sprintf("%s is not on PATH; `make setup` needs it to %s", t.name, t.why), t.mend, true)
		} else {
			tool.Path = path
			tool.Version, _, _ = strings.Cut(toolOutput(ctx, path, t.versionArg), "\n")
		}
		r.Tools = append(r.Tools, tool)
	}
}

func (r *Report) checkPlugins(lib plugin.Library) {
	for _, kind := range []plugin.Kind{plugin.CPU, plugin.CUDA13, plugin.CUDA12} {
		p, err := lib.Find(kind)
		if err != nil {
			continue // what that means for the run, checkBackend tells
		}
		r.Plugins = append(r.Plugins, p)
		if err := p.Verify(); err != nil {
			r.add(err.Error(), fmt.Sprintf("rm %s, then run `pretrain setup --backend %s`", p.Path, kind), false)
		}
	}
}

func (r *Report) checkDir(path string) {
	d := Dir{Path: path}
	existing := path
	for !exists(existing) && existing != filepath.Dir(existing) {
		existing = filepath.Dir(existing)
	}
	f, err := os.CreateTemp(existing, ".pretrain-doctor-*")
	if err == nil {
		d.Writable = true
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		r.add(fmt.Sprintf("folder %s cannot be written: %v", path, err), "make it writable, or set HOME (or XDG_CACHE_HOME) to a folder that is", false)
	}
	if d.FreeBytes, err = plugin.FreeSpace(existing); err == nil && d.FreeBytes < minFree {
		r.add(fmt.Sprintf("folder %s has %.1f GiB free", path, float64(d.FreeBytes)/(1<<30)), "free at least 1 GiB", true)
	}
	r.Dirs = append(r.Dirs, d)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (r *Report) checkBackend(o DoctorOptions) {
	start := time.Now()
	be, info, err := Open(o.Backend, o.Open)
	r.OpenSeconds = time.Since(start).Seconds()
	if err != nil {
		r.add(err.Error(), "choose another one with --backend, or "+mendSetup(platformCPU), false)
		return
	}
	defer be.Finalize()
	r.Backend = &info
	r.Problems = append(r.Problems, info.Warnings...)
	start = time.Now()
	err = compute3x3(be)
	r.ComputeSeconds = time.Since(start).Seconds()
	if err != nil {
		r.add(fmt.Sprintf("backend %s: %v", info.Spec, err), "remove the plugin and run `pretrain setup`, or use --backend go", false)
		return
	}
	if o.Check == nil {
		return
	}
	if err := o.Check(be); err != nil {
		r.add(fmt.Sprintf("backend %s: %v", info.Spec, firstLine(err)), "set train.attention: decomposed", false)
	}
}

// compute3x3 compiles and runs a matrix product and its gradient in the arithmetic of training, bf16 in and float32
// out, on numbers that both hold exactly, and compares all results.
func compute3x3(be compute.Backend) error {
	exec, err := g.NewExec(be, func(x, w *g.Node) []*g.Node {
		product := g.Dot(g.ConvertDType(x, dtypes.BFloat16), g.ConvertDType(w, dtypes.BFloat16)).WithOutputDType(dtypes.Float32).Product()
		return append([]*g.Node{product}, g.Gradient(g.ReduceAllSum(product), x)...)
	})
	if err != nil {
		return err
	}
	defer exec.Finalize()
	out, err := exec.Call([][]float32{{1, 2, 3}, {4, 5, 6}}, [][]float32{{1, 0, 2}, {0, 1, 2}, {-1, 4, 8}})
	if err != nil {
		return firstLine(err)
	}
	for i, want := range []any{
		[][]float32{{-2, 14, 30}, {-2, 29, 66}},
		[][]float32{{3, 3, 11}, {3, 3, 11}}, // each row: the row sums of w
	} {
		if got := out[i].Value(); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("computes wrongly: %v, want %v", got, want)
		}
	}
	return nil
}

// Print writes the report for people.
func (r Report) Print(w io.Writer) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("platform", "%s, %d cores, built with %s", r.Platform, r.Cores, r.Go)
	if r.Backend == nil {
		line("backend", "none opens")
	} else {
		line("backend", "%s (opens in %.2f s, compiles and runs a program in %.2f s)", r.Backend.Spec, r.OpenSeconds, r.ComputeSeconds)
		if r.Backend.Plugin != "" {
			line("", "plugin %s, PJRT C API %s, StableHLO %s", r.Backend.PluginVersion, r.Backend.APIVersion, r.Backend.StableHLOVersion)
		}
		for _, d := range r.Backend.Devices {
			line("device", "%s", d)
		}
	}
	for _, p := range r.Plugins {
		line("plugin", "%-6s %s", p.Kind, p.Path)
	}
	for _, gpu := range r.GPUs {
		line("GPU", "%s, driver %s", gpu.Name, gpu.Driver)
	}
	if r.Tokenizers != "" {
		line("tokenizers", "%s", r.Tokenizers)
	}
	for _, t := range r.Tools {
		if t.Path == "" {
			t.Version = "absent"
		}
		line(t.Name, "%s", t.Version)
	}
	for _, d := range r.Dirs {
		line("folder", "%s, %.1f GiB free", d.Path, float64(d.FreeBytes)/(1<<30))
	}
	for _, p := range r.Problems {
		mark := "PROBLEM"
		if p.Optional {
			mark = "note"
		}
		line(mark, "%s", p)
	}
	if r.OK() {
		line("ready", "yes")
	} else {
		line("ready", "no")
	}
}
