package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// unconfined is run.py's exit code where the kernel has no Landlock.
const unconfined = 77

// Run runs a program. An error is of the sandbox, not of the program; [ErrUnavailable] is in its chain where the kernel refuses
// what confines it.
func Run(ctx context.Context, program string, l Limits) (Outcome, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return Outcome{}, fmt.Errorf("%w: python3 is not on PATH", ErrUnavailable)
	}
	dir, err := os.MkdirTemp("", "pretrain-sandbox-")
	if err != nil {
		return Outcome{}, fmt.Errorf("sandbox: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	limited, cancel := context.WithTimeout(ctx, l.Time)
	defer cancel()

	word := rand.Text()
	seconds := int(math.Ceil(l.Time.Seconds()))
	cmd := exec.CommandContext(limited, python, "-I", "-S", "-c", runner, strconv.Itoa(seconds), strconv.FormatInt(l.Memory, 10), word)
	out, problems := &tail{limit: 1 << 12}, &tail{limit: 1 << 12}
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = dir, []string{}, strings.NewReader(program), out, problems
	cmd.WaitDelay = l.Time // for what keeps the pipes open
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Namespaces of its own: no network, and the end of the first process is the end of all it started.
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return Outcome{}, fmt.Errorf("%w: the kernel refuses user namespaces: %w", ErrUnavailable, err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return Outcome{}, ctx.Err()
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		return Outcome{Detail: fmt.Sprintf("time limit of %v", l.Time)}, nil
	case errors.As(err, &exit) && exit.ExitCode() == unconfined && !bytes.Contains(out.b, []byte(word)):
		return Outcome{}, fmt.Errorf("%w: the kernel has no Landlock", ErrUnavailable)
	case err == nil && bytes.HasSuffix(out.b, []byte(word)):
		return Outcome{Passed: true}, nil
	}
	detail := strings.TrimSpace(string(problems.b))
	if at := strings.LastIndexByte(detail, '\n'); at >= 0 {
		detail = detail[at+1:]
	}
	if detail == "" {
		detail = "it ended early"
		if err != nil {
			detail = err.Error()
		}
	}
	return Outcome{Detail: detail}, nil
}

// tail keeps the last bytes of a stream: a program may write without end.
type tail struct {
	b     []byte
	limit int
}

func (w *tail) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	w.b = w.b[max(0, len(w.b)-w.limit):]
	return len(p), nil
}
