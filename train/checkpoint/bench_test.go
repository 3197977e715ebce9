package checkpoint_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"pretrain/internal/safetensors"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
)

// benchState is 200 MiB in 50 tensors, about a 17M-parameter model with Adam's moments in fp32.
func benchState() []checkpoint.Tensor {
	const n = 1 << 20
	tensors := make([]checkpoint.Tensor, 50)
	for i := range tensors {
		data := make([]byte, 4*n)
		for j := range data {
			data[j] = byte(i + j*j>>3)
		}
		tensors[i] = checkpoint.Tensor{Name: fmt.Sprintf("layers.%d.w", i), DType: safetensors.F32, Shape: []int{n}, Data: data}
	}
	return tensors
}

// BenchmarkSave saves 200 MiB durably (fsync included) into the temporary folder's file system.
func BenchmarkSave(b *testing.B) {
	tensors := benchState()
	store, err := checkpoint.Open(vfs.OS, filepath.Join(b.TempDir(), "checkpoints"), checkpoint.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(200 << 20)
	b.ReportAllocs()
	step := int64(0)
	for b.Loop() {
		step++
		if _, err := store.Save(context.Background(), checkpoint.Meta{Step: step}, tensors); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := store.Prune(context.Background(), checkpoint.Retention{Keep: 1}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkLoad loads 200 MiB and verifies it, from the page cache.
func BenchmarkLoad(b *testing.B) {
	store, err := checkpoint.Open(vfs.OS, filepath.Join(b.TempDir(), "checkpoints"), checkpoint.Options{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := store.Save(context.Background(), checkpoint.Meta{Step: 1}, benchState()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(200 << 20)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.Load(context.Background(), 1); err != nil {
			b.Fatal(err)
		}
	}
}
