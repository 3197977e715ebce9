package memory

import (
	"errors"
	"testing"
)

// The messages are those of XLA's plugins, of the CPU's as it was seen here.
func TestOutOfMemory(t *testing.T) {
	for text, want := range map[string]int64{
		`step 0: backend "xla": failed to execute computation "x": PJRT error (code=8): Out of memory allocating 1009986023492 bytes.`:          1009986023492,
		`PJRT error (code=8): RESOURCE_EXHAUSTED: Out of memory while trying to allocate 34359738368 bytes. [tf-allocator-allocation-error='']`: 34359738368,
		`RESOURCE_EXHAUSTED: Failed to allocate request for 2.50GiB (2684354560B) on device ordinal 0`:                                          0,
		`RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2.50GiB.`:                                                                   2684354560,
		`CUDA_ERROR_OUT_OF_MEMORY: out of memory`:                                                                                               0,
	} {
		if got, yes := OutOfMemory(errors.New(text)); !yes || got != want {
			t.Errorf("%s: %d, %t; want %d", text, got, yes, want)
		}
	}
	for _, text := range []string{"PJRT error (code=3): allocating 5 bytes", "no space left on device"} {
		if n, yes := OutOfMemory(errors.New(text)); yes || n != 0 {
			t.Errorf("%s: %d, %t", text, n, yes)
		}
	}
	if _, yes := OutOfMemory(nil); yes {
		t.Error("no error is out of memory")
	}
}
