// Command coordinates makes μP's coordinate check: it trains 9M-, 30M- and 70M-shaped models for ten steps under each
// parameterization and draws how large their activations are over the width. Under μP they must not depend on it; where a factor
// is missing or wrong they grow or vanish. One seed, one minute and a half on two quiet cores.
//
//	go run ./bench/science/coordinates -out docs/science
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"pretrain/internal/backend"
	"pretrain/internal/chart"
	"pretrain/model"

	"github.com/gomlx/compute"
)

// after are the numbers of steps after which activations are measured.
var after = []int{0, 1, 3, 10}

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "coordinates:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("coordinates", flag.ContinueOnError)
	flags.SetOutput(stderr)
	presets := flags.String("presets", "9m,30m,70m", "shapes, by the `names` of model presets")
	seed := flags.Uint64("seed", 1, "of weights and tokens")
	out := flags.String("out", ".", "`folder` for coordinates.svg and coordinates-logits.svg")
	if err := flags.Parse(args); err != nil {
		return err
	}
	be, _, err := backend.Open("cpu", backend.Options{})
	if err != nil {
		return err
	}
	defer be.Finalize()
	rows, err := measure(be, strings.Split(*presets, ","), *seed)
	if err != nil {
		return err
	}
	table(stdout, rows)
	residual := draw(rows, "the residual stream after the last block", func(s scales) float64 { return s.Residual })
	logits := draw(rows, "the logits", func(s scales) float64 { return s.Logits })
	if err := os.WriteFile(filepath.Join(*out, "coordinates.svg"), []byte(residual), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(*out, "coordinates-logits.svg"), []byte(logits), 0o644)
}

// row is what was measured of one shape.
type row struct {
	preset           string
	width            int
	parameterization model.Parameterization
	after            []scales
}

func measure(be compute.Backend, presets []string, seed uint64) (rows []row, err error) {
	for _, p := range []model.Parameterization{model.MuP, model.Standard} {
		for _, preset := range presets {
			m := model.Config{Preset: preset, Parameterization: p}
			r := row{preset: preset, width: m.Resolve().DModel, parameterization: p}
			if r.after, err = check(be, m, seed, after); err != nil {
				return nil, fmt.Errorf("%s, %s: %w", preset, p, err)
			}
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// table writes the root mean squares as Markdown.
func table(w io.Writer, rows []row) {
	fmt.Fprint(w, "| parameterization | shape | d_model |")
	for _, what := range []string{"residual", "logits"} {
		for _, n := range after {
			fmt.Fprintf(w, " %s, %d |", what, n)
		}
	}
	fmt.Fprintln(w, "\n|---|---|---|"+strings.Repeat("---|", 2*len(after)))
	for _, r := range rows {
		fmt.Fprintf(w, "| %s | %s | %d |", r.parameterization, r.preset, r.width)
		for _, s := range r.after {
			fmt.Fprintf(w, " %.4g |", s.Residual)
		}
		for _, s := range r.after {
			fmt.Fprintf(w, " %.4g |", s.Logits)
		}
		fmt.Fprintln(w)
	}
}

// draw is a line over the width for each parameterization and number of steps.
func draw(rows []row, what string, of func(scales) float64) string {
	c := chart.Lines{Title: "root mean square of " + what, X: "d_model", LogY: true}
	for j, p := range []model.Parameterization{model.MuP, model.Standard} {
		for i, n := range after {
			s := chart.Series{Name: fmt.Sprintf("%s, after %d steps", p, n), Color: j*len(after) + i, Dots: true}
			for _, r := range rows {
				if r.parameterization == p {
					s.Points = append(s.Points, chart.Point{X: float64(r.width), Y: of(r.after[i])})
				}
			}
			c.Series = append(c.Series, s)
		}
	}
	for _, r := range rows {
		if r.parameterization == rows[0].parameterization {
			c.Marks = append(c.Marks, chart.Mark{X: float64(r.width), Name: r.preset})
		}
	}
	return c.SVG()
}
