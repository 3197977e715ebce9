package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/gofrs/flock"
	"github.com/gomlx/go-xla/installer"
)

// source is one way to get a plugin: install puts it under dir, or leaves nothing there.
type source struct {
	name    string
	limit   time.Duration
	install func(ctx context.Context, dir string, out io.Writer) error
}

// sourcesOf lists the ways to install a kind, in the order tried.
//
// For the CPU the pinned wheel goes first where it exists (linux/amd64). Go-xla's installer downloads a release for
// which its publisher gives no digest, so nothing could tell a wrong file, and it is another XLA: two machines
// would compute different last bits depending on which download site they reach. It stays the way on other
// platforms and where the package index cannot be reached.
func sourcesOf(kind Kind) []source {
	switch kind {
	case CUDA13:
		return []source{cuda13.source()}
	case CUDA12:
		return []source{cuda12.source()}
	}
	return []source{
		// The limit lets a 70 kB/s line finish its 63 MB.
		{"the wheel " + cpuWheel.pkg + " " + cpuWheel.version + " (63 MB)", 15 * time.Minute, cpuWheel.install},
		{"go-xla's installer (a GitHub release)", 15 * time.Minute, installUpstream},
	}
}

// Install returns the installed plugin of a kind, after installing it where there is none. Each step prints a line to
// out. Calls at the same time, from other processes too, wait for one another and install once. A killed call
// leaves nothing that Find would take.
//
// An error lists what each source said and how to mend it; it wraps ErrChecksum where a download was not the pinned
// one, and then no other source is tried: that wants a person's look.
func (l Library) Install(ctx context.Context, kind Kind, out io.Writer) (Plugin, error) {
	say := func(format string, args ...any) {
		fmt.Fprintf(out, "PJRT "+string(kind)+" plugin: "+format+"\n", args...)
	}
	if p, err := l.Find(kind); err == nil {
		say("already installed: %s", p.Path)
		return p, nil
	}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return Plugin{}, fmt.Errorf("install PJRT %s plugin: folder %s: %w: make it writable, or set HOME to a folder that is", kind, l.Dir, err)
	}
	lock := flock.New(filepath.Join(l.Dir, ".install-"+string(kind)+".lock"))
	if _, err := lock.TryLockContext(ctx, 200*time.Millisecond); ctx.Err() != nil {
		return Plugin{}, fmt.Errorf("install PJRT %s plugin: waiting for another installation (lock %s): %w", kind, lock.Path(), context.Cause(ctx))
	} else if err != nil {
		return Plugin{}, fmt.Errorf("install PJRT %s plugin: lock %s: %w: make the folder writable, or set HOME to one that is", kind, lock.Path(), err)
	}
	defer lock.Unlock()
	if p, err := l.Find(kind); err == nil {
		say("already installed, meanwhile, by another process: %s", p.Path)
		return p, nil
	}

	sources := l.sources
	if sources == nil {
		sources = sourcesOf(kind)
	}
	failed := fmt.Errorf("install PJRT %s plugin into %s", kind, l.Dir)
	for _, s := range sources {
		say("installing from %s", s.name)
		start := time.Now()
		p, err := l.installFrom(ctx, s, kind, out)
		if err == nil {
			say("installed in %.1f s: %s", time.Since(start).Seconds(), p.Path)
			return p, nil
		}
		say("%s: %v", s.name, err)
		failed = fmt.Errorf("%w: %s: %w", failed, s.name, err)
		if ctx.Err() != nil || errors.Is(err, ErrChecksum) {
			return Plugin{}, failed
		}
	}
	return Plugin{}, failed
}

func (l Library) installFrom(ctx context.Context, s source, kind Kind, out io.Writer) (Plugin, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("not done after %v", s.limit))
	defer cancel()
	if err := s.install(ctx, l.Dir, out); err != nil {
		return Plugin{}, err
	}
	return l.Find(kind)
}

// installUpstream runs go-xla's own installer for the CPU plugin that its release was tested with.
func installUpstream(ctx context.Context, dir string, out io.Writer) error {
	// The installer sets no time limit on its requests: a blocked network would hang it, so one small request with a
	// limit goes before it. A call given up on goes on in the background: it holds no lock of ours and
	// publishes by rename.
	const reach = 10 * time.Second
	probe, cancel := context.WithTimeoutCause(ctx, reach, fmt.Errorf("no answer in %v", reach))
	defer cancel()
	err := within(probe, func() error {
		_, err := installer.GitHubGetVersions(installer.BinaryCPUReleasesRepo)
		return err
	})
	if err != nil {
		return fmt.Errorf("not reachable: %w (behind a proxy, set HTTPS_PROXY)", err)
	}
	fmt.Fprintf(out, "  downloading for %s/%s; its publisher gives no digest to check it with\n", runtime.GOOS, runtime.GOARCH)
	return within(ctx, func() error { return installer.CPUAutoInstall(dir, false, installer.Quiet) })
}

// within runs f, which cannot be cancelled, and stops waiting for it when ctx ends.
func within(ctx context.Context, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
