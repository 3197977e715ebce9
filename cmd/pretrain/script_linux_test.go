package main

import (
	"os"
	"runtime"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// giveUpRoot lets what this thread executes next obey the modes of files, also where root runs it.
func giveUpRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	runtime.LockOSThread() // rights are a thread's
	for _, right := range []uintptr{unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, right, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// smallDisk DIR SIZE mounts a file system of this size ("900k") until the script's end; again, it changes the size.
func smallDisk(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "smalldisk DIR SIZE")
	dir := ts.MkAbs(args[0])
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size="+args[1]); err == nil {
		return
	}
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]))
	ts.Defer(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // the folder is removed next, which would fail
}

// canMount reports whether smallDisk works here: for root, unless a container forbids it.
func canMount() bool {
	dir, err := os.MkdirTemp("", "mount")
	if err != nil {
		return false
	}
	defer os.Remove(dir)
	if unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k") != nil {
		return false
	}
	return unix.Unmount(dir, unix.MNT_DETACH) == nil
}
