package main

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// self is this program with other arguments, not started yet. When ctx ends it is killed.
func self(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, path, args...)
	c.Args[0] = os.Args[0] // as this one was called
	return c, nil
}

// trainer is [self] for a training run: when ctx ends it is asked to save and stop.
func trainer(ctx context.Context, args ...string) (*exec.Cmd, error) {
	c, err := self(ctx, args...)
	if err != nil {
		return nil, err
	}
	// A group of its own: Ctrl-C at the terminal would reach it besides our signal, and two of them mean "at once".
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	return c, nil
}

// args are the arguments that choose the same configuration in a child process.
func (f *configFlags) args(backendSpec string) []string {
	args := []string{"--config", f.config}
	for _, s := range f.sets {
		args = append(args, "--set", s)
	}
	if backendSpec != "" {
		args = append(args, "--backend", backendSpec)
	}
	return args
}

// shellWords joins arguments such that a shell takes them apart again.
func shellWords(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		words[i] = a
		if a == "" || strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./,:@%+") != "" {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
