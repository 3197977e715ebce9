package train

import (
	"errors"
	"fmt"

	"pretrain/internal/backend/memory"
)

// ErrNoAccount says that the backend does not tell what memory a program takes. GoMLX's own does not.
var ErrNoAccount = errors.New("the backend does not say what a program takes of its memory: use --backend cpu or cuda")

// Peak is the memory that a step takes of each device, in bytes, by the compiler's account: program and state while the step
// runs. The step is that of [Program.Compile]; it is compiled and not run.
func (p *Program) Peak(sequences, seqLen, microBatches int) (int64, error) {
	gr, err := p.Compile(sequences, seqLen, microBatches)
	if err != nil {
		return 0, err
	}
	m, known := memory.Of(gr)
	if !known {
		return 0, ErrNoAccount
	}
	return m.Peak(), nil
}

// ErrNoRoom says that not even the smallest micro-batch fits.
var ErrNoRoom = errors.New("no room")

// Fit is the largest of sizes, ascending micro-batches, whose peak is at most usable bytes, and that peak. It tries the largest
// first, which most often fits and is what the run compiles anyway, then the smallest, and then sizes between the largest that
// fits and the smallest that does not, where a line through those two meets usable: memory grows about linearly.
func Fit(sizes []int64, usable int64, peak func(sequences int64) (int64, error)) (sequences, bytes int64, err error) {
	// The peak at sizes[i]; a program too large to be compiled has more than any device.
	at := func(i int) (float64, error) {
		n, err := peak(sizes[i])
		if _, full := memory.OutOfMemory(err); full {
			return 1 << 62, nil
		}
		return float64(n), err
	}
	if len(sizes) == 0 {
		return 0, 0, errors.New("no micro-batch divides the batch")
	}
	low, high := 0, len(sizes)-1
	most, err := at(high)
	if err != nil || most <= float64(usable) {
		return sizes[high], int64(most), err
	}
	least := most
	if low < high {
		if least, err = at(low); err != nil {
			return 0, 0, err
		}
	}
	if least > float64(usable) {
		return 0, 0, fmt.Errorf("%w for %d sequences at once: they take %.4g GiB of %.4g", ErrNoRoom, sizes[0], least/(1<<30), float64(usable)/(1<<30))
	}
	for high-low > 1 { // low fits, high does not
		slope := (most - least) / float64(sizes[high]-sizes[low])
		next := low + 1
		for next+1 < high && least+slope*float64(sizes[next+1]-sizes[low]) <= float64(usable) {
			next++
		}
		n, err := at(next)
		if err != nil {
			return 0, 0, err
		}
		if n <= float64(usable) {
			low, least = next, n
		} else {
			high, most = next, n
		}
	}
	return sizes[low], int64(least), nil
}
