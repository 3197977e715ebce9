package metrics

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// plainEvery is the time between two lines of a stage's progress where there is no terminal: often enough to see that it
// lives, seldom enough for a log.
const plainEvery = 10 * time.Second

// Console is where a person follows a run: progress bars on a terminal, plain lines elsewhere (a log file, CI).
type Console struct {
	w        io.Writer
	terminal bool
}

// NewConsole writes to w, which should be standard error: standard output is for results. It is a terminal if w is one and
// TERM is not "dumb".
func NewConsole(w io.Writer) *Console {
	f, ok := w.(*os.File)
	return &Console{w, ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"}
}

// bar is a progress bar that leaves nothing behind when it is done.
func (c *Console) bar(total int64, options ...progressbar.Option) *progressbar.ProgressBar {
	if total <= 0 {
		total = -1 // a spinner
	}
	bar := progressbar.NewOptions64(total, append([]progressbar.Option{
		progressbar.OptionSetWriter(c.w), progressbar.OptionSetWidth(20), progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionUseANSICodes(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine that draws between our lines
	}, options...)...)
	bar.StartWithoutRender() // its clock, which would otherwise miss the time up to the first Add
	return bar
}

// Unit is what a stage's progress counts: [Bytes], or a plural noun such as "documents".
type Unit string

// Bytes are shown with a decimal prefix: 4.5 MB.
const Bytes Unit = "bytes"

func (u Unit) format(n float64) string {
	if u == Bytes {
		return short(n, " ") + "B"
	}
	if n < 1e5 {
		return strconv.FormatFloat(n, 'f', 0, 64) + " " + string(u)
	}
	return short(n, "") + " " + string(u)
}

// Progress shows how far one stage is. Its methods may be called concurrently.
type Progress struct {
	stage string
	total int64
	unit  Unit
	w     io.Writer
	start time.Time
	bar   *progressbar.ProgressBar // nil where there is no terminal

	mu      sync.Mutex
	done    int64
	printed time.Time
	closed  bool
}

// Progress starts to show a stage that counts up to total, or to an unknown number if total is 0.
func (c *Console) Progress(stage string, total int64, unit Unit) *Progress {
	now := time.Now()
	p := &Progress{stage: stage, total: total, unit: unit, w: c.w, start: now, printed: now}
	if c.terminal {
		options := []progressbar.Option{progressbar.OptionSetDescription(stage), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(total > 0)}
		if unit == Bytes {
			options = append(options, progressbar.OptionShowBytes(true), progressbar.OptionShowTotalBytes(total > 0))
		} else {
			options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetItsString(string(unit)))
		}
		p.bar = c.bar(total, options...)
	}
	return p
}

// Add counts n more.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.closed {
		return
	}
	if p.bar != nil {
		_ = p.bar.Add64(n) // a display that cannot be drawn is no reason to stop
		return
	}
	if now := time.Now(); now.Sub(p.printed) >= plainEvery {
		p.printed = now
		fmt.Fprintln(p.w, p.status(now))
	}
}

// Close ends the display and leaves one line that says what was done, how fast. Calling it again does nothing, so it can
// be deferred for the error path.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	if p.bar != nil {
		_ = p.bar.Clear()
		_ = p.bar.Exit()
	}
	took := time.Since(p.start)
	fmt.Fprintf(p.w, "%s: %s in %s%s\n", p.stage, p.unit.format(float64(p.done)), span(took), p.rate(took))
}

func (p *Progress) status(now time.Time) string {
	took := now.Sub(p.start)
	if p.total <= 0 {
		return fmt.Sprintf("%s: %s%s", p.stage, p.unit.format(float64(p.done)), p.rate(took))
	}
	left := time.Duration(float64(took) * max(0, float64(p.total)/float64(p.done)-1))
	return fmt.Sprintf("%s: %d%% of %s%s, %s left", p.stage, 100*p.done/p.total, p.unit.format(float64(p.total)), p.rate(took), span(left))
}

func (p *Progress) rate(took time.Duration) string {
	if took < 10*time.Millisecond { // over so fast that a rate says nothing
		return ""
	}
	return ", " + p.unit.format(float64(p.done)/took.Seconds()) + "/s"
}

// short is a number with three significant digits and a decimal prefix: 4.61k, 27.1M. gap stands between the two.
func short(n float64, gap string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P"}
	i := 0
	for ; math.Abs(n) >= 999.5 && i < len(prefixes)-1; i++ {
		n /= 1000
	}
	if i == 0 {
		return strconv.FormatFloat(math.Round(n), 'f', -1, 64) + gap
	}
	digits := 2
	for limit := 9.995; digits > 0 && math.Abs(n) >= limit; limit = 99.95 {
		digits--
	}
	return strconv.FormatFloat(n, 'f', digits, 64) + gap + prefixes[i]
}

// span is a duration as a person says it: 8s, 5m12s, 3h05m, 12d4h.
func span(d time.Duration) string {
	s := int64(max(d, 0).Round(time.Second) / time.Second)
	switch m, h := s/60, s/3600; {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case h < 1:
		return fmt.Sprintf("%dm%02ds", m, s%60)
	case h < 48:
		return fmt.Sprintf("%dh%02dm", h, m%60)
	default:
		return fmt.Sprintf("%dd%dh", h/24, h%24)
	}
}
