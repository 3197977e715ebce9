package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// fileSize is the program of `filesize BYTES program args...`: it runs the program with a limit on the size of the files
// it writes, a full disk for which no file system has to be mounted. (Go's runtime makes SIGXFSZ an error of the write.)
func fileSize() {
	limit, err := strconv.ParseUint(os.Args[1], 10, 64)
	if err == nil {
		err = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit})
	}
	become(err, os.Args[2:])
}

// mortal is the program of `mortal program args...`: it runs the program without root's right to read what a file's mode
// forbids to read.
func mortal() { become(giveUpRoot(), os.Args[1:]) }

// become executes another program in place of this one, unless there was an error.
func become(err error, args []string) {
	path := ""
	if err == nil {
		path, err = exec.LookPath(args[0])
	}
	if err == nil {
		err = syscall.Exec(path, args, os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(125)
}
