package backend

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"pretrain/internal/gpu"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	g "github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// PeakEnv names the environment variable that gives Device.PeakFLOPS, as "989e12".
const PeakEnv = "PRETRAIN_PEAK_FLOPS"

// givenPeak is the peak that the caller or the environment gives, or 0.
func givenPeak(o Options) (flops float64, source string, err error) {
	if o.PeakFLOPS > 0 {
		return o.PeakFLOPS, "configuration", nil
	}
	value := os.Getenv(PeakEnv)
	if value == "" {
		return 0, "", nil
	}
	flops, err = strconv.ParseFloat(value, 64)
	if err != nil || !(flops > 0) {
		return 0, "", fmt.Errorf("%s=%q: want one device's operations a second, as 989e12", PeakEnv, value)
	}
	return flops, PeakEnv, nil
}

// tablePeak looks a GPU up by the name that its driver gives; an unknown one, or a slice of one (MIG), has no peak.
func tablePeak(name string) (flops float64, source string) {
	g, ok := gpu.ByDriverName(name)
	if !ok {
		return 0, ""
	}
	return g.FLOPS(), "data sheet of " + g.Name + ", bf16 dense"
}

// MeasurePeak measures what matrix products reach on device 0, in bf16 with float32 output: the practical peak of a
// device without a data sheet, as a CPU. It takes about half a second on the CPU plugin. Set Device.PeakFLOPS to it,
// and say "measured", to have an MFU that means "of this machine's best matrix product". On another busy machine it
// reads low.
func MeasurePeak(be compute.Backend) (float64, error) {
	const (
		n    = 1024                   // rows and columns: two operands and a result fit a large cache
		deep = 8                      // products in one program, so that its start does not count
		long = 400 * time.Millisecond // of measurement; the best call counts, as others share the machine
	)
	exec, err := g.NewExec(be, func(x, w *g.Node) *g.Node {
		w = g.ConvertDType(w, dtypes.BFloat16)
		for range deep {
			// The accumulator left unset is the CPU plugin's fast path for bf16 with a float32 result.
			x = g.Dot(g.ConvertDType(x, dtypes.BFloat16), w).WithAccumulatorDType(dtypes.InvalidDType).WithOutputDType(dtypes.Float32).Product()
		}
		return g.ReduceAllSum(x)
	})
	if err != nil {
		return 0, fmt.Errorf("measure peak: %w", err)
	}
	defer exec.Finalize()
	x := tensors.FromScalarAndDimensions(float32(1.0/n), n, n)
	call := func() (time.Duration, error) {
		start := time.Now()
		out, err := exec.Call(x, x)
		if err != nil {
			return 0, fmt.Errorf("measure peak: %w", firstLine(err))
		}
		out[0].Value() // waits for the device
		return time.Since(start), nil
	}
	if _, err := call(); err != nil { // compiles
		return 0, err
	}
	var best time.Duration
	for start := time.Now(); best == 0 || time.Since(start) < long; {
		d, err := call()
		if err != nil {
			return 0, err
		}
		if best == 0 || d < best {
			best = d
		}
	}
	return deep * 2 * n * n * n / best.Seconds(), nil
}
