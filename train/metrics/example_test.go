package metrics_test

import (
	"fmt"
	"strings"

	"pretrain/internal/vfs"
	"pretrain/train/metrics"
)

func Example() {
	fsys := vfs.NewCrashableMem() // vfs.OS in a program
	file, err := metrics.OpenJSONL(fsys, "metrics.jsonl", 0, metrics.Patience{})
	if err != nil {
		fmt.Println(err)
		return
	}
	var screen strings.Builder // os.Stderr in a program
	sink := metrics.Sinks{file, metrics.NewConsole(&screen).Training(metrics.Training{Steps: 2, Tokens: 512, EverySteps: 1})}
	for step := range int64(2) {
		r := metrics.Record{Step: step, Tokens: 256 * (step + 1), Loss: 8.5, LR: 0.01, TokensPerSecond: 4600, MFU: metrics.Unknown}
		if err := sink.Write(r); err != nil {
			fmt.Println(err)
		}
	}
	if err := sink.Close(); err != nil {
		fmt.Println(err)
	}
	data, err := vfs.ReadFile(fsys, "metrics.jsonl")
	if err != nil {
		fmt.Println(err)
	}
	for r, err := range metrics.Records(strings.NewReader(string(data))) {
		fmt.Println(r.Step, r.Tokens, r.Loss, err)
	}
	// Output:
	// 0 256 8.5 <nil>
	// 1 512 8.5 <nil>
}
