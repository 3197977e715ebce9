// Package backendtest gives tests the CPU backend and inputs to run on it.
package backendtest

import (
	"math/rand/v2"
	"sync"
	"testing"

	"pretrain/internal/backend"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"
)

var cpu = sync.OnceValues(func() (compute.Backend, error) {
	be, _, err := backend.Open("cpu", backend.Options{})
	return be, err
})

// CPU is the CPU backend, one for all tests of a process. It fails the test where the plugin is not installed.
func CPU(t testing.TB) compute.Backend {
	t.Helper()
	be, err := cpu()
	if err != nil {
		t.Fatalf("open the CPU backend (run make setup): %v", err)
	}
	return be
}

var virtual struct {
	sync.Mutex
	backends map[int]compute.Backend
}

// Devices is the CPU as so many devices, to run sharded programs on. Like [CPU] it lives as long as the process.
func Devices(t testing.TB, n int) compute.Backend {
	t.Helper()
	virtual.Lock()
	defer virtual.Unlock()
	if be := virtual.backends[n]; be != nil {
		return be
	}
	be, _, err := backend.Open("cpu", backend.Options{VirtualDevices: n})
	if err != nil {
		t.Fatalf("open the CPU backend as %d devices (run make setup): %v", n, err)
	}
	if virtual.backends == nil {
		virtual.backends = map[int]compute.Backend{}
	}
	virtual.backends[n] = be
	return be
}

// Normal is n standard normal numbers, the same ones for the same seed.
func Normal(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 0))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// NormalTensor is [Normal] in a shape.
func NormalTensor(seed uint64, dims ...int) *tensors.Tensor {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return tensors.FromFlatDataAndDimensions(Normal(seed, n), dims...)
}

// Tokens is n numbers from 0 to vocab-1, uniform, the same ones for the same seed.
func Tokens(seed uint64, n, vocab int) []int32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]int32, n)
	for i := range x {
		x[i] = r.Int32N(int32(vocab))
	}
	return x
}
