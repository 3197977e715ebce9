package schedule_test

import (
	"fmt"

	"pretrain/internal/units"
	"pretrain/schedule"
)

func Example() {
	batch := schedule.DefaultBatch()
	batch.Tokens = 512_000
	batch.Ramp = []schedule.RampStage{{Until: units.OfRun(0.1), Tokens: 256_000}}
	run, err := schedule.NewPlan(batch, 1000, units.OfTokens(512e6))
	if err != nil {
		fmt.Println(err)
		return
	}
	lr, err := schedule.New(schedule.Default(), run)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, step := range []int64{0, 19, 500, run.Steps() - 1} {
		fmt.Printf("step %d: %s, %d tokens, lr %.4f\n", step, lr.Phase(step), run.SequencesAt(step)*run.SequenceLength(), lr.LR(step))
	}
	// Output:
	// step 0: warmup, 256000 tokens, lr 0.0005
	// step 19: warmup, 256000 tokens, lr 0.0100
	// step 500: stable, 512000 tokens, lr 0.0100
	// step 1099: decay, 512000 tokens, lr 0.0000
}
