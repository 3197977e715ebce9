package main

import (
	"io"
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
