package main

import (
	"math"
	"strings"
	"testing"

	"pretrain/internal/backendtest"
	"pretrain/model"
)

// TestCoordinates compares a width of 64 with one of 256: under μP the residual stream keeps its scale through the first ten
// steps, under the standard parameterization it grows with the width. The bounds are on the power of the width; μP's are
// -0.08, -0.07, -0.24 on this seed, the standard ones 1.2, 2.2, 3.5. Logits start smaller the wider the model, by MiniCPM's
// undivided init of the embedding (model/init_test.go has the law), and must not grow with it either.
func TestCoordinates(t *testing.T) {
	be := backendtest.CPU(t)
	for _, p := range []model.Parameterization{model.MuP, model.Standard} {
		var measured [2][]scales
		for i, width := range []int{64, 256} {
			var err error
			measured[i], err = check(be, model.Config{DModel: width, NumLayers: 2, HeadDim: 32, Parameterization: p}, 1, after)
			if err != nil {
				t.Fatal(err)
			}
		}
		for i, steps := range after {
			if steps == 0 {
				continue
			}
			power := func(of func(scales) float64) float64 {
				return math.Log(of(measured[1][i])/of(measured[0][i])) / math.Log(4)
			}
			residual, logits := power(func(s scales) float64 { return s.Residual }), power(func(s scales) float64 { return s.LogitsChange })
			t.Logf("%s after %d steps: residual ~ width^%.2f, change of the logits ~ width^%.2f", p, steps, residual, logits)
			switch flat := math.Abs(residual) < 0.3 && logits < 0.1; {
			case p == model.MuP && !flat:
				t.Errorf("mup, after %d steps: the scale of activations depends on the width", steps)
			case p == model.Standard && (residual < 0.7 || logits < 0.3):
				t.Errorf("standard, after %d steps: activations do not grow with the width, so this test shows nothing", steps)
			}
		}
	}
}

func TestTableAndDrawing(t *testing.T) {
	four := []scales{{Residual: 1, Logits: 2}, {Residual: 3, Logits: 4}, {Residual: 5, Logits: 6}, {Residual: 7, Logits: 8}}
	rows := []row{{"9m", 320, model.MuP, four}, {"9m", 320, model.Standard, four}}
	var b strings.Builder
	table(&b, rows)
	if !strings.Contains(b.String(), "| standard | 9m | 320 | 1 | 3 | 5 | 7 | 2 | 4 | 6 | 8 |\n") {
		t.Error(b.String())
	}
	if svg := draw(rows, "x", func(s scales) float64 { return s.Residual }); strings.Count(svg, "<circle") != 8 {
		t.Errorf("want a dot for each of eight values:\n%s", svg)
	}
}
