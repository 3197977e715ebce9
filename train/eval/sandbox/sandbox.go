// Package sandbox runs a Python program that a model wrote and nobody has read.
//
// The program has a time limit (of the clock and of the processor), a memory limit, no network, no other processes to see, no
// environment, and can write, make and remove files in an empty folder only, which is deleted afterwards. It can read what the
// user can read. This holds against accidents and crude malice; a program that finds a hole in the kernel gets out.
package sandbox

import (
	_ "embed"
	"errors"
	"time"
)

//go:embed run.py
var runner string

// Limits of one program.
type Limits struct {
	// Time of the clock. Default 10 s (HumanEval's own harness gives 3).
	Time time.Duration
	// Memory is the address space in bytes. Default 1 GiB.
	Memory int64
}

// Default are the limits of a small test.
func Default() Limits { return Limits{Time: 10 * time.Second, Memory: 1 << 30} }

// Outcome of a program.
type Outcome struct {
	// Passed says that it came to its end without an exception.
	Passed bool
	// Detail is the last line of what it wrote to standard error, or which limit it met.
	Detail string
}

// ErrUnavailable says that this machine cannot confine a program; nothing was run.
var ErrUnavailable = errors.New("generated code cannot be confined here, so it is not run")
