package checkpoint_test

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"pretrain/train/checkpoint"
)

func TestConfigValidate(t *testing.T) {
	if err := checkpoint.Default().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	bad := checkpoint.Config{
		EverySteps: -1, EveryTime: -1, KeepEverySteps: -1, KeepEveryTokens: -1,
		MaxShardBytes: 5, GiveUpAfter: -1,
	}
	err := bad.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"every_steps: -1", "every_time: -1", "keep: 0 is below the minimum of 1", "keep_every_steps: -1",
		"keep_every_tokens: -1", "max_shard_bytes: 5", "retry_after: 0", "give_up_after: -1",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	never := checkpoint.Default()
	never.EverySteps, never.EveryTime = 0, 0
	if err := never.Validate(); err == nil || !strings.Contains(err.Error(), "would never save") {
		t.Errorf("a run that never saves: %v", err)
	}
}

func TestConfigYAML(t *testing.T) {
	got := checkpoint.Default()
	err := yaml.UnmarshalWithOptions([]byte("every_steps: 500\nevery_time: 10m\nkeep_every_tokens: 1000000\n"), &got, yaml.Strict())
	want := checkpoint.Default()
	want.EverySteps, want.EveryTime, want.KeepEveryTokens = 500, 10*time.Minute, 1_000_000
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, %s", err, diff)
	}
}

func TestDue(t *testing.T) {
	for _, c := range []struct {
		steps int64
		time  time.Duration
		step  int64
		since time.Duration
		want  bool
	}{
		{100, 0, 300, 0, true},
		{100, 0, 301, time.Hour, false},
		{0, time.Minute, 7, time.Minute, true},
		{0, time.Minute, 7, 59 * time.Second, false},
		{100, time.Minute, 7, 61 * time.Second, true},
		{100, time.Minute, 200, time.Second, true},
	} {
		config := checkpoint.Config{EverySteps: c.steps, EveryTime: c.time, At: []int64{17}}
		if got := config.Due(c.step, c.since); got != c.want {
			t.Errorf("%+v: Due = %v", c, got)
		}
		if !config.Due(17, c.since) {
			t.Errorf("%+v: not due at a step that was asked for", c)
		}
	}
}
