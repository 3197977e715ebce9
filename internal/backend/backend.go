// Package backend opens the thing that computes: XLA on a GPU or on the CPU, through a PJRT plugin, or GoMLX's pure-Go
// backend, which needs no plugin and always works.
//
//	be, info, err := backend.Open("", backend.Options{}) // a GPU where there is one, else the CPU
//	if err != nil { … }
//	defer be.Finalize()
//	for _, w := range info.Warnings { … }
//
// Opening never goes online; `pretrain setup` installs what is missing. Doctor reports on the whole machine.
package backend

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
	"github.com/gomlx/go-xla/compute/xla"
	"github.com/gomlx/go-xla/pjrt"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"pretrain/internal/plugin"
)

// Options of Open. The zero value is a good one.
type Options struct {
	// Library has the plugins to choose from; the zero value is plugin.Default's.
	Library plugin.Library
	// VirtualDevices makes the CPU appear as so many devices, to run a sharded program on one machine. 0 means 1. It costs
	// speed: the plugin splits its threads between the devices, so that a program on one of 4 gets half of 2 cores.
	// (The plugin's own default is 4 devices. One is asked for always.)
	VirtualDevices int
	// Threads bounds the threads that the CPU plugin computes with. 0 means as many as Go uses, runtime.GOMAXPROCS: the
	// cores, or fewer under a container's CPU quota, which XLA itself does not see. Where the environment sets
	// PJRT_NPROC or NPROC, XLA's own variables, they stand.
	Threads int
	// Verbose lets XLA write its log to stderr.
	Verbose bool
	// Cache is a folder in which XLA keeps which GPU kernels it measured to be the fastest, so that another process starts sooner and
	// computes with the same ones. "": none.
	Cache string
	// Preallocate takes a GPU's memory at once, as a run that is to fill it wants: growing, XLA's allocator cuts it into pieces, none of
	// which may be large enough for what a step needs in one.
	Preallocate bool
	// Float32 has products of float32 operands computed in float32 on a GPU, which otherwise rounds them to TF32's 10 bits.
	Float32 bool
	// PeakFLOPS is the peak of one device in floating-point operations a second, for MFU, where the user knows better than
	// the table. 0 means the environment's PRETRAIN_PEAK_FLOPS, else the table; see Device.PeakFLOPS.
	PeakFLOPS float64
}

// Info says what was opened.
type Info struct {
	// Spec opens the same backend again: "go", or "xla:" with the plugin's path and options.
	Spec string `json:"spec"`
	// Platform is cpu, cuda, go, or pjrt for a plugin of another kind given by its path.
	Platform string `json:"platform"`
	// Plugin and the versions are empty for the go backend.
	Plugin        string `json:"plugin,omitempty"`
	PluginVersion string `json:"plugin_version,omitempty"`
	// APIVersion is the PJRT C API's, "0.115"; StableHLOVersion the newest of the program format that the plugin reads.
	APIVersion       string   `json:"api_version,omitempty"`
	StableHLOVersion string   `json:"stablehlo_version,omitempty"`
	Devices          []Device `json:"devices"`
	// Warnings tell what the user would want to know before a long run. All are optional to mend.
	Warnings []Problem `json:"warnings,omitempty"`
}

// Problem is something to mend. An optional one does not keep a run from working as configured.
type Problem struct {
	What     string `json:"what"`
	Mend     string `json:"mend"`
	Optional bool   `json:"optional"`
}

func (p Problem) String() string { return p.What + ": " + p.Mend }

// Open opens the backend that spec names, or where spec is "" the one that the environment's GOMLX_BACKEND names.
//
//	auto (or nothing)      CUDA where a GPU is visible and its plugin installed, else the CPU plugin, else go
//	cpu, cuda              XLA, with the installed plugin for that device ("xla:cpu", "xla:cuda" are the same)
//	xla:/path/plugin.so    XLA, with this plugin
//	go                     GoMLX's pure-Go backend: no plugin, about 12 times slower than XLA on a CPU
//
// Options follow commas: devices=4, which makes a CPU appear as four; deterministic, which has a GPU compute the same bits each time;
// or go-xla's, as in "cuda,preallocate=true,memory_fraction=0.9".
// Only auto falls back, and only from an absent plugin or a broken CPU one: a GPU that does not open is an error,
// not a slow run. The caller finalises the backend, once; its buffers and programs end with it.
//
// Open sets environment variables of the process that XLA reads: PJRT_NPROC, TF_CPP_MIN_LOG_LEVEL, and for CUDA
// GOPJRT_CUDA_CHECKS and XLA_FLAGS. It is not for use by several goroutines at a time.
func Open(specString string, o Options) (compute.Backend, Info, error) {
	if specString == "" {
		specString = os.Getenv(compute.ConfigEnvVar)
	}
	sp, err := parseSpec(specString)
	if err != nil {
		return nil, Info{}, SpecError{err}
	}
	if o.Library.Dir == "" {
		if o.Library, err = plugin.Default(); err != nil {
			return nil, Info{}, err
		}
	}
	if sp.devices > 0 {
		o.VirtualDevices = sp.devices
	}
	peak, peakSource, err := givenPeak(o)
	if err != nil {
		return nil, Info{}, err
	}

	be, info, err := open(sp, o)
	if err != nil {
		return nil, Info{}, err
	}
	info.Devices = describe(be, info.Platform)
	if peak > 0 {
		for i := range info.Devices {
			info.Devices[i].PeakFLOPS, info.Devices[i].PeakSource = peak, peakSource
		}
	}
	return be, info, nil
}

