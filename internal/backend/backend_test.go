package backend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"pretrain/internal/plugin"
)

// installed is the machine's own library; the tests of the real plugin fail without it, so that no run of the tests
// passes without XLA having been tried.
func installed(t *testing.T) plugin.Library {
	t.Helper()
	lib, err := plugin.Default()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lib.Find(plugin.CPU); err != nil {
		t.Fatalf("%v: run `make setup`", err)
	}
	return lib
}

// noGPU hides the machine's GPUs, if any, and the user's choice of backend.
func noGPU(t *testing.T) {
	t.Helper()
	t.Setenv("CUDA_VISIBLE_DEVICES", "")
	t.Setenv("GOMLX_BACKEND", "")
	t.Setenv(PeakEnv, "")
}

// fakeGPU puts an nvidia-smi first on PATH that shows the given lines.
func fakeGPU(t *testing.T, lines ...string) {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\ncat <<'EOF'\n" + strings.Join(lines, "\n") + "\nEOF\n"
	if err := os.WriteFile(filepath.Join(dir, "nvidia-smi"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	os.Unsetenv("CUDA_VISIBLE_DEVICES")
}

func TestOpenWithPlugin(t *testing.T) {
	noGPU(t)
	lib := installed(t)
	p, err := lib.Find(plugin.CPU)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		spec    string
		options Options
		devices int
	}{
		{"", Options{}, 1},
		{"auto", Options{}, 1},
		{"cpu", Options{VirtualDevices: 4}, 4},
		{"xla:cpu,devices=2,shared_buffers=false", Options{}, 2},
		{"xla:" + p.Path, Options{Threads: 1}, 1},
	} {
		t.Run(c.spec, func(t *testing.T) {
			c.options.Library = lib
			be, info, err := Open(c.spec, c.options)
			if err != nil {
				t.Fatal(err)
			}
			defer be.Finalize()
			if be.NumDevices() != c.devices || len(info.Devices) != c.devices {
				t.Errorf("%d devices, %d described, want %d", be.NumDevices(), len(info.Devices), c.devices)
			}
			if info.Platform != "cpu" || info.Plugin != p.Path || !strings.HasPrefix(info.APIVersion, "0.") || strings.Count(info.StableHLOVersion, ".") != 2 {
				t.Errorf("info %+v", info)
			}
			if d := info.Devices[0]; d.Description != "cpu:0" || d.MemoryBytes < 1<<28 || d.PeakFLOPS != 0 {
				t.Errorf("device %+v", d)
			}
			if err := compute3x3(be); err != nil {
				t.Error(err)
			}
			again, info2, err := Open(info.Spec, Options{})
			if err != nil {
				t.Fatalf("Info.Spec does not open: %v", err)
			}
			defer again.Finalize()
			if info2.Spec != info.Spec || again.NumDevices() != c.devices {
				t.Errorf("Info.Spec %s opens %s with %d devices", info.Spec, info2.Spec, again.NumDevices())
			}
		})
	}
}

func TestOpenWithoutPlugin(t *testing.T) {
	noGPU(t)
	empty := Options{Library: plugin.Library{Dir: t.TempDir()}}
	be, info, err := Open("", empty)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Finalize()
	if info.Spec != "go" || len(info.Warnings) != 1 || !strings.Contains(info.Warnings[0].String(), "12 times slower") ||
		!strings.Contains(info.Warnings[0].Mend, "pretrain setup") || !strings.Contains(info.Warnings[0].What, empty.Library.Dir) {
		t.Errorf("info %+v", info)
	}
	if err := compute3x3(be); err != nil {
		t.Error(err)
	}

	// Asked for by name, nothing falls back.
	broken := filepath.Join(t.TempDir(), "pjrt_c_api_cpu_v1_plugin.so")
	if err := os.WriteFile(broken, []byte("not ELF"), 0o644); err != nil {
		t.Fatal(err)
	}
	misleading := filepath.Join(t.TempDir(), "cuda", "pjrt_c_api_cpu_v1_plugin.so")
	if err := errors.Join(os.Mkdir(filepath.Dir(misleading), 0o755), os.WriteFile(misleading, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for spec, want := range map[string]string{
		"cpu":                        "run `pretrain setup`",
		"cuda":                       "run `pretrain setup --backend cuda13`",
		"xla:/nowhere/cpu.so":        "check the path",
		"xla:" + broken:              "failed to dynamically load",
		"xla:" + misleading:          "set PJRT_PLUGIN_LIBRARY_PATH",
		"go,tf32":                    "option tf32",
		"auto,tf32=false":            "option tf32",
		"cpu,tf23=false":             `option "tf23" is unknown`,
		"cpu,devices=0":              "want a number of devices",
		"auto,devices=2":             "backend go has one device", // the fallback cannot do it
		"tpu":                        `"tpu" is unknown`,
		"xla:relative/plugin.so":     "xla:/absolute/path",
		"go,devices=3":               "one device",
		"xla:/x/cuda.so,nosuch=true": "nosuch",
		"cpu,deterministic":          "deterministic for cuda",
		"cuda,deterministic=maybe":   "deterministic for cuda",
	} {
		if _, _, err := Open(spec, empty); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line with %q", spec, err, want)
		}
	}

	// A broken plugin does not keep auto from working.
	be, info, err = Open("auto", Options{Library: plugin.Library{Dir: filepath.Dir(broken)}})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Finalize()
	if info.Spec != "go" || !strings.Contains(info.Warnings[0].What, broken) {
		t.Errorf("info %+v", info)
	}
}

func TestOpenReadsTheEnvironment(t *testing.T) {
	noGPU(t)
	t.Setenv("GOMLX_BACKEND", "go")
	lib := installed(t)
	be, info, err := Open("", Options{Library: lib})
	if err != nil {
		t.Fatal(err)
	}
	be.Finalize()
	if info.Platform != "go" || len(info.Warnings) != 0 {
		t.Errorf("info %+v", info)
	}
	t.Setenv("PJRT_NPROC", "")
	be, info, err = Open("cpu", Options{Library: lib}) // what is asked for goes before
	if err != nil {
		t.Fatal(err)
	}
	be.Finalize()
	if info.Platform != "cpu" {
		t.Errorf("info %+v", info)
	}
	if got, want := os.Getenv("PJRT_NPROC"), strconv.Itoa(runtime.GOMAXPROCS(0)); !userThreads && got != want {
		t.Errorf("PJRT_NPROC=%s, want %s", got, want)
	}
	t.Setenv("TF_CPP_MIN_LOG_LEVEL", "3")
	if err := setEnvironment(spec{platform: platformCPU}, plugin.Plugin{}, Options{Verbose: true, Threads: 3}); err != nil {
		t.Fatal(err)
	}
	if os.Getenv("TF_CPP_MIN_LOG_LEVEL") != "0" || os.Getenv("PJRT_NPROC") != "3" {
		t.Errorf("TF_CPP_MIN_LOG_LEVEL=%s, PJRT_NPROC=%s", os.Getenv("TF_CPP_MIN_LOG_LEVEL"), os.Getenv("PJRT_NPROC"))
	}
}

func TestGPUWithoutPlugin(t *testing.T) {
	noGPU(t)
	fakeGPU(t, "NVIDIA H100 80GB HBM3, GPU-1, 81559, 580.65.06")
	empty := plugin.Library{Dir: t.TempDir()}
	be, info, err := Open("auto", Options{Library: empty})
	if err != nil {
		t.Fatal(err)
	}
	be.Finalize()
	if len(info.Warnings) != 2 || !strings.Contains(info.Warnings[0].String(), "H100 80GB HBM3 is visible") || !strings.Contains(info.Warnings[0].Mend, "cuda13") {
		t.Errorf("warnings %v", info.Warnings)
	}

	// With a plugin that does not load, auto fails: a run on a GPU machine must not crawl on its CPU unseen.
	path := filepath.Join(empty.Dir, "cuda12", "jax_plugins", "xla_cuda12", "xla_cuda_plugin.so")
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("not ELF"), 0o644)); err != nil {
		t.Fatal(err)
	}
	ptxas := filepath.Join(empty.Dir, "cuda12", "nvidia", "cuda_nvcc", "bin", "ptxas")
	if err := errors.Join(os.MkdirAll(filepath.Dir(ptxas), 0o755), os.WriteFile(ptxas, nil, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XLA_FLAGS", "--xla_dump_to=x")
	t.Setenv("GOPJRT_CUDA_CHECKS", "1")
	_, _, err = Open("auto", Options{Library: empty})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--backend cpu") {
		t.Errorf("error %v", err)
	}
	want := "--xla_dump_to=x --xla_gpu_cuda_data_dir=" + filepath.Dir(filepath.Dir(ptxas))
	if os.Getenv("XLA_FLAGS") != want || os.Getenv("GOPJRT_CUDA_CHECKS") != "0" {
		t.Errorf("XLA_FLAGS=%s, want %s", os.Getenv("XLA_FLAGS"), want)
	}
	cache := t.TempDir()
	for range 2 { // what is there already is not set again
		_, _, err = Open("cuda,deterministic", Options{Library: empty, Cache: cache})
		want := want + " --xla_gpu_per_fusion_autotune_cache_dir=" + filepath.Join(cache, "xla") + " --xla_gpu_exclude_nondeterministic_ops=true"
		if err == nil || os.Getenv("XLA_FLAGS") != want {
			t.Errorf("%v; XLA_FLAGS=%s, want %s", err, os.Getenv("XLA_FLAGS"), want)
		}
	}
}

func TestCUDADefaults(t *testing.T) {
	for _, c := range []struct {
		given string
		o     Options
		want  string
	}{
		{"", Options{}, ",memory_fraction=0.92"},
		{"", Options{Preallocate: true, Float32: true}, ",memory_fraction=0.92,preallocate=true,tf32=false"},
		{",nopreallocate,memory_fraction=0.5,tf32", Options{Preallocate: true, Float32: true}, ""},
		{",allocator=cuda_async", Options{Preallocate: true}, ",memory_fraction=0.92"},
	} {
		if got := cudaDefaults(c.given, c.o); got != c.want {
			t.Errorf("%q, %+v: %q, want %q", c.given, c.o, got, c.want)
		}
	}
}

func TestVisibleGPUs(t *testing.T) {
	noGPU(t)
	fakeGPU(t, "NVIDIA A, GPU-aa, 10, 580.1", "garbage", "NVIDIA B, GPU-bb, [N/A], 580.1", "NVIDIA C, GPU-cc, 30, 580.1")
	for visible, want := range map[string]string{"0,1,2": "ABC", "2,0": "CA", "": "", "-1": "", "1,9,0": "B", "GPU-cc,GPU-a": "CA", "none": ""} {
		t.Setenv("CUDA_VISIBLE_DEVICES", visible)
		got := ""
		for _, gpu := range visibleGPUs() {
			got += strings.TrimPrefix(gpu.Name, "NVIDIA ")
		}
		if got != want {
			t.Errorf("CUDA_VISIBLE_DEVICES=%q: %s, want %s", visible, got, want)
		}
	}
	os.Unsetenv("CUDA_VISIBLE_DEVICES")
	if gpus := visibleGPUs(); len(gpus) != 3 || gpus[0] != (GPU{"NVIDIA A", "GPU-aa", 10 << 20, "580.1"}) || gpus[1].MemoryBytes != 0 {
		t.Errorf("got %+v", gpus)
	}
}

func TestProcGPUs(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"version":                       "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n",
		"gpus/0000:3b:00.0/information": "Model: \t\t NVIDIA L4\nIRQ:   \t\t 1\nGPU UUID: \t GPU-8a\n",
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if got := procGPUs(root); len(got) != 1 || got[0] != (GPU{Name: "NVIDIA L4", UUID: "GPU-8a", Driver: "535.104.05"}) {
		t.Errorf("got %+v", got)
	}
	if got := procGPUs(t.TempDir()); got != nil {
		t.Errorf("got %+v without a driver", got)
	}
}

func TestPeak(t *testing.T) {
	for name, want := range map[string]float64{
		"NVIDIA H100 80GB HBM3":                989.5e12,
		"NVIDIA H100 PCIe":                     756e12,
		"NVIDIA H200":                          989.5e12,
		"NVIDIA A100-SXM4-80GB":                312e12,
		"NVIDIA A100 80GB PCIe":                312e12,
		"NVIDIA GeForce RTX 4090":              165.2e12,
		"NVIDIA L40S":                          362e12,
		"NVIDIA L40":                           181e12,
		"NVIDIA L4":                            121e12,
		"NVIDIA A10G":                          70e12,
		"NVIDIA H100 80GB HBM3 MIG 1g.10gb":    0,
		"NVIDIA GeForce RTX 4090 Ti SUPER-ish": 165.2e12,
		"NVIDIA A1000":                         0,
		"Tesla V100-SXM2-16GB":                 0,
		"":                                     0,
	} {
		if got, source := tablePeak(name); got != want || (source == "") != (want == 0) {
			t.Errorf("%s: %g (%s), want %g", name, got, source, want)
		}
	}

	noGPU(t)
	for _, bad := range []string{"fast", "0", "-1", "NaN"} {
		t.Setenv(PeakEnv, bad)
		if _, _, err := Open("go", Options{}); err == nil || !strings.Contains(err.Error(), PeakEnv) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s=%s: %v", PeakEnv, bad, err)
		}
	}
	t.Setenv(PeakEnv, "1.5e12")
	for given, want := range map[float64]string{0: PeakEnv, 2e12: "configuration"} {
		be, info, err := Open("go", Options{PeakFLOPS: given})
		if err != nil {
			t.Fatal(err)
		}
		be.Finalize()
		if d := info.Devices[0]; d.PeakSource != want || d.PeakFLOPS != max(given, 1.5e12) {
			t.Errorf("got %+v", d)
		}
	}
}

