package backend

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/go-xla/pjrt"
)

// platform is the family of devices that a spec asks for.
type platform string

const (
	platformAuto platform = "auto"
	platformCPU  platform = "cpu"
	platformCUDA platform = "cuda"
	platformGo   platform = "go"
	platformPJRT platform = "pjrt" // a plugin given by its path, for some other device
)

// spec is a parsed backend string.
type spec struct {
	platform platform
	path     string // the plugin's, where the string gives it
	options  string // ",key=value…" for go-xla, or ""
	devices  int    // virtual devices of a CPU, 0 where not given

	deterministic bool // of a GPU: only kernels that compute the same bits each time
}

// parseSpec reads the grammar of Open's spec.
func parseSpec(s string) (spec, error) {
	head, rest, _ := strings.Cut(s, ",")
	var sp spec
	switch name := strings.TrimPrefix(head, "xla:"); {
	case head == "" || head == "auto" || name == "xla" || name == "":
		sp.platform = platformAuto
	case head == "go":
		sp.platform = platformGo
	case name == "cpu" || name == "cuda":
		sp.platform = platform(name)
	case filepath.IsAbs(name) && pjrt.IsCUDAName(filepath.Base(name)):
		sp.platform, sp.path = platformCUDA, name
	case filepath.IsAbs(name) && strings.Contains(strings.ToLower(filepath.Base(name)), "cpu"):
		sp.platform, sp.path = platformCPU, name
	case filepath.IsAbs(name):
		sp.platform, sp.path = platformPJRT, name
	default:
		return spec{}, fmt.Errorf("backend %q is unknown: use auto, cpu, cuda, go or xla:/absolute/path/plugin.so, with options after a comma", s)
	}
	for option := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch {
		case option == "":
		case key == "devices":
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 {
				return spec{}, fmt.Errorf("backend %q: devices=%s: want a number of devices, 1 or more", s, value)
			}
			sp.devices = n
		case key == "deterministic" && sp.platform == platformCUDA && slices.Contains([]string{"", "true", "false"}, value):
			sp.deterministic = value != "false"
		case sp.platform == platformAuto || sp.platform == platformGo:
			return spec{}, fmt.Errorf("backend %q: option %s has no meaning for %s: name the device, as in cuda,%s", s, key, sp.platform, option)
		case !slices.Contains(xlaOptions, strings.TrimPrefix(key, "no")):
			return spec{}, fmt.Errorf("backend %q: option %q is unknown: go-xla has %s; and there are devices for the CPU and deterministic for cuda", s, key, strings.Join(xlaOptions, ", "))
		default:
			sp.options += "," + option
		}
	}
	return sp, nil
}

// xlaOptions are the options of go-xla v0.4.2 (package compute/xla); true or false ones are set by name alone too,
// and unset with "no" before it.
var xlaOptions = []string{"tf32", "shared_buffers", "preallocate", "memory_fraction", "allocator", "visible_devices", "use_tfrt_gpu_client"}