// SpecError is a spec that means nothing: the user's mistake, where other errors of Open are the machine's state.
type SpecError struct{ error }

// open chooses among the platforms.
func open(sp spec, o Options) (compute.Backend, Info, error) {
	switch sp.platform {
	case platformGo:
		return openGo(o)
	case platformAuto:
		return openAuto(sp, o)
	}
	p := plugin.Plugin{Kind: plugin.CPU, Path: sp.path}
	var err error
	switch {
	case sp.platform == platformCUDA && sp.path == "":
		p, err = findCUDA(o.Library)
	case sp.platform == platformCUDA:
		p.Kind = plugin.CUDA13 // the generation does not matter for opening
	case sp.path == "":
		p, err = o.Library.Find(plugin.CPU)
	}
	if err != nil {
		return nil, Info{}, fmt.Errorf("backend %s: %w: %s", sp.platform, err, mendSetup(sp.platform))
	}
	return openXLA(sp, p, o)
}

func openAuto(sp spec, o Options) (compute.Backend, Info, error) {
	var warnings []Problem
	if gpus := visibleGPUs(); len(gpus) > 0 {
		p, err := findCUDA(o.Library)
		if err == nil {
			sp.platform = platformCUDA
			be, info, err := openXLA(sp, p, o)
			if err != nil {
				err = fmt.Errorf("%w (to compute on the CPU instead: --backend cpu)", err)
			}
			return be, info, err
		}
		warnings = append(warnings, Problem{gpus[0].Name + " is visible but there is no CUDA plugin", mendSetup(platformCUDA), true})
	}
	p, err := o.Library.Find(plugin.CPU)
	if err == nil {
		sp.platform = platformCPU
		be, info, openErr := openXLA(sp, p, o)
		if openErr == nil {
			info.Warnings = append(warnings, info.Warnings...)
			return be, info, nil
		}
		err = openErr
	}
	be, info, goErr := openGo(o)
	if goErr != nil {
		return nil, Info{}, fmt.Errorf("%w; %w", err, goErr)
	}
	slow := fmt.Sprintf("using GoMLX's pure-Go backend, about 12 times slower than XLA, as XLA is not available (%v)", err)
	info.Warnings = append(warnings, Problem{slow, mendSetup(platformCPU), true})
	return be, info, nil
}

func findCUDA(lib plugin.Library) (plugin.Plugin, error) {
	p, err := lib.Find(plugin.CUDA13)
	if err != nil {
		p, err = lib.Find(plugin.CUDA12)
	}
	return p, err
}

func mendSetup(p platform) string {
	if p == platformCUDA {
		return "run `pretrain setup --backend cuda13` (cuda12 for an NVIDIA driver older than 580)"
	}
	return "run `pretrain setup`"
}

func openGo(o Options) (compute.Backend, Info, error) {
	if o.VirtualDevices > 1 {
		return nil, Info{}, fmt.Errorf("backend go has one device, %d were asked for: the CPU plugin can do it, %s", o.VirtualDevices, mendSetup(platformCPU))
	}
	// One operation at a time: run side by side (v0.1.3), four products that each wait for more workers wait for each other.
	be, err := gobackend.New("ops_sequential")
	if err != nil {
		return nil, Info{}, fmt.Errorf("backend go: %w", err)
	}
	return be, Info{Spec: "go", Platform: string(platformGo)}, nil
}