func TestMeasurePeak(t *testing.T) {
	noGPU(t)
	be, _, err := Open("cpu", Options{Library: installed(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Finalize()
	flops, err := MeasurePeak(be)
	// From a busy old core to a rack of the newest: what only a wrong count of operations or unit would leave.
	if err != nil || flops < 1e9 || flops > 1e15 || math.IsNaN(flops) {
		t.Errorf("%g FLOP/s, %v", flops, err)
	}
	t.Logf("%.0f GFLOP/s", flops/1e9)
}

func TestDoctorWithPlugin(t *testing.T) {
	noGPU(t)
	lib := installed(t)
	cache := filepath.Join(t.TempDir(), "not", "made", "yet")
	r := Doctor(t.Context(), DoctorOptions{
		Open: Options{Library: lib}, Dirs: []string{cache},
		Tokenizers: func() (string, error) { return "1.2.3", nil },
	})
	if !r.OK() || r.Backend == nil || r.Backend.Platform != "cpu" || r.Tokenizers != "1.2.3" || len(r.Plugins) == 0 {
		t.Errorf("report %+v", r)
	}
	if d := r.Dirs[1]; d.Path != cache || !d.Writable || d.FreeBytes == 0 || exists(filepath.Dir(cache)) {
		t.Errorf("folder %+v", d)
	}
	text, err := json.Marshal(r)
	var back Report
	if err != nil || json.Unmarshal(text, &back) != nil || fmt.Sprint(back.Backend) != fmt.Sprint(r.Backend) {
		t.Errorf("JSON %s: %v", text, err)
	}
	var out bytes.Buffer
	r.Print(&out)
	t.Logf("\n%s", &out)
	for _, want := range []string{r.Backend.Plugin, "PJRT C API 0.", "cpu:0", "ready        yes", "python3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the printed report lacks %q:\n%s", want, &out)
		}
	}
}

func TestDoctorFindsProblems(t *testing.T) {
	noGPU(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	options := DoctorOptions{
		Open:       Options{Library: plugin.Library{Dir: t.TempDir()}},
		Dirs:       []string{filepath.Join(file, "cache")},
		Tokenizers: func() (string, error) { return "", errors.New("symbol not found") },
	}
	r := Doctor(t.Context(), options)
	if r.OK() || r.Backend == nil || r.Backend.Platform != "go" {
		t.Errorf("report %+v", r)
	}
	var out bytes.Buffer
	r.Print(&out)
	for _, want := range []string{
		"cargo is not on PATH", "python3 is not on PATH", "PROBLEM", "symbol not found", "file/cache cannot be written", "12 times slower",
		"run `pretrain setup`", "ready        no",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the printed report lacks %q:\n%s", want, &out)
		}
	}
	options.Backend = "cpu"
	if r := Doctor(t.Context(), options); r.OK() || r.Backend != nil {
		t.Errorf("backend cpu without a plugin: %+v", r)
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{"", "auto", "cpu,devices=4", "xla:cuda,tf32=false,nopreallocate", "xla:/a/pjrt_c_api_cpu_plugin.so", "go", "xla:/a/gpu.so,,=", "cpu,=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		sp, err := parseSpec(s)
		if err != nil {
			return
		}
		// What was understood, written out again, is understood as the same.
		again := string(sp.platform)
		if sp.path != "" {
			again = "xla:" + sp.path
		}
		again += sp.options
		if sp.devices > 0 {
			again += fmt.Sprintf(",devices=%d", sp.devices)
		}
		if back, err := parseSpec(again); err != nil || back != sp {
			t.Errorf("%q is %+v, but %q is %+v, %v", s, sp, again, back, err)
		}
	})
}
