package main

import "pretrain/train/metrics"

// stageBars shows work that comes in stages, a progress bar for each.
type stageBars struct {
	console *metrics.Console
	bar     *metrics.Progress // of the current stage; nil: none
	stage   string
	done    int64
}

// show says how much of a stage is done, and of how much. The first call for a stage begins its bar and ends the one before.
func (b *stageBars) show(stage string, done, total int64, unit metrics.Unit) {
	if b.bar == nil || stage != b.stage {
		b.close()
		b.bar, b.stage, b.done = b.console.Progress(stage, total, unit), stage, 0
	}
	b.bar.Add(done - b.done)
	b.done = done
}

// close ends the last bar.
func (b *stageBars) close() {
	if b.bar != nil {
		b.bar.Close()
		b.bar = nil
	}
}