// openXLA opens a plugin by its absolute path: by name, go-xla would first load every plugin of its folders to look.
func openXLA(sp spec, p plugin.Plugin, o Options) (compute.Backend, Info, error) {
	fail := func(err error) (compute.Backend, Info, error) {
		return nil, Info{}, fmt.Errorf("backend %s with plugin %s: %w", sp.platform, p.Path, err)
	}
	if _, err := os.Stat(p.Path); err != nil {
		return fail(fmt.Errorf("%w: check the path, or leave it out and %s", err, mendSetup(sp.platform)))
	}
	if nvrtc := p.NVRTC(); nvrtc != "" {
		preload(nvrtc)
	}
	xla.EnableAutoInstall(false)
	if err := setEnvironment(sp, p, o); err != nil {
		return fail(err)
	}
	options := pjrt.NamedValuesMap{}
	switch sp.platform {
	case platformCPU:
		// Go-xla tells the device, and with it how to express a matrix product, from the path's letters.
		if pjrt.IsCUDAName(p.Path) {
			return fail(errors.New("go-xla would take it for a CUDA plugin, for the \"cuda\" or \"nvidia\" in its path: give its folder another name by a link, and set PJRT_PLUGIN_LIBRARY_PATH to that"))
		}
		options["cpu_device_count"] = int64(max(1, o.VirtualDevices))
	default:
		if o.VirtualDevices > 1 {
			return fail(fmt.Errorf("devices=%d is for the CPU, to make virtual ones: use --backend cpu", o.VirtualDevices))
		}
	}
	if sp.platform == platformCUDA {
		sp.options += cudaDefaults(sp.options, o)
	}
	if !o.Verbose {
		// Go-xla logs what it returns as an error too.
		defer klog.CaptureState().Restore()
		klog.LogToStderr(false)
		klog.SetOutput(io.Discard)
	}
	be, err := xla.NewWithOptions(p.Path+sp.options, options)
	if err != nil {
		if err = firstLine(err); strings.Contains(err.Error(), "No visible GPU") {
			err = fmt.Errorf("%w The driver shows none to this process: see nvidia-smi, and CUDA_VISIBLE_DEVICES, which can hide them", err)
		}
		return fail(err)
	}
	info := Info{
		Spec:          "xla:" + p.Path + sp.options,
		Platform:      string(sp.platform),
		Plugin:        p.Path,
		PluginVersion: p.Version,
	}
	if n := options["cpu_device_count"]; n != nil {
		info.Spec += fmt.Sprintf(",devices=%d", n)
	}
	if sp.deterministic {
		info.Spec += ",deterministic"
	}
	loaded, err := pjrt.GetPlugin(p.Path) // cached: the one just loaded
	if err != nil {
		be.Finalize()
		return fail(firstLine(err))
	}
	major, minor := loaded.Version()
	info.APIVersion = fmt.Sprintf("%d.%d", major, minor)
	if v, ok := loaded.Attributes()["stablehlo_current_version"].([]int64); ok {
		info.StableHLOVersion = strings.Trim(strings.ReplaceAll(fmt.Sprint(v), " ", "."), "[]")
	}
	return be, info, nil
}

// memoryShare of a GPU's memory is XLA's to give to programs. Its own default is 0.75, of which usableShare would be too much; the rest
// is for CUDA's context, the libraries and the programs' CUDA graphs.
const memoryShare = 0.92

// cudaDefaults are go-xla's options for CUDA that the user has not given.
func cudaDefaults(given string, o Options) string {
	var more string
	add := func(unless, option string) {
		if !strings.Contains(given, unless) {
			more += "," + option
		}
	}
	add("memory_fraction", fmt.Sprintf("memory_fraction=%g", memoryShare))
	if o.Preallocate {
		add("alloca", "preallocate=true") // preallocate=…, or allocator=… of another kind
	}
	if o.Float32 {
		add("tf32", "tf32=false")
	}
	return more
}

// setEnvironment sets what XLA and go-xla read from the environment when a plugin is loaded or a client made.
func setEnvironment(sp spec, p plugin.Plugin, o Options) error {
	set := map[string]string{}
	// Go-xla sets 3, fatal errors only, at its start.
	if o.Verbose {
		set["TF_CPP_MIN_LOG_LEVEL"] = "0"
	}
	switch sp.platform {
	case platformCPU:
		if n := threads(o); n > 0 {
			set["PJRT_NPROC"] = fmt.Sprint(n)
		}
	case platformCUDA:
		// Go-xla would look for NVIDIA's libraries one level above the plugin, where pip puts them two, and warn.
		set["GOPJRT_CUDA_CHECKS"] = "0"
		set["XLA_FLAGS"] = gpuFlags(os.Getenv("XLA_FLAGS"), sp, p, o)
	}
	for key, value := range set {
		if err := os.Setenv(key, value); err != nil {
			return fmt.Errorf("set %s: %w", key, err)
		}
	}
	return nil
}

// gpuFlags adds to XLA's flags those for a GPU that the user has not set. XLA aborts the process over a flag that it does not know:
// these have been there since 2024.
func gpuFlags(flags string, sp spec, p plugin.Plugin, o Options) string {
	add := func(name, value string) {
		if value != "" && !strings.Contains(flags, name+"=") {
			flags = strings.TrimSpace(flags + " " + name + "=" + value)
		}
	}
	add("--xla_gpu_cuda_data_dir", p.CUDADataDir())
	// XLA fails to compile where it cannot write there.
	if dir := filepath.Join(o.Cache, "xla"); o.Cache != "" && os.MkdirAll(dir, 0o755) == nil && unix.Access(dir, unix.W_OK) == nil {
		add("--xla_gpu_per_fusion_autotune_cache_dir", dir)
	}
	if sp.deterministic {
		add("--xla_gpu_exclude_nondeterministic_ops", "true")
	}
	return flags
}

// firstLine cuts an error of the C++ side, which can go on with a page of its stack, after the first line.
func firstLine(err error) error {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return errors.New(line)
}
