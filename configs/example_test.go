package configs_test

import (
	"errors"
	"fmt"

	"pretrain/configs"
)

func ExampleLoad() {
	run, err := configs.LoadWithoutFiles("2b", []string{"schedule.decay.length=20Btok"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(run.Run.Model.DModel, run.Derived.Steps, run.Derived.Steps-run.Derived.DecayStart)

	_, err = configs.LoadWithoutFiles("2b", []string{"schedule.peek_lr=0.01"})
	if bad := (*configs.Error)(nil); errors.As(err, &bad) {
		fmt.Println(err)
	}
	// Output:
	// 2304 279745 5087
	// --set schedule.peek_lr=0.01: schedule.peek_lr: unknown key; did you mean "peak_lr"?
}
