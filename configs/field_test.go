package configs

import "testing"

func TestNearest(t *testing.T) {
	candidates := []string{"peak_lr", "min_lr", "warmup", "decay", "kind", "tokens", "every", "every_time"}
	for name, want := range map[string]string{
		"peek_lr": "peak_lr", "Peak_LR": "peak_lr", "warmpu": "warmup", "evry": "every", "token": "tokens",
		"focal": "", "x": "", "": "", "learning_rate": "", "decy": "decay",
	} {
		if got := nearest(name, candidates); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestEdits(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"ab", "ba", 1}, {"ca", "abc", 3}, {"第一", "第二", 1}} {
		if got := edits(tt.a, tt.b); got != tt.want {
			t.Errorf("%q to %q: %d edits, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := edits(tt.b, tt.a); got != tt.want {
			t.Errorf("%q to %q: %d edits, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}
