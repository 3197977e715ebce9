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
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// ErrChecksum is wrapped by the error of a download, or of an installed library, whose SHA-256 is not the pinned one.
var ErrChecksum = errors.New("SHA-256 mismatch")

// wheel pins one Python wheel and the plugin inside it. Python is only the courier: nothing of the wheel is executed
// but the library, and that only after both digests match.
type wheel struct {
	kind         Kind
	pkg, version string
	sha256       string
	member       string // path of the library inside the wheel
	memberSHA256 string
	memberSize   int64
	file         string // the library's name under Library.Dir (CPU)
}

// cpuWheel is XLA's CPU plugin as of jaxlib 0.11.2: PJRT C API 0.115, where go-xla v0.4.2 was made for 0.114 (the
// API is backward compatible within major version 0; GoMLX's own collective tests pass on it).
var cpuWheel = wheel{
	kind:         CPU,
	pkg:          "lammps-jax-pjrt-cpu",
	version:      "0.11.2",
	sha256:       "1319390d948b39f69f7dade496b7c385149d9ca6097a6b62114da113216d9ad1",
	member:       "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so",
	memberSHA256: "ad1309ac822b1b24d51b7f9947c7c9fa9ef5d67f390584cbc3d1fa2428fed9c2",
	memberSize:   201_600_336,
	// go-xla resolves the name "cpu" to any plugin called "cpu_v…".
	file: "pjrt_c_api_cpu_v0.115.0-jax0.11.2_plugin.so",
}

// install downloads the wheel and puts its library at dir/file: whole or not at all.
func (w wheel) install(ctx context.Context, dir string, out io.Writer) error {
	tmp, err := makeTemp(dir, w.kind)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	path, err := w.download(ctx, tmp, out)
	if err != nil {
		return err
	}
	extracted := filepath.Join(tmp, w.file)
	if err := w.extract(path, extracted); err != nil {
		return err
	}
	return publish(extracted, filepath.Join(dir, w.file))
}

// download fetches the wheel into the folder tmp and returns its path once its digest is right.
func (w wheel) download(ctx context.Context, tmp string, out io.Writer) (string, error) {
	// The wheels exist for this platform only; pip would say so less clearly.
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%s is built for linux/amd64, not for %s/%s", w.pkg, runtime.GOOS, runtime.GOARCH)
	}
	requirement := w.pkg + "==" + w.version
	fmt.Fprintf(out, "  python3 -m pip download %s\n", requirement)
	err := pip(ctx, tmp, "download", "--no-deps", "--only-binary=:all:", "--dest", tmp, requirement)
	if err != nil {
		return "", err
	}
	wheels, err := fs.Glob(os.DirFS(tmp), "*.whl")
	if err != nil {
		return "", err
	}
	if len(wheels) != 1 {
		return "", fmt.Errorf("pip download %s left %d wheels, not one", requirement, len(wheels))
	}
	path := filepath.Join(tmp, wheels[0])
	if err := checkSHA256(path, w.sha256); err != nil {
		return "", fmt.Errorf("%w: not installed; a mirror or a proxy may have changed the file", err)
	}
	fmt.Fprintf(out, "  SHA-256 %s… is the pinned one\n", w.sha256[:12])
	return path, nil
}

// extract writes the wheel's library to path and checks its size and digest.
func (w wheel) extract(wheelPath, path string) (err error) {
	archive, err := zip.OpenReader(wheelPath)
	if err != nil {
		return fmt.Errorf("open wheel %s: %w", filepath.Base(wheelPath), err)
	}
	defer archive.Close()
	in, err := archive.Open(w.member)
	if err != nil {
		return fmt.Errorf("wheel %s: %w", filepath.Base(wheelPath), err)
	}
	defer in.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	digest := sha256.New()
	// One byte more than expected shows a longer member without writing all of it.
	n, err := io.Copy(io.MultiWriter(f, digest), io.LimitReader(in, w.memberSize+1))
	if err != nil {
		return fmt.Errorf("unpack %s from %s: %w", w.member, filepath.Base(wheelPath), err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); n != w.memberSize || got != w.memberSHA256 {
		return fmt.Errorf("%w: %s in the wheel has %d bytes and %s, pinned are %d and %s", ErrChecksum, w.member, n, got, w.memberSize, w.memberSHA256)
	}
	return f.Sync()
}

// pip runs `python3 -m pip` with work as its scratch folder. Its error ends with pip's own last words and the mend.
func pip(ctx context.Context, work string, args ...string) error {
	python, err := exec.LookPath("python3")
	if err != nil {
		return errors.New("python3 is not on PATH: install Python 3 with pip (Debian, Ubuntu: apt-get install python3 python3-pip)")
	}
	// Without a bound on tries pip waits minutes on a machine without network.
	args = append([]string{"-m", "pip", args[0], "--disable-pip-version-check", "--no-input", "--progress-bar=off", "--retries=2", "--timeout=15"}, args[1:]...)
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Env = append(os.Environ(), "TMPDIR="+work) // wheels of gigabytes do not fit every /tmp
	cmd.WaitDelay = 2 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err = cmd.Run()
	if ctx.Err() != nil {
		return fmt.Errorf("pip %s: %w", args[2], context.Cause(ctx))
	}
	if err != nil {
		mend := "check the network, or name a reachable index in PIP_INDEX_URL"
		if strings.Contains(output.String(), "No module named pip") {
			mend = "install pip (Debian, Ubuntu: apt-get install python3-pip)"
		}
		return fmt.Errorf("pip %s: %w: %s (%s)", args[2], err, lastLines(output.String(), 2), mend)
	}
	return nil
}

// lastLines returns the last n non-empty lines of s as one line.
func lastLines(s string, n int) string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], " / ")
}

// checkSHA256 compares a file's digest, in hex, with the one wanted.
func checkSHA256(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, f); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != want {
		return fmt.Errorf("%w: %s has %s, pinned is %s", ErrChecksum, path, got, want)
	}
	return nil
}

// makeTemp makes a scratch folder beside the final place, so that publishing is a rename, and removes those of
// installations that were killed. The caller holds the kind's lock.
func makeTemp(dir string, kind Kind) (string, error) {
	prefix := ".install-" + string(kind) + "-"
	stale, err := fs.Glob(os.DirFS(dir), prefix+"*")
	for _, name := range stale {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, prefix)
}

// publish renames a finished file or folder to its final name and makes the rename durable.
func publish(from, to string) error {
	// A folder can only replace an empty one; what is there was found unusable by Find.
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
