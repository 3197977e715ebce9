//go:build cgo

package backend

/*
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

// XLA's CPU plugin allocates a program's temporary memory anew for every execution, hundreds of megabytes for a training
// step. By default glibc serves threads other than the first from heaps of at most 64 MiB and anything larger by mmap, so
// each step faults in and zeroes all of it again: a fifth of the processor time of a small model's step
// (docs/performance.md, "memory"). With one heap for all threads that neither shrinks nor is bypassed, a step finds its
// memory where the last one left it.
//
// Where there is a GPU all is left as it is: programs' memory is on the GPU, and the many threads that compile for it would wait for
// one heap (not measured).
//
// A constructor, because the number of heaps is fixed by the first thread that allocates. Who sets glibc's tunables
// knows better and is left alone.
__attribute__((constructor)) static void keep_memory(void) {
#ifdef __GLIBC__
	if (getenv("GLIBC_TUNABLES") || getenv("MALLOC_ARENA_MAX") || access("/dev/nvidiactl", F_OK) == 0) return;
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, -1);
	mallopt(M_TOP_PAD, 64 << 20);
#endif
}
*/
import "C"
