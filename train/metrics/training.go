package metrics

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Training says how a run is shown on a [Console].
type Training struct {
	// Steps and Tokens of the whole run.
	Steps, Tokens int64
	// EverySteps is the number of steps between two plain lines; 0: by time alone. The first step, the last and those with
	// a validation always have a line.
	EverySteps int64
	// Every is the longest time between two plain lines, looked at when a step ends; 0: by steps alone.
	Every time.Duration
}

// training is the sink that shows a run.
type training struct {
	Training
	console *Console
	bar     *progressbar.ProgressBar // nil where there is no terminal

	first   Record // of this process, with the time it arrived: the time left is reckoned from here
	since   time.Time
	printed time.Time
	last    Record // the one before
}

// Training is a sink that shows the run on the console: a bar with loss, learning rate, tokens/s, MFU and the time left
// on a terminal, lines with the same elsewhere. Validations, spikes and updates that were not finite have a line of their own on both.
func (c *Console) Training(t Training) Sink { return &training{Training: t, console: c} }

// Write implements [Sink]. A display that cannot be drawn is not an error.
func (t *training) Write(r Record) error {
	now := time.Now()
	begins := t.since.IsZero()
	if begins {
		t.first, t.since, t.last = r, now, r
		if t.console.terminal {
			t.bar = t.console.bar(t.Steps, progressbar.OptionShowCount(), progressbar.OptionShowDescriptionAtLineEnd(),
				progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false)) // ours knows of resumes and tokens
		}
	}
	event := r.Eval != nil || t.trouble(r) != ""
	switch {
	case t.bar != nil:
		if event {
			_ = t.bar.Clear()
			t.print(r, now)
		}
		t.bar.Describe(strings.Join(append(t.numbers(r), t.left(r, now)...), "  "))
		_ = t.bar.Set64(r.Step + 1)
	case event || begins || r.Step+1 == t.Steps,
		t.EverySteps > 0 && (r.Step+1)%t.EverySteps == 0,
		t.Every > 0 && now.Sub(t.printed) >= t.Every:
		t.print(r, now)
	}
	t.last = r
	return nil
}

// print writes the whole line.
func (t *training) print(r Record, now time.Time) {
	t.printed = now
	fields := []string{fmt.Sprintf("step %d/%d", r.Step+1, t.Steps)}
	if t.Tokens > 0 {
		fields = append(fields, fmt.Sprintf("%s/%s tokens", short(float64(r.Tokens), ""), short(float64(t.Tokens), "")))
	}
	fields = append(fields, t.numbers(r)...)
	if r.Eval != nil {
		fields = append(fields, fmt.Sprintf("val_loss %.4f", float64(r.ValLoss)), fmt.Sprintf("val_bpb %.4f", float64(r.ValBPB)))
	}
	if text := t.trouble(r); text != "" {
		fields = append(fields, text)
	}
	if r.DataWaitMS >= .1*r.StepMS && r.DataWaitMS >= 1 {
		fields = append(fields, fmt.Sprintf("waited %.0fms for data", float64(r.DataWaitMS)))
	}
	fmt.Fprintln(t.console.w, strings.Join(append(fields, t.left(r, now)...), "  "))
}

// trouble is what went wrong with an update, "" if nothing did or all is as planned: also in the steps that a rollback
// leaves out, which are many.
func (t *training) trouble(r Record) string {
	switch sum := float64(r.Loss + r.GradNorm); {
	case r.Skipped == t.last.Skipped:
		return ""
	case math.IsNaN(sum) || math.IsInf(sum, 0):
		return fmt.Sprintf("gradient not finite: update skipped (%d so far)", r.Skipped)
	case r.Spikes > t.last.Spikes:
		return fmt.Sprintf("spike: update skipped (%d so far)", r.Spikes)
	}
	return ""
}

func (t *training) numbers(r Record) []string {
	fields := []string{
		fmt.Sprintf("loss %.4f", float64(r.Loss)), fmt.Sprintf("lr %.3g", float64(r.LR)), short(float64(r.TokensPerSecond), "") + " tok/s",
	}
	if !math.IsNaN(float64(r.MFU)) {
		fields = append(fields, fmt.Sprintf("MFU %.1f%%", 100*float64(r.MFU)))
	}
	return fields
}

// left is the time to the end at the mean speed since this process's first step ended, validations and checkpoints included.
func (t *training) left(r Record, now time.Time) []string {
	done := r.Tokens - t.first.Tokens
	if done <= 0 || t.Tokens <= r.Tokens {
		return nil
	}
	left := float64(now.Sub(t.since)) / float64(done) * float64(t.Tokens-r.Tokens)
	return []string{span(time.Duration(left)) + " left"}
}

// Flush implements [Sink]; what is shown is not kept.
func (t *training) Flush() error { return nil }

// Close implements [Sink]. It takes the bar away, wherever it is.
func (t *training) Close() error {
	if t.bar != nil {
		_ = t.bar.Clear()
		_ = t.bar.Exit()
	}
	return nil
}
