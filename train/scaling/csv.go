package scaling

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Columns of a table of runs, by the names in its first row.
type Columns struct {
	N, D, Loss string
	// C is the training compute in FLOPs. With it D may be "": D is then C/(6·N).
	C string
}

// ReadCSV reads points from a table whose first row names its columns. Other columns are ignored. The error names row, column and
// value.
func ReadCSV(r io.Reader, c Columns) ([]Point, error) {
	table := csv.NewReader(r)
	table.FieldsPerRecord = -1
	head, err := table.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("it is empty: want a first row with the names of the columns")
	} else if err != nil {
		return nil, err
	}
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	find := func(name string) (int, error) {
		if name == "" {
			return -1, nil
		}
		at := slices.Index(head, name)
		if at < 0 {
			return 0, fmt.Errorf("no column %q; its columns are %s", name, strings.Join(head, ", "))
		}
		return at, nil
	}
	var places [4]int
	for i, name := range []string{c.N, c.D, c.Loss, c.C} {
		if places[i], err = find(name); err != nil {
			return nil, err
		}
	}
	var points []Point
	for {
		row, err := table.Read()
		if errors.Is(err, io.EOF) {
			return points, nil
		} else if err != nil {
			return nil, err
		}
		line, _ := table.FieldPos(0)
		var v [4]float64
		for i, at := range places {
			if at < 0 {
				continue
			}
			if at >= len(row) {
				return nil, fmt.Errorf("line %d has %d cells, none for column %q", line, len(row), head[at])
			}
			v[i], err = strconv.ParseFloat(strings.TrimSpace(row[at]), 64)
			if err != nil || !(v[i] > 0) || math.IsInf(v[i], 0) {
				return nil, fmt.Errorf("line %d, column %q: got %q; want a number above 0", line, head[at], row[at])
			}
		}
		p := Point{N: v[0], D: v[1], Loss: v[2], C: v[3], Name: fmt.Sprintf("line %d", line)}
		if c.D == "" {
			p.D = p.C / (6 * p.N)
		}
		points = append(points, p)
	}
}

// DropHighest leaves out the n points of the highest loss, and any that are as high as the last of these: Besiroglu et al. leave
// out five of Chinchilla's 245, which are off the law and move it.
func DropHighest(points []Point, n int) []Point {
	if n <= 0 {
		return points
	}
	var losses []float64
	for _, p := range points {
		losses = append(losses, p.Loss)
	}
	slices.Sort(losses)
	bound := losses[max(0, len(losses)-n)]
	return slices.DeleteFunc(slices.Clone(points), func(p Point) bool { return p.Loss >= bound })
}
