// Rules compares the verdicts of data/quality with datatrove's, which bench/data/datatrove_rules.py wrote: for each rule how many
// documents agree, verdict and reason, and which do not.
//
//	go run ./bench/data/rules verdicts.jsonl
//	go run ./bench/data/rules speed FILE.jsonl.zst   # what the rules and the masking of private data take, as datatrove_chain.py measures
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"

	"pretrain/data"
	"pretrain/data/quality"
)

func main() {
	var err error
	if os.Args[1] == "speed" {
		err = speed(os.Args[2])
	} else {
		err = run(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// line is what datatrove says of a text.
type line struct {
	ID, Text, Gopher, Repetition, C4, FineWeb string
	C4Text                                    string `json:"c4_text"`
}

func run(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	c := quality.Default()
	c.C4.Mode = data.Filter
	w := new(quality.Words)
	steps := map[string]data.Step{
		"gopher": c.Gopher.Step(quality.Word, w), "repetition": c.Repetition.Step(quality.Word, w),
		"c4": c.C4.Step(quality.Word, w), "fineweb": c.FineWeb.Step(quality.Word, w),
	}
	type pair struct{ ours, theirs string }
	agree, n := map[string]int{}, 0
	differ, example := map[string]map[pair]int{}, map[pair]string{}
	texts := 0
	lines := bufio.NewReaderSize(f, 1<<20)
	for {
		text, err := lines.ReadBytes('\n')
		if len(text) == 0 && err != nil {
			break
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			return err
		}
		n++
		for name, theirs := range map[string]string{"gopher": l.Gopher, "repetition": l.Repetition, "c4": l.C4, "fineweb": l.FineWeb} {
			d := data.Document{Text: l.Text}
			reason, detail := steps[name].Apply(&d)
			if string(reason) == theirs {
				agree[name]++
				if name == "c4" && theirs == "" && d.Text != l.C4Text {
					texts++
				}
				continue
			}
			if differ[name] == nil {
				differ[name] = map[pair]int{}
			}
			differ[name][pair{string(reason), theirs}]++
			example[pair{string(reason), theirs}] = l.ID + " " + detail
		}
	}
	for _, name := range []string{"gopher", "repetition", "c4", "fineweb"} {
		fmt.Printf("%s: %d of %d agree (%.2f%%)\n", name, agree[name], n, 100*float64(agree[name])/float64(n))
		var pairs []pair
		for p := range differ[name] {
			pairs = append(pairs, p)
		}
		sort.Slice(pairs, func(i, j int) bool { return differ[name][pairs[i]] > differ[name][pairs[j]] })
		for _, p := range pairs {
			fmt.Printf("  %d: ours %q, datatrove %q, such as %s\n", differ[name][p], p.ours, p.theirs, example[p])
		}
	}
	fmt.Printf("c4 texts kept by both that differ: %d\n", texts)
	return nil
}
