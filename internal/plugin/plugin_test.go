package plugin

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// testWheel returns a wheel with the given library inside, and its pins.
func testWheel(t *testing.T, library []byte) (wheel, []byte) {
	t.Helper()
	w := wheel{
		kind: CPU, pkg: "some-plugin", version: "1.2", member: "pkg/lib.so", memberSHA256: digest(library),
		memberSize: int64(len(library)), file: "pjrt_c_api_cpu_v1.2_plugin.so",
	}
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for _, m := range []struct {
		name    string
		content []byte
	}{{w.member, library}, {"pkg/__init__.py", nil}} {
		f, err := z.Create(m.name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	w.sha256 = digest(buf.Bytes())
	return w, buf.Bytes()
}

// fakePython puts a python3 first on PATH that runs the shell script, in which $dest is pip's --dest folder.
func fakePython(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	script = "#!/bin/sh\nwhile [ $# -gt 1 ]; do if [ \"$1\" = --dest ]; then dest=$2; fi; shift; done\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

// pipServes is a fakePython whose pip downloads the given bytes.
func pipServes(t *testing.T, content []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "served")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	fakePython(t, `cp "`+path+`" "$dest/some_plugin-1.2.whl"`)
}

func libraryOf(t *testing.T, w wheel) Library {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Fatalf("the wheels are for linux/amd64; this is %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	return Library{
		Dir:     filepath.Join(t.TempDir(), "a [b]", "lib"), // a name that a glob pattern would read otherwise
		sources: []source{{"the wheel", time.Minute, w.install}},
	}
}

// wantOnly fails where the library's folder holds any plugin-like or scratch file but the ones named.
func wantOnly(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".lock") {
			got = append(got, e.Name())
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("%s holds %q, want %q", dir, got, names)
	}
}

func TestInstallFromWheel(t *testing.T) {
	library := bytes.Repeat([]byte("machine code "), 1000)
	w, content := testWheel(t, library)
	lib := libraryOf(t, w)
	pipServes(t, content)

	// What a killed installation left goes away, and is no plugin.
	if err := os.MkdirAll(filepath.Join(lib.Dir, ".install-cpu-123", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p, err := lib.Install(t.Context(), CPU, &out)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Plugin{Kind: CPU, Path: filepath.Join(lib.Dir, w.file), Version: "v1.2"}); p != want {
		t.Errorf("got %+v, want %+v", p, want)
	}
	got, err := os.ReadFile(p.Path)
	if err != nil || !bytes.Equal(got, library) {
		t.Errorf("installed library differs from the wheel's: %v", err)
	}
	wantOnly(t, lib.Dir, w.file)

	// Idempotent: no python is asked again.
	fakePython(t, "exit 1")
	out.Reset()
	again, err := lib.Install(t.Context(), CPU, &out)
	if err != nil || again != p {
		t.Errorf("second install: %+v, %v", again, err)
	}
	if !strings.Contains(out.String(), "already installed: "+p.Path) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("second install printed %q", out.String())
	}
}

func TestInstallRefuses(t *testing.T) {
	library := bytes.Repeat([]byte("machine code "), 1000)
	good, content := testWheel(t, library)
	corrupt := bytes.Clone(content)
	corrupt[30+len(good.member)+8] ^= 1 // in the compressed library, which follows its header of 30 bytes and its name
	withPins := func(change func(*wheel)) wheel {
		w := good
		change(&w)
		return w
	}
	noPython := func(t *testing.T) { t.Setenv("PATH", t.TempDir()) }
	serve := func(b []byte) func(*testing.T) { return func(t *testing.T) { pipServes(t, b) } }
	script := func(s string) func(*testing.T) { return func(t *testing.T) { fakePython(t, s) } }

	for _, c := range []struct {
		name     string
		wheel    wheel
		python   func(*testing.T)
		checksum bool
		want     []string
	}{
		{"another wheel", good, serve(append(bytes.Clone(content), 0)), true, []string{"SHA-256 mismatch", good.sha256, "not installed"}},
		{"bit flip", good, serve(corrupt), true, []string{"SHA-256 mismatch"}},
		{"not a zip", withPins(func(w *wheel) { w.sha256 = digest([]byte("<html>")) }), serve([]byte("<html>")), false, []string{"open wheel", "zip"}},
		{"corrupt member", withPins(func(w *wheel) { w.sha256 = digest(corrupt) }), serve(corrupt), false, []string{"some_plugin-1.2.whl"}},
		{"member absent", withPins(func(w *wheel) { w.member = "other.so" }), serve(content), false, []string{"other.so"}},
		{"member of another digest", withPins(func(w *wheel) { w.memberSHA256 = digest(nil) }), serve(content), true, []string{"SHA-256 mismatch", "pkg/lib.so"}},
		{"member longer", withPins(func(w *wheel) { w.memberSize-- }), serve(content), true, []string{"SHA-256 mismatch"}},
		{"no python3", good, noPython, false, []string{"python3 is not on PATH", "apt-get install python3"}},
		{"no pip", good, script(`echo "/usr/bin/python3: No module named pip" >&2; exit 1`), false, []string{"No module named pip", "apt-get install python3-pip"}},
		{"offline", good, script(`echo "WARNING: Retrying"; echo "ERROR: No matching distribution found for some-plugin==1.2" >&2; exit 1`), false,
			[]string{"No matching distribution", "check the network"}},
		{"no wheel", good, script("exit 0"), false, []string{"left 0 wheels"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.python(t)
			lib := libraryOf(t, c.wheel)
			var later atomic.Int32
			lib.sources = append(lib.sources, source{"another way", time.Minute, func(context.Context, string, io.Writer) error {
				later.Add(1)
				return errors.New("not this one either")
			}})
			var out bytes.Buffer
			_, err := lib.Install(t.Context(), CPU, &out)
			if err == nil {
				t.Fatal("installed")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if errors.Is(err, ErrChecksum) != c.checksum {
				t.Errorf("errors.Is(%v, ErrChecksum) = %v", err, !c.checksum)
			}
			// A file that is not the pinned one stops the search; any other failure goes on to the next source.
			if wantLater := !c.checksum; (later.Load() == 1) != wantLater || wantLater != strings.Contains(err.Error(), "not this one either") {
				t.Errorf("next source tried %d times; error %v", later.Load(), err)
			}
			wantOnly(t, lib.Dir)
			if _, err := lib.Find(CPU); !errors.Is(err, ErrNotInstalled) {
				t.Errorf("Find after a failed installation: %v", err)
			}
		})
	}
}

func TestInstallFallsToTheNextSource(t *testing.T) {
	library := []byte("library")
	w, content := testWheel(t, library)
	pipServes(t, content)
	lib := libraryOf(t, w)
	lib.sources = []source{
		{"the first", 10 * time.Millisecond, func(ctx context.Context, _ string, _ io.Writer) error {
			return within(ctx, func() error { time.Sleep(time.Second); return nil })
		}},
		{"the wheel", time.Minute, w.install},
	}
	var out bytes.Buffer
	if _, err := lib.Install(t.Context(), CPU, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "the first: not done after 10ms") || !strings.Contains(out.String(), "installing from the wheel") {
		t.Errorf("printed %q", out.String())
	}
}

func TestInstallIntoUnwritableFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w, _ := testWheel(t, []byte("x"))
	lib := libraryOf(t, w)
	lib.Dir = filepath.Join(file, "lib") // not even root can make a folder under a file
	_, err := lib.Install(t.Context(), CPU, io.Discard)
	if err == nil || !strings.Contains(err.Error(), lib.Dir) || !strings.Contains(err.Error(), "set HOME") {
		t.Errorf("got %v", err)
	}
}

func TestInstallCancelled(t *testing.T) {
	fakePython(t, "sleep 60")
	w, _ := testWheel(t, []byte("x"))
	lib := libraryOf(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := lib.Install(ctx, CPU, io.Discard)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v to stop", d)
	}
	wantOnly(t, lib.Dir)
}

func TestConcurrentInstallsInstallOnce(t *testing.T) {
	library := bytes.Repeat([]byte("machine code "), 1000)
	w, content := testWheel(t, library)
	pipServes(t, content)
	lib := libraryOf(t, w)
	var installs atomic.Int32
	lib.sources = []source{{"the wheel", time.Minute, func(ctx context.Context, dir string, out io.Writer) error {
		installs.Add(1)
		return w.install(ctx, dir, out)
	}}}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if p, err := lib.Install(t.Context(), CPU, io.Discard); err != nil || checkSHA256(p.Path, w.memberSHA256) != nil {
				t.Errorf("%+v: %v", p, err)
			}
		})
	}
	group.Wait()
	if n := installs.Load(); n != 1 {
		t.Errorf("installed %d times", n)
	}
	wantOnly(t, lib.Dir, w.file)
}

