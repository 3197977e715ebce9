package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"pretrain/configs"
)

// TestPlanCountsLooks: a look holds a step's gradients and state until the next is made, and makes the new state beside the old.
func TestPlanCountsLooks(t *testing.T) {
	plan := func(sets ...string) *memoryPlan {
		t.Helper()
		r, err := configs.LoadWithoutFiles("quickstart", append(sets, "model={d_model:32,head_dim:16,num_layers:1,max_seq_len:16}", "batch.tokens=64tok", "train.tokens=6400tok"))
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := planMemory(r, "cpu", "", io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	without, with := plan(), plan("metrics.looks=true")
	if got, want := with.Peak-without.Peak, 3*with.Parameters+2*with.Optimizer; got != want || want <= 0 {
		t.Errorf("looks take %d bytes more, want %d", got, want)
	}
}

// TestPlanOnUnknownMemory: of a device that does not say what it has, a plan says what a run takes and not whether it fits.
func TestPlanOnUnknownMemory(t *testing.T) {
	text := ""
	(&memoryPlan{Compiler: "cuda", Devices: 1, MicroBatch: 8, Peak: 1 << 30}).rows(func(key, format string, args ...any) {
		text += key + " " + fmt.Sprintf(format, args...) + "\n"
	})
	if !strings.Contains(text, "1024 MiB on each of 1 device(s)") || !strings.Contains(text, "fits not known") || strings.Contains(text, "largest") {
		t.Error(text)
	}
}
