//go:build !linux

package sandbox

import (
	"context"
	"fmt"
	"runtime"
)

// Run refuses: only Linux has what confines a program.
func Run(context.Context, string, Limits) (Outcome, error) {
	return Outcome{}, fmt.Errorf("%w: it needs Linux, this is %s", ErrUnavailable, runtime.GOOS)
}