func TestInstallWaitsForAnother(t *testing.T) {
	w, _ := testWheel(t, []byte("x"))
	lib := libraryOf(t, w)
	if err := os.MkdirAll(lib.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	held := flock.New(filepath.Join(lib.Dir, ".install-cpu.lock"))
	if ok, err := held.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer held.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := lib.Install(ctx, CPU, io.Discard)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for another installation") {
		t.Errorf("got %v", err)
	}
}

func TestFind(t *testing.T) {
	write := func(age time.Duration, parts ...string) string {
		t.Helper()
		path := filepath.Join(parts...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("library"), 0o755); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first, second := t.TempDir(), t.TempDir()
	lib := Library{Dir: second, Search: []string{filepath.Join(first, "absent"), first}}
	want := func(kind Kind, path, version string) {
		t.Helper()
		p, err := lib.Find(kind)
		if err != nil || p != (Plugin{kind, path, version}) {
			t.Errorf("got %+v, %v; want %s, version %q", p, err, path, version)
		}
	}
	for _, kind := range []Kind{CPU, CUDA12, CUDA13} {
		if _, err := lib.Find(kind); !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), first) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	write(0, first, "libother.so")
	write(0, first, "pjrt_c_api_cuda_plugin.so")
	damaged := write(0, first, cpuWheel.file)
	if _, err := lib.Find(CPU); !errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), damaged+" is damaged (7 bytes") {
		t.Errorf("got %v", err)
	}
	last := write(time.Hour, second, "pjrt_c_api_cpu_plugin.so")
	want(CPU, last, "")
	write(2*time.Hour, first, "pjrt-plugin-cpu.so")
	newer := write(time.Hour, first, "pjrt_c_api_cpu_v0.98.0_plugin.so") // by time, not by name
	write(2*time.Hour, first, "pjrt_c_api_cpu_v0.99.0_plugin.so")
	want(CPU, newer, "v0.98.0")

	goxla := write(0, first, "nvidia", "pjrt_c_api_cuda_plugin.so")
	want(CUDA13, goxla, "")
	own := write(0, first, "cuda13", "jax_plugins", "xla_cuda13", "xla_cuda_plugin.so")
	write(0, first, "cuda13", "jax_cuda13_pjrt-0.11.2.dist-info", "METADATA")
	want(CUDA13, own, "0.11.2")
	if _, err := lib.Find(CUDA12); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("cuda12: %v", err)
	}

	p, _ := lib.Find(CUDA13)
	t.Setenv("PATH", "")
	if dir := p.CUDADataDir(); dir != "" || p.NVRTC() != "" {
		t.Errorf("data dir %q without ptxas, NVRTC %q", dir, p.NVRTC())
	}
	write(0, second, "cuda-13.0", "nvvm", "libdevice", "libdevice.10.bc")
	if err := os.Chmod(write(0, second, "cuda-13.0", "bin", "nvcc"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(second, "cuda-13.0", "bin"))
	if dir := p.CUDADataDir(); dir != filepath.Join(second, "cuda-13.0") {
		t.Errorf("data dir %q, not that of nvcc", dir)
	}
	nvrtc := write(0, first, "cuda13", "nvidia", "cu13", "lib", "libnvrtc.so.13")
	if p.NVRTC() != nvrtc {
		t.Errorf("NVRTC %q, want %s", p.NVRTC(), nvrtc)
	}
	write(0, first, "cuda13", "nvidia", "cu13", "bin", "ptxas")
	if dir := p.CUDADataDir(); dir != filepath.Join(first, "cuda13", "nvidia", "cu13") {
		t.Errorf("data dir %q", dir)
	}
	write(0, first, "nvidia", "cuda_nvcc", "nvvm", "libdevice", "libdevice.10.bc")
	if dir := (Plugin{Kind: CUDA13, Path: goxla}).CUDADataDir(); dir != filepath.Join(first, "nvidia", "cuda_nvcc") {
		t.Errorf("data dir %q", dir)
	}
	// A file under the pinned name or version that is not the pinned build.
	if err := p.Verify(); !errors.Is(err, ErrChecksum) {
		t.Errorf("Verify: %v", err)
	}
	if err := (Plugin{Kind: CPU, Path: damaged}).Verify(); !errors.Is(err, ErrChecksum) {
		t.Errorf("Verify: %v", err)
	}
	if err := (Plugin{Kind: CPU, Path: last}).Verify(); err != nil {
		t.Errorf("Verify of a foreign plugin: %v", err)
	}
}

