package metrics

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// feed writes a run of 40 steps of a second each, from step on, with a validation, a skipped update and slow data.
func feed(t *testing.T, sink Sink, step int64) {
	for s := step; s < 40; s++ {
		time.Sleep(time.Second)
		r := Record{
			Step: s, Tokens: (s + 1) * 61440, Loss: Number(9 - float64(s)/8), LR: Number(0.01 * float64(s+1) / 40), TokensPerSecond: 61440,
			MFU: 0.3125, StepMS: 1000, DataWaitMS: 3, Skipped: step,
		}
		switch {
		case s == 15:
			r.Eval = &Eval{ValLoss: 5.125, ValBPB: 2.5}
		case s == 21:
			r.DataWaitMS = 400
		case s >= 30:
			r.Skipped++
			r.MFU = Unknown
		}
		if s == 30 {
			r.Loss = Number(math.NaN())
		}
		if err := sink.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestTrainingLines(t *testing.T) {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		feed(t, NewConsole(&out).Training(Training{Steps: 40, Tokens: 40 * 61440, EverySteps: 10}), 0)
		out.WriteString("resumed, by time:\n")
		feed(t, NewConsole(&out).Training(Training{Steps: 40, Tokens: 40 * 61440, Every: 8 * time.Second}), 9)
	})
	golden(t, "training.golden.txt", out.String())
}

func TestTrainingBar(t *testing.T) {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		feed(t, (&Console{&out, true}).Training(Training{Steps: 40, Tokens: 40 * 61440, EverySteps: 1}), 0)
	})
	for _, part := range []string{
		"20/40", "loss 6.6250  lr 0.005  61.4k tok/s  MFU 31.2%  20s left", // step 19
		"step 16/40  983k/2.46M tokens  loss 7.1250  lr 0.004  61.4k tok/s  MFU 31.2%  val_loss 5.1250  val_bpb 2.5000  24s left\n",
		"gradient not finite: update skipped (1 so far)",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in %q", part, out.String())
		}
	}
	if lines := strings.Count(out.String(), "\n"); lines != 2 {
		t.Errorf("%d lines stay, want the validation and the skipped update: %q", lines, out.String())
	}
}

func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	c := NewConsole(&out)
	synctest.Test(t, func(t *testing.T) {
		p := c.Progress("tokenise", 90e6, Bytes)
		for range 20 {
			time.Sleep(1500 * time.Millisecond)
			p.Add(4.5e6)
		}
		p.Close()
		p.Add(1)
		p.Close()
		p = c.Progress("read", 0, "documents")
		time.Sleep(11 * time.Second)
		p.Add(1234)
		p.Close()
		c.Progress("nothing", 0, "documents").Close()
	})
	golden(t, "progress.golden.txt", out.String())
}

func TestProgressBar(t *testing.T) {
	var out bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		c := &Console{&out, true}
		p := c.Progress("tokenise", 90e6, Bytes)
		var all sync.WaitGroup
		for range 20 {
			time.Sleep(1500 * time.Millisecond)
			all.Go(func() { p.Add(4.5e6) })
		}
		all.Wait()
		p.Close()
		p = c.Progress("read", 0, "documents")
		time.Sleep(time.Second)
		p.Add(7)
		p.Close()
	})
	for _, part := range []string{"tokenise", "45/90 MB", "3.0 MB/s", "documents/s", "tokenise: 90.0 MB in 30s, 3.00 MB/s\n", "read: 7 documents in 1s, 7 documents/s\n"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("no %q in %q", part, out.String())
		}
	}
}

func TestShort(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0", 7: "7", 7.6: "8", 999: "999", 999.4: "999", 999.6: "1.00k", 1000: "1.00k", 4605: "4.61k", 9996: "10.0k", 61440: "61.4k",
		99960: "100k", 999499: "999k", 999500: "1.00M", 2.7e13: "27.0T", 5e20: "500000P", -4605: "-4.61k",
	} {
		if got := short(n, ""); got != want {
			t.Errorf("short(%v) = %q, want %q", n, got, want)
		}
	}
	if got := short(math.NaN(), ""); got != "NaN" {
		t.Errorf("short(NaN) = %q", got)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 1499 * time.Millisecond: "1s", 59600 * time.Millisecond: "1m00s", 312 * time.Second: "5m12s",
		3*time.Hour + 5*time.Minute: "3h05m", 100 * time.Hour: "4d4h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestNotATerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if NewConsole(f).terminal || NewConsole(&bytes.Buffer{}).terminal {
		t.Error("a file is taken for a terminal")
	}
}
