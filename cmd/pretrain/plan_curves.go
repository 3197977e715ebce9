package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/configs"
	"pretrain/internal/chart"
)

// curves are what changes over a run: learning rate, batch and mixture.
type curves struct {
	plan    plan
	lr      func(step int64) float64
	tokens  func(step int64) int64 // trained on before a step
	sources []string
}

func (p plan) curves(r *configs.Resolved) curves {
	c := curves{plan: p, lr: r.Schedule.LR, tokens: r.Plan.TokensBefore}
	for _, s := range p.Stages {
		for name := range s.Mix {
			if !slices.Contains(c.sources, name) {
				c.sources = append(c.sources, name)
			}
		}
	}
	slices.Sort(c.sources)
	return c
}

// batch is the tokens of a step.
func (c curves) batch(step int64) float64 { return float64(c.tokens(step+1) - c.tokens(step)) }

// share of a source at a step, in percent.
func (c curves) share(source string, step int64) float64 {
	for _, s := range c.plan.Stages {
		if s.From <= step && step < s.To {
			return 100 * s.Mix[source]
		}
	}
	return 0
}

const columns = 72 // of a drawing on the terminal

// draw draws them for a terminal; a batch that stays as it is and a single source are no curves.
func (c curves) draw(w io.Writer) error {
	sampled := func(f func(step int64) float64) (values [columns]float64) {
		for i := range values {
			values[i] = f(c.plan.Steps * int64(i) / columns)
		}
		return values
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nlearning rate over the run\n%s\n", plot(sampled(c.lr), 8, c.plan.Steps))
	if len(c.plan.Batches) > 1 {
		fmt.Fprintf(&b, "\ntokens a step\n%s\n", plot(sampled(c.batch), 4, c.plan.Steps))
	}
	if len(c.sources) > 1 {
		b.WriteString("\nmixture: a full block is all of it\n")
		for _, source := range c.sources {
			shares := sampled(func(step int64) float64 { return c.share(source, step) })
			for i, v := range shares {
				if v > 0 {
					shares[i] = max(v, 100.0/8) // a little is not nothing
				}
			}
			fmt.Fprintf(&b, "%9.9s |%s\n", source, strings.TrimRight(bars(shares, 100, 1, 1), " "))
		}
		b.WriteString(axis(c.plan.Steps) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// plot draws values from 0 to their largest in so many rows.
func plot(values [columns]float64, rows int, steps int64) string {
	top := slices.Max(values[:])
	var b strings.Builder
	for row := rows; row > 0; row-- {
		fmt.Fprintf(&b, "%9.3g |%s\n", top*float64(row)/float64(rows), strings.TrimRight(bars(values, top, row, rows), " "))
	}
	return b.String() + axis(steps)
}

// bars is a row of a bar chart: eighths of a character of each value.
func bars(values [columns]float64, top float64, row, rows int) string {
	line := make([]rune, columns)
	for i, v := range values {
		line[i] = ' '
		if fill := v/top*float64(rows) - float64(row-1); fill > 0 {
			line[i] = []rune(" ▁▂▃▄▅▆▇█")[min(8, int(fill*8+0.5))]
		}
	}
	return string(line)
}

func axis(steps int64) string {
	return fmt.Sprintf("%9s +%s\n%9s  0%*d", "", strings.Repeat("-", columns), "", columns-1, steps)
}

// write draws them as SVG files over the tokens trained on. The phases of the schedule and the stages of the data are shaded.
func (c curves) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	phases, stages := make([]chart.Band, len(c.plan.Phases)), make([]chart.Band, len(c.plan.Stages))
	for i, s := range c.plan.Phases {
		phases[i] = chart.Band{From: float64(c.tokens(s.From)), To: float64(c.tokens(s.To)), Name: s.Phase}
	}
	for i, s := range c.plan.Stages {
		stages[i] = chart.Band{From: float64(c.tokens(s.From)), To: float64(c.tokens(s.To)), Name: s.Stage}
	}
	mixture := chart.Lines{Title: c.plan.Name + ": mixture", X: "tokens", Y: "percent of the tokens", Bands: stages}
	for i, source := range c.sources {
		mixture.Series = append(mixture.Series, chart.Series{Name: source, Color: i, Points: c.points(func(step int64) float64 { return c.share(source, step) })})
	}
	for name, drawing := range map[string]chart.Lines{
		"learning-rate.svg": {Title: c.plan.Name + ": learning rate", X: "tokens", Bands: phases, Series: []chart.Series{{Points: c.points(c.lr)}}},
		"batch.svg":         {Title: c.plan.Name + ": tokens a step", X: "tokens", Bands: phases, Series: []chart.Series{{Points: c.points(c.batch)}}},
		"mixture.svg":       mixture,
	} {
		if err := writeFile(filepath.Join(dir, name), []byte(drawing.SVG())); err != nil {
			return err
		}
	}
	return nil
}

// points is a curve of values that hold for a step, each from its first token to its last: at a thousand steps, and on both sides
// of every change.
func (c curves) points(f func(step int64) float64) []chart.Point {
	const most = 1000
	steps := []int64{0}
	for i := range int64(most) {
		steps = append(steps, i*c.plan.Steps/most)
	}
	edge := func(at int64) { steps = append(steps, max(at-1, 0), min(at, c.plan.Steps-1)) }
	for _, s := range c.plan.Batches {
		edge(s.Step)
	}
	for _, s := range c.plan.Phases {
		edge(s.To)
	}
	for _, s := range c.plan.Stages {
		edge(s.To)
	}
	slices.Sort(steps)
	steps = slices.Compact(steps)
	var points []chart.Point
	for i, step := range steps {
		y := f(step)
		points = append(points, chart.Point{X: float64(c.tokens(step)), Y: y})
		if i+1 == len(steps) || steps[i+1] == step+1 {
			points = append(points, chart.Point{X: float64(c.tokens(step + 1)), Y: y})
		}
	}
	return points
}

// mixText is a mixture in words, the largest share first.
func mixText(mix map[string]float64) string {
	names := slices.Collect(maps.Keys(mix))
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(mix[b], mix[a]), strings.Compare(a, b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.3g%%", name, 100*mix[name])
	}
	return strings.Join(names, ", ")
}