func TestDefault(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("LD_LIBRARY_PATH", "relative:/opt/lib")
	t.Setenv("PJRT_PLUGIN_LIBRARY_PATH", "/a::b:/c")
	lib, err := Default()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(lib.Dir, home) || fmt.Sprint(lib.Search) != "[/a /c]" {
		t.Errorf("got %+v", lib)
	}
	os.Unsetenv("PJRT_PLUGIN_LIBRARY_PATH") // t.Setenv above restores it
	lib, err = Default()
	if err != nil || fmt.Sprint(lib.Search) != fmt.Sprintf("[%s /usr/local/lib/go-xla /opt/lib]", lib.Dir) {
		t.Errorf("got %+v, %v", lib, err)
	}
	t.Setenv("HOME", "")
	if _, err := Default(); err == nil || !strings.Contains(err.Error(), "set HOME") {
		t.Errorf("without HOME: %v", err)
	}
}

func TestParseKind(t *testing.T) {
	for _, s := range []string{"cpu", "cuda12", "cuda13"} {
		if k, err := ParseKind(s); err != nil || string(k) != s {
			t.Errorf("%s: %v, %v", s, k, err)
		}
	}
	if _, err := ParseKind("cuda11"); err == nil || !strings.Contains(err.Error(), `"cuda11"`) {
		t.Errorf("got %v", err)
	}
}

