// Pretrain trains small language models from raw text to finished weights.
//
// This file wires and runs; each verb has a file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"pretrain/configs"
	"pretrain/internal/backend"
	"pretrain/train"

	"github.com/spf13/cobra"
)

// Exit codes: 0 success, 1 failure, 2 bad usage or configuration, 130 interrupted (the run is saved).
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := interruptible()
	code := Main(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// interruptible is a context that ends at the first Ctrl-C or SIGTERM. At the second the program exits at once; what is
// saved by then is complete, as nothing is ever half visible.
func interruptible() (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if _, ok := <-signals; !ok {
			return
		}
		fmt.Fprintln(os.Stderr, "\nstopping: what is under way is finished or saved first; once more to stop at once")
		cancel()
		if _, ok := <-signals; ok {
			os.Exit(exitInterrupted)
		}
	}()
	return ctx, func() { signal.Stop(signals); close(signals) }
}

// Main runs the command line and returns the exit code. Results go to stdout, everything else to stderr.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var bad *configs.Error
	var usage usageError
	var spec backend.SpecError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &bad), errors.As(err, &usage), errors.As(err, &spec):
		fmt.Fprintln(stderr, "pretrain:", err)
		return exitUsage
	case errors.Is(err, train.ErrInterrupted):
		fmt.Fprintln(stderr, "pretrain:", err)
		return exitInterrupted
	case errors.Is(err, context.Canceled): // before the first step, while data was prepared, or after the last
		fmt.Fprintln(stderr, "pretrain: interrupted: the same command goes on from what is done")
		return exitInterrupted
	default:
		fmt.Fprintln(stderr, "pretrain:", err)
		return exitFailed
	}
}

// usageError is a mistake on the command line.
type usageError struct{ error }

// usagef makes a usageError.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// noArgs refuses arguments that are no flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown argument %q: see `%s --help`", args[0], cmd.CommandPath())
	}
	return nil
}
