// Package plugin finds and installs PJRT plugins, the shared libraries through which a program reaches XLA.
//
// A plugin lives in the user's library folder, never in a checkout, under a name by which go-xla finds it too:
//
//	lib, err := plugin.Default()
//	p, err := lib.Install(ctx, plugin.CPU, os.Stderr) // a second call only prints "already installed"
//	// p.Path is what the backend string "xla:/absolute/path" wants
//
// The package loads nothing: it handles files. Package backend opens what it finds.
package plugin

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gomlx/go-xla/installer"
)

// Kind says for which device, and which driver generation, a plugin is built.
type Kind string

// The kinds that can be installed.
const (
	CPU    Kind = "cpu"
	CUDA13 Kind = "cuda13" // NVIDIA driver 580 or newer
	CUDA12 Kind = "cuda12" // NVIDIA driver 525 or newer
)

// ParseKind reads the value of `pretrain setup --backend`.
func ParseKind(s string) (Kind, error) {
	switch k := Kind(s); k {
	case CPU, CUDA13, CUDA12:
		return k, nil
	}
	return "", fmt.Errorf("plugin kind %q is unknown: use cpu, cuda13 or cuda12", s)
}

// Plugin is one installed plugin.
type Plugin struct {
	Kind Kind `json:"kind"`
	// Path is the absolute path of the shared library.
	Path string `json:"path"`
	// Version is what the file's name, or its Python package, tells; empty where they tell nothing.
	Version string `json:"version,omitempty"`
}

// CUDADataDir returns the folder with NVIDIA's ptxas and libdevice that belongs to a CUDA plugin, else that of the nvcc on PATH, or
// "" where there is neither and XLA has to look for itself.
func (p Plugin) CUDADataDir() string {
	if p.Kind == CPU {
		return ""
	}
	var dirs []string
	for _, nvidia := range p.nvidia() {
		for _, sub := range []string{"cu13", "cuda_nvcc", ""} {
			dirs = append(dirs, filepath.Join(nvidia, sub))
		}
	}
	if nvcc, err := exec.LookPath("nvcc"); err == nil {
		if nvcc, err = filepath.EvalSymlinks(nvcc); err == nil {
			dirs = append(dirs, filepath.Dir(filepath.Dir(nvcc)))
		}
	}
	for _, dir := range dirs {
		if isFile(filepath.Join(dir, "bin", "ptxas")) || isFile(filepath.Join(dir, "nvvm", "libdevice", "libdevice.10.bc")) {
			return dir
		}
	}
	return ""
}

// nvidia are the folders where NVIDIA's libraries would be that belong to a CUDA plugin.
func (p Plugin) nvidia() []string {
	up := filepath.Dir(filepath.Dir(p.Path)) // …/jax_plugins for pip's layout, …/go-xla for go-xla's
	return []string{filepath.Join(filepath.Dir(up), "nvidia"), filepath.Join(up, "nvidia")}
}

// NVRTC returns NVIDIA's run-time compiler that belongs to a CUDA plugin, or "". CuDNN looks for it by itself, but not always where pip
// puts it (so JAX loads it before).
func (p Plugin) NVRTC() string {
	if p.Kind == CPU {
		return ""
	}
	for _, nvidia := range p.nvidia() {
		for _, sub := range []string{"cu13", "cuda_nvrtc"} {
			found, err := fs.Glob(os.DirFS(filepath.Join(nvidia, sub, "lib")), "libnvrtc.so.1[0-9]")
			if err == nil && len(found) > 0 {
				return filepath.Join(nvidia, sub, "lib", found[0])
			}
		}
	}
	return ""
}

// Verify reads the whole library and compares it with the SHA-256 pinned for it (about a second). A plugin that this
// package does not pin, which somebody else put there, passes.
func (p Plugin) Verify() error {
	for _, w := range []wheel{cpuWheel, cuda13.wheel, cuda12.wheel} {
		if w.kind == p.Kind && (filepath.Base(p.Path) == w.file || p.Kind != CPU && p.Version == w.version) {
			return checkSHA256(p.Path, w.memberSHA256)
		}
	}
	return nil
}

// ErrNotInstalled is wrapped by Find's error where no usable plugin of the kind exists.
var ErrNotInstalled = errors.New("no PJRT plugin installed")

// Library is a set of folders with plugins. Build it with Default; tests build their own.
type Library struct {
	// Dir is the folder that Install writes to. Find looks there after Search.
	Dir string
	// Search lists the folders that Find looks into first, in order.
	Search []string

	// sources replaces the kind's own ways to install, in tests.
	sources []source
}