// TestCUDAInstallLayout runs the CUDA way with a pip that does what the real one would: the plugin, with NVIDIA's
// libraries beside it, in the layout that its RPATH wants.
func TestCUDAInstallLayout(t *testing.T) {
	library := []byte("cuda library")
	w, content := testWheel(t, library)
	w.kind, w.member = CUDA13, cudaMember(CUDA13)
	served := filepath.Join(t.TempDir(), "served")
	if err := os.WriteFile(served, content, 0o644); err != nil {
		t.Fatal(err)
	}
	lib := libraryOf(t, w)
	bundle := cudaBundle{w, []string{"nvidia-cublas>=13,<14"}, 1 << 60}
	lib.sources = []source{bundle.source()}
	if _, err := lib.Install(t.Context(), CUDA13, io.Discard); err == nil || !strings.Contains(err.Error(), "GiB are needed") {
		t.Errorf("without disk space: %v", err)
	}
	bundle.space = 0
	lib.sources = []source{bundle.source()}
	pipScript := func(installed string) string {
		return `if [ -n "$dest" ]; then cp "` + served + `" "$dest/p.whl"; exit; fi
[ "$1" = "nvidia-cublas>=13,<14" ] || exit 3
site=$(ls -d "` + lib.Dir + `"/.install-cuda13-*)/site-packages
mkdir -p "$site/jax_plugins/xla_cuda13" "$site/nvidia/cu13/bin" && touch "$site/nvidia/cu13/bin/ptxas"
printf '` + installed + `' >"$site/jax_plugins/xla_cuda13/xla_cuda_plugin.so"`
	}
	fakePython(t, pipScript("another library"))
	if _, err := lib.Install(t.Context(), CUDA13, io.Discard); !errors.Is(err, ErrChecksum) {
		t.Errorf("got %v", err)
	}
	wantOnly(t, lib.Dir)
	fakePython(t, pipScript(string(library)))
	p, err := lib.Install(t.Context(), CUDA13, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(lib.Dir, "cuda13", cudaMember(CUDA13)); p.Path != want {
		t.Errorf("path %s, want %s", p.Path, want)
	}
	if dir := p.CUDADataDir(); dir != filepath.Join(lib.Dir, "cuda13", "nvidia", "cu13") {
		t.Errorf("data dir %q", dir)
	}
	wantOnly(t, lib.Dir, "cuda13")
}
