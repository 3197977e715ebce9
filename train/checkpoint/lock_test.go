package checkpoint_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pretrain/train/checkpoint"
)

// lockEnv makes the test binary a process that locks the directory it names, says so, and waits to be killed.
const lockEnv = "CHECKPOINT_TEST_LOCK"

func TestMain(m *testing.M) {
	held := os.Getenv(lockEnv)
	if held == "" {
		os.Exit(m.Run())
	}
	_, err := checkpoint.Lock(held)
	fmt.Println(err)
	time.Sleep(time.Minute)
}

func TestLockAcrossProcesses(t *testing.T) {
	run := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), lockEnv+"="+run)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Process.Kill()
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "<nil>\n" {
		t.Fatalf("the child could not lock: %q, %v", line, err)
	}

	_, err = checkpoint.Lock(run)
	var held *checkpoint.HeldError
	if !errors.As(err, &held) || held.Owner.PID != child.Process.Pid || time.Since(held.Owner.Started) > time.Minute {
		t.Fatalf("locked twice, or the owner is wrong: %v", err)
	}
	for _, want := range []string{run, fmt.Sprint("process ", child.Process.Pid), held.Owner.Host, filepath.Base(os.Args[0]), "another run directory"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("message %q does not contain %q", err, want)
		}
	}

	if err := child.Process.Kill(); err != nil { // SIGKILL: no chance to unlock
		t.Fatal(err)
	}
	_ = child.Wait() // reports the kill
	lock, err := checkpoint.Lock(run)
	if err != nil {
		t.Fatalf("a killed process still holds the lock: %v", err)
	}
	for range 2 {
		if err := lock.Unlock(); err != nil {
			t.Error(err)
		}
	}
	again, err := checkpoint.Lock(run)
	if err != nil {
		t.Fatalf("after Unlock: %v", err)
	}
	if _, err := checkpoint.Lock(run); !errors.As(err, &held) {
		t.Errorf("locked twice within one process: %v", err)
	}
	if err := again.Unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockNoDirectory(t *testing.T) {
	if _, err := checkpoint.Lock(filepath.Join(t.TempDir(), "nothing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error = %v", err)
	}
}
