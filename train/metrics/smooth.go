package metrics

// Smoothed moves the mean of the losses before to take in loss, that of the n-th update, n from 1. It is a moving average over about
// the last 50 updates, and over fewer of them at the beginning, a fifth of those so far: while the loss falls fast, a long
// memory would give a mean far above it.
func Smoothed(mean, loss float64, n int64) float64 {
	return mean + (loss-mean)/min(50, 1+float64(max(n, 1)-1)/5)
}
