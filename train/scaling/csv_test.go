package scaling

import (
	"strings"
	"testing"
)

func TestReadCSV(t *testing.T) {
	const table = "\ufeffrun,Model Size,FLOP,tokens,loss\na,1e6,,2e7,3.5\n\"b, again\",2000000,2.4e14,20000000,3.25\n"
	points, err := ReadCSV(strings.NewReader(table), Columns{N: "Model Size", D: "tokens", Loss: "loss"})
	if err != nil || len(points) != 2 || points[1] != (Point{N: 2e6, D: 2e7, Loss: 3.25, Name: "line 3"}) {
		t.Errorf("%+v, %v", points, err)
	}
	points, err = ReadCSV(strings.NewReader(table[strings.Index(table, "run"):strings.Index(table, "a,")]+"b,2e6,2.4e14,,3.25\n"), Columns{N: "Model Size", C: "FLOP", Loss: "loss"})
	if err != nil || len(points) != 1 || points[0].D != 2e7 || points[0].Compute() != 2.4e14 {
		t.Errorf("D from compute: %+v, %v", points, err)
	}
	for want, c := range map[string]Columns{
		`no column "params"; its columns are run, Model Size, FLOP, tokens, loss`: {N: "params", D: "tokens", Loss: "loss"},
		`line 2, column "FLOP": got ""; want a number above 0`:                    {N: "Model Size", C: "FLOP", Loss: "loss"},
		`line 2, column "run": got "a"; want a number above 0`:                    {N: "run", D: "tokens", Loss: "loss"},
	} {
		if _, err := ReadCSV(strings.NewReader(table), c); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, text := range []string{"", "N,D,loss\n1,2\n", "N,D,loss\n1,2,-3\n", "N,D,loss\n1,2,inf\n", "N,D,loss\n\"1,2,3\n"} {
		if _, err := ReadCSV(strings.NewReader(text), Columns{N: "N", D: "D", Loss: "loss"}); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

// FuzzReadCSV: any text is points above 0, or an error.
func FuzzReadCSV(f *testing.F) {
	f.Add("N,D,loss\n1,2,3\n")
	f.Add("N,N,D,loss,\n1e3,2,\"3\",4\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		points, err := ReadCSV(strings.NewReader(text), Columns{N: "N", D: "D", Loss: "loss"})
		for _, p := range points {
			if err == nil && !p.positive() {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestDropHighest(t *testing.T) {
	points := []Point{{Loss: 3}, {Loss: 5}, {Loss: 1}, {Loss: 5}, {Loss: 4}}
	for n, left := range map[int]int{0: 5, 1: 3, 2: 3, 3: 2, 9: 0} {
		if got := DropHighest(points, n); len(got) != left {
			t.Errorf("without the %d highest: %v", n, got)
		}
	}
}
