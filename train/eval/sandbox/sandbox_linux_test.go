package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRun: what passes, what fails, and that each limit holds. Where the machine cannot confine programs, that nothing is run.
func TestRun(t *testing.T) {
	t.Setenv("PRETRAIN_SECRET", "x")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	limits := Limits{Time: 2 * time.Second, Memory: 512 << 20}
	if _, err := Run(t.Context(), "pass", limits); errors.Is(err, ErrUnavailable) {
		marker := filepath.Join(t.TempDir(), "ran")
		if _, err := Run(t.Context(), fmt.Sprintf("open(%q, 'w')", marker), limits); !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		if _, err := os.Stat(marker); err == nil {
			t.Error("a program ran unconfined")
		}
		return
	}
	for _, c := range []struct{ name, program, detail string }{ // detail "": it passes
		{"right", "def f(x): return x + 1\nassert f(1) == 2", ""},
		{"standard library", "import math, collections, json, re, heapq, itertools\nassert math.gcd(4, 6) == 2", ""},
		{"writes in its folder", "open('x', 'w').write('y')\nassert open('x').read() == 'y'", ""},
		{"wrong", "assert 1 == 2, 'no'", "AssertionError: no"},
		{"no Python", "def f(:", "SyntaxError"},
		{"exits early", "import sys; sys.exit(0)", "early"},
		{"exits at once", "import os; os._exit(0)", "early"},
		{"runs forever", "while True: pass", "limit"},
		{"sleeps", "import time; time.sleep(60)", "time limit"},
		{"memory", "x = bytearray(1 << 30)", "MemoryError"},
		{"writes elsewhere", fmt.Sprintf("open(%q, 'w')", outside), "PermissionError"},
		{"removes elsewhere", fmt.Sprintf("import os; os.remove(%q)", outside), "PermissionError"},
		{"large file", "open('x', 'wb').write(bytes(2 << 20))", "File too large"},
		{"network", fmt.Sprintf("import socket; socket.create_connection(('127.0.0.1', %d), timeout=1)", listener.Addr().(*net.TCPAddr).Port), "Error"},
		{"processes", fmt.Sprintf("import os; os.kill(%d, 0)", os.Getpid()), "ProcessLookupError"},
		{"environment", "import os; assert 'PRETRAIN_SECRET' not in os.environ", ""},
		{"writes without end", "import sys\nwhile True: sys.stdout.write('x' * 65536)", "limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Run(t.Context(), c.program, limits)
			if err != nil || got.Passed != (c.detail == "") || !strings.Contains(got.Detail, c.detail) {
				t.Errorf("%+v, %v; want %q", got, err, c.detail)
			}
		})
	}
	t.Cleanup(func() {
		if text, _ := os.ReadFile(outside); string(text) != "kept" {
			t.Errorf("the file outside holds %q", text)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, "pass", limits); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
