// Command lm measures data/lm on the characters of a text, as language models of characters are measured: trained on its first 90%, scored
// on the rest, in nats per character.
//
//	go run ./bench/data/lm FILE
//
// FILE is JSON Lines of {"text"}, whose texts are parts of one, parted by blank lines: for tinyshakespeare that gives input.txt back.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"pretrain/data/lm"
	"pretrain/data/read"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lm:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("want one file")
	}
	ctx := context.Background()
	var parts []string
	for line, err := range read.Lines(ctx, args[0], 1<<30) {
		var r struct{ Text string }
		if err == nil {
			err = json.Unmarshal(line.JSON, &r)
		}
		if err != nil {
			return err
		}
		parts = append(parts, r.Text)
	}
	text := strings.Join(parts, "\n\n") + "\n"
	cut := len(text) * 9 / 10
	fmt.Printf("%d bytes, %d of them for training\n", len(text), cut)
	for order := 1; order <= 6; order++ {
		c := lm.Config{Order: order, Units: lm.Char, MinCount: 1, MaxTrain: 1 << 24}
		m, err := lm.Train(ctx, func(yield func(string, error) bool) { yield(text[:cut], nil) }, c, nil)
		if err != nil {
			return err
		}
		_, grams := m.Size()
		fmt.Printf("%d-gram: %.4f nats per character, %d n-grams\n", order, math.Log(m.Scorer()(text[cut:])), grams)
	}
	return nil
}
