package baseline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jamespfennell/xz"
)

// text is deterministic prose-like text of some n bytes.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the model reads a document and predicts every next token of it 模型 读 文档 然后 预测 func return if err != nil { }")
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprint(&b, words[r.IntN(len(words))], []string{" ", "\n", ", "}[r.IntN(3)])
		if r.IntN(4) == 0 {
			fmt.Fprint(&b, r.IntN(1000))
		}
	}
	return b.Bytes()
}

func write(t *testing.T, b []byte) string {
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// The commands are the oracle: xz to the byte, gzip within 1%.
func TestAgainstCommands(t *testing.T) {
	path := write(t, text(300_000))
	got, err := Measure(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, flags string
		size        int64
		tolerance   float64
	}{{"gzip", "-9c", got.Gzip, 0.01}, {"xz", "-9ec", got.XZ, 0.001}} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath(c.name); err != nil {
				t.Skip(err)
			}
			cmd := exec.Command(c.name, c.flags, path)
			cmd.Env = append(os.Environ(), "XZ_OPT=-T1", "GZIP=")
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			if want := float64(len(out)); math.Abs(float64(c.size)-want) > c.tolerance*want {
				t.Errorf("%d bytes, the command gives %d", c.size, len(out))
			}
		})
	}
	if got.Raw < 300_000 || got.GzipBPB() != 8*float64(got.Gzip)/float64(got.Raw) || got.XZBPB() >= got.GzipBPB() {
		t.Errorf("%+v: %g, %g bits per byte", got, got.GzipBPB(), got.XZBPB())
	}
}

// What the writer makes is a valid stream of the same text.
func TestXZRoundTrip(t *testing.T) {
	want := text(200_000)
	var packed, back bytes.Buffer
	x, err := newXZ(&packed)
	if err != nil {
		t.Fatal(err)
	}
	defer x.stream.Close()
	for chunk := want; len(chunk) > 0; chunk = chunk[min(len(chunk), 7777):] {
		if _, err := x.Write(chunk[:min(len(chunk), 7777)]); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.finish(); err != nil {
		t.Fatal(err)
	}
	r := xz.NewReader(&packed)
	defer r.Close()
	if _, err := back.ReadFrom(r); err != nil || !bytes.Equal(back.Bytes(), want) {
		t.Errorf("%d bytes back: %v", back.Len(), err)
	}
}

func TestErrors(t *testing.T) {
	if _, err := Measure(t.Context(), filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Measure(ctx, write(t, text(100))); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	got, err := Measure(t.Context(), write(t, nil))
	if err != nil || got.Raw != 0 || got.GzipBPB() != 0 || got.XZBPB() != 0 {
		t.Errorf("empty file: %+v, %v", got, err)
	}
}
