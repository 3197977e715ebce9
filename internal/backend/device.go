package backend

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gomlx/compute"
	"github.com/klauspost/cpuid/v2"
)

// Device is one device of an open backend.
type Device struct {
	// Description is the plugin's own, as "cpu:0".
	Description string `json:"description"`
	// Kind is the hardware's name, as "NVIDIA H100 80GB HBM3"; empty where it is not known.
	Kind string `json:"kind,omitempty"`
	// MemoryBytes is the device's whole memory, the machine's (or the container's limit) for a CPU; 0 where not known.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// NativeBF16 says that the hardware multiplies bfloat16 matrices faster than float32 ones. Where it does not, as on
	// a CPU without AVX512-BF16 or AMX, bf16 compute saves memory but no time.
	NativeBF16 bool `json:"native_bf16"`
	// PeakFLOPS is the peak in dense bf16 operations (a multiply-add counts as 2) a second with float32 accumulation, the
	// denominator of MFU; 0 where not known. PeakSource says where it comes from.
	PeakFLOPS  float64 `json:"peak_flops,omitempty"`
	PeakSource string  `json:"peak_source,omitempty"`
}

// describe lists a backend's devices. Virtual devices share the one CPU.
func describe(be compute.Backend, platformName string) []Device {
	var gpus []GPU
	if platformName == string(platformCUDA) {
		gpus = visibleGPUs()
	}
	devices := make([]Device, be.NumDevices())
	for i := range devices {
		d := &devices[i]
		d.Description = strings.TrimSuffix(be.DeviceDescription(compute.DeviceNum(i)), " [processId=0]")
		switch {
		case platformName == string(platformCPU) || platformName == string(platformGo):
			d.Kind = cpuid.CPU.BrandName
			d.MemoryBytes = hostMemory()
			d.NativeBF16 = platformName == string(platformCPU) && (cpuid.CPU.Supports(cpuid.AVX512BF16) || cpuid.CPU.Supports(cpuid.AMXBF16))
		case i < len(gpus):
			d.Kind, d.MemoryBytes = gpus[i].Name, gpus[i].MemoryBytes
			d.PeakFLOPS, d.PeakSource = tablePeak(gpus[i].Name)
			d.NativeBF16 = d.PeakFLOPS > 0 // the table lists only such GPUs
		}
	}
	return devices
}

// String is one line for people.
func (d Device) String() string {
	s := d.Description
	if d.Kind != "" {
		s += ": " + d.Kind
	}
	if d.MemoryBytes > 0 {
		s += fmt.Sprintf(", %.1f GiB", float64(d.MemoryBytes)/(1<<30))
	}
	if d.PeakFLOPS > 0 {
		s += fmt.Sprintf(", peak %.4g TFLOP/s (%s)", d.PeakFLOPS/1e12, d.PeakSource)
	} else {
		s += ", peak not known (set " + PeakEnv + " for MFU)"
	}
	return s
}

// GPU is an NVIDIA GPU that the driver shows and CUDA_VISIBLE_DEVICES does not hide.
type GPU struct {
	Name        string `json:"name"`
	UUID        string `json:"uuid,omitempty"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"`
	Driver      string `json:"driver,omitempty"`
}

// visibleGPUs asks nvidia-smi, which ships with the driver, else the driver's own folder, which tells only names.
func visibleGPUs() []GPU {
	all := smiGPUs()
	if all == nil {
		all = procGPUs("/proc/driver/nvidia")
	}
	visible, set := os.LookupEnv("CUDA_VISIBLE_DEVICES")
	if !set {
		return all
	}
	// CUDA's rule: a comma-separated list of indices and UUID prefixes; the first invalid entry ends it.
	var chosen []GPU
	for entry := range strings.SplitSeq(visible, ",") {
		entry = strings.TrimSpace(entry)
		i, err := strconv.Atoi(entry)
		if err != nil {
			i = slices.IndexFunc(all, func(g GPU) bool { return entry != "" && strings.HasPrefix(g.UUID, entry) })
		}
		if i < 0 || i >= len(all) {
			break
		}
		chosen = append(chosen, all[i])
	}
	return chosen
}

func smiGPUs() []GPU {
	var gpus []GPU
	for line := range strings.Lines(toolOutput(context.Background(), "nvidia-smi", "--query-gpu=name,uuid,memory.total,driver_version", "--format=csv,noheader,nounits")) {
		fields := strings.Split(line, ",")
		if len(fields) != 4 {
			continue
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		mebibytes, _ := strconv.ParseInt(fields[2], 10, 64) // "[N/A]" on shared-memory devices: not known
		gpus = append(gpus, GPU{Name: fields[0], UUID: fields[1], MemoryBytes: mebibytes << 20, Driver: fields[3]})
	}
	return gpus
}

// procGPUs reads the files that NVIDIA's kernel module keeps, from root.
func procGPUs(root string) []GPU {
	files, _ := filepath.Glob(filepath.Join(root, "gpus", "*", "information")) // sorted by PCI address
	driver := ""
	if version, err := os.ReadFile(filepath.Join(root, "version")); err == nil {
		for _, word := range strings.Fields(string(version)) {
			if strings.Count(word, ".") >= 1 && word[0] >= '0' && word[0] <= '9' {
				driver = word
				break
			}
		}
	}
	var gpus []GPU
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		g := GPU{Driver: driver}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			switch strings.TrimSpace(key) {
			case "Model":
				g.Name = strings.TrimSpace(value)
			case "GPU UUID":
				g.UUID = strings.TrimSpace(value)
			}
		}
		gpus = append(gpus, g)
	}
	return gpus
}

// toolOutput runs a small tool and returns what it printed, or "" where it is absent, fails or hangs.
func toolOutput(ctx context.Context, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return string(out)
}

// usableShare of a device's memory is a run's: the driver, its context and the gaps between buffers take the rest.
const usableShare = 0.9

// Usable is what of so many bytes of a device's memory a run can have.
func Usable(bytes int64) int64 { return int64(usableShare * float64(bytes)) }

// UsableBytes is what a run can have of each device's memory; 0 where not known. Virtual devices share the machine's, of which it is
// what other processes leave free now.
func (i Info) UsableBytes() int64 {
	all := i.Devices[0].MemoryBytes
	if i.Platform == string(platformCPU) || i.Platform == string(platformGo) {
		all = min(all, memInfo("MemAvailable")) / int64(len(i.Devices))
	}
	return Usable(all)
}

// memInfo is a line of /proc/meminfo in bytes, as "MemTotal:       16384 kB"; 0 where there is none.
func memInfo(name string) int64 {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, name+": %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	return 0
}

// hostMemory is the machine's memory in bytes, or the control group's limit where that is less; 0 where not known.
func hostMemory() int64 {
	total := memInfo("MemTotal")
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil { // "max" is no limit
			total = min(total, limit)
		}
	}
	return total
}

// userThreads says that the user already chose XLA's number of threads. Read at the start, as Open sets it too.
var userThreads = os.Getenv("PJRT_NPROC") != "" || os.Getenv("NPROC") != ""

// threads is what PJRT_NPROC has to be set to, 0 where the environment already decides.
func threads(o Options) int {
	if o.Threads > 0 {
		return o.Threads
	}
	if userThreads {
		return 0
	}
	return runtime.GOMAXPROCS(0)
}
