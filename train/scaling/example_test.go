package scaling_test

import (
	"fmt"

	"pretrain/train/scaling"
)

// A fit of a few runs, and the size that it would train with a thousand times their compute.
func Example() {
	truth := scaling.Law{E: 1.7, A: 320, B: 900, Alpha: 0.33, Beta: 0.31}
	var runs []scaling.Point
	for _, n := range []float64{1e7, 3e7, 1e8, 3e8} {
		for _, d := range []float64{2e8, 1e9, 5e9, 2e10} {
			runs = append(runs, scaling.Point{N: n, D: d, Loss: truth.Loss(n, d)})
		}
	}
	fit, err := scaling.Run(runs, scaling.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	best := fit.Budget(3.6e22)
	fmt.Printf("E %.2f, alpha %.2f, beta %.2f; at 3.6e22 FLOPs %.1fB parameters, %.0f tokens for each\n",
		fit.Value("E"), fit.Value("alpha"), fit.Value("beta"), best.N/1e9, best.Ratio)
	// Output: E 1.70, alpha 0.33, beta 0.31; at 3.6e22 FLOPs 7.8B parameters, 100 tokens for each
}