// Default is the library that go-xla itself uses: the folders of PJRT_PLUGIN_LIBRARY_PATH where it is set, else
// ~/.local/lib/go-xla, /usr/local/lib/go-xla and those of LD_LIBRARY_PATH. Plugins are installed into the one in
// the home folder, which is searched in every case, else an installed plugin would not be found again. Go-xla goes on
// to the system linker's folders; a plugin there needs the backend string with its path.
func Default() (Library, error) {
	home, err := installer.DefaultHomeLibPath()
	if err != nil {
		return Library{}, fmt.Errorf("the folder for PJRT plugins: %w: set HOME", err)
	}
	lib := Library{Dir: filepath.Join(home, "go-xla")}
	if dirs, set := os.LookupEnv("PJRT_PLUGIN_LIBRARY_PATH"); set {
		lib.Search = filepath.SplitList(dirs)
	} else {
		lib.Search = append([]string{lib.Dir, "/usr/local/lib/go-xla"}, filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))...)
	}
	lib.Search = slices.DeleteFunc(lib.Search, func(d string) bool { return !filepath.IsAbs(d) })
	return lib, nil
}

// Find returns the plugin of a kind to use, without loading it: from the first folder that has one, this package's
// pinned build before others, then the one installed last. Its error wraps ErrNotInstalled, names the folders and
// any file passed over because it is damaged.
func (l Library) Find(kind Kind) (Plugin, error) {
	dirs := l.Search
	if !slices.Contains(dirs, l.Dir) {
		dirs = append(slices.Clone(dirs), l.Dir)
	}
	var damaged []string
	for _, dir := range dirs {
		candidates := findCUDA
		if kind == CPU {
			candidates = findCPU
		}
		for _, p := range candidates(dir, kind) {
			if filepath.Base(p.Path) == cpuWheel.file && size(p.Path) != cpuWheel.memberSize {
				damaged = append(damaged, fmt.Sprintf("; %s is damaged (%d bytes of %d)", p.Path, size(p.Path), cpuWheel.memberSize))
				continue
			}
			return p, nil
		}
	}
	return Plugin{}, fmt.Errorf("%w: none for %s in %s%s", ErrNotInstalled, kind, strings.Join(dirs, ", "), strings.Join(damaged, ""))
}

// cpuName matches the file names under which go-xla knows CPU plugins; the group is the version.
var cpuName = regexp.MustCompile(`^(?:pjrt_c_api_cpu(?:_(.+))?_plugin|pjrt[-_]plugin[-_]cpu(?:_(.+))?)\.(?:so|dylib)$`)

func findCPU(dir string, kind Kind) []Plugin {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // an absent or unreadable search folder holds no plugin; Install reports its own
	}
	type found struct {
		Plugin
		when int64
	}
	var all []found
	for _, e := range entries {
		m := cpuName.FindStringSubmatch(e.Name())
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path) // follows links: go-xla links its default version
		if m == nil || err != nil || !info.Mode().IsRegular() {
			continue
		}
		f := found{Plugin{Kind: kind, Path: path, Version: cmp.Or(m[1], m[2])}, info.ModTime().UnixNano()}
		if e.Name() == cpuWheel.file {
			f.when = 1<<63 - 1
		}
		all = append(all, f)
	}
	slices.SortStableFunc(all, func(a, b found) int { return cmp.Compare(b.when, a.when) })
	plugins := make([]Plugin, len(all))
	for i, f := range all {
		plugins[i] = f.Plugin
	}
	return plugins
}

func findCUDA(dir string, kind Kind) []Plugin {
	var plugins []Plugin
	if path := filepath.Join(dir, string(kind), cudaMember(kind)); isFile(path) {
		p := Plugin{Kind: kind, Path: path}
		prefix := "jax_" + string(kind) + "_pjrt-"
		if dist, _ := fs.Glob(os.DirFS(filepath.Join(dir, string(kind))), prefix+"*.dist-info"); len(dist) > 0 {
			p.Version = strings.TrimSuffix(strings.TrimPrefix(dist[0], prefix), ".dist-info")
		}
		plugins = append(plugins, p)
	}
	// The place where go-xla's installer puts its CUDA plugin. It does not record the generation: 13 is its default.
	if path := filepath.Join(dir, "nvidia", "pjrt_c_api_cuda_plugin.so"); kind == CUDA13 && isFile(path) {
		plugins = append(plugins, Plugin{Kind: kind, Path: path})
	}
	return plugins
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return -1
	}
	return info.Size()
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
