package main

import (
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
)

// lines FILE writes 5000 JSON lines, compressed as the name's end says: .gz or .zst.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "lines FILE")
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	file, err := os.Create(path)
	ts.Check(err)
	defer file.Close()
	var w io.WriteCloser = gzip.NewWriter(file)
	if filepath.Ext(path) == ".zst" {
		// Blocks of 64 kB: a file has some, so that a part of it can be whole.
		w, err = zstd.NewWriter(file, zstd.WithWindowSize(64<<10))
		ts.Check(err)
	}
	for i := range 5000 {
		_, err := fmt.Fprintf(w, "{\"text\": \"%d of the lines, squared %d, cubed %d\"}\n", i, i*i, i*i*i)
		ts.Check(err)
	}
	ts.Check(w.Close())
}

// poison DIR writes what no model expects: one file of random letters of a script of its own, a dozen of them repeated some
// hundred times.
func poison(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "poison DIR")
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	r := rand.New(rand.NewPCG(3, 0))
	var b strings.Builder
	for range 20 {
		word := make([]rune, 12)
		for i := range word {
			word[i] = rune(0x4e00 + r.IntN(0x5000)) // three bytes each, all of them rare
		}
		b.WriteString(strings.Repeat(string(word), 20))
	}
	ts.Check(os.WriteFile(filepath.Join(dir, "0.txt"), []byte(b.String()), 0o644))
}

// flip FILE BYTE inverts a byte of a file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "flip FILE BYTE")
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	data[at] = ^data[at]
	ts.Check(os.WriteFile(path, data, 0o644))
}

// fill FILE writes the file until the disk is full.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "fill FILE")
	file, err := os.Create(ts.MkAbs(args[0]))
	ts.Check(err)
	defer file.Close()
	for size := 1 << 16; size > 0; size /= 16 {
		for err == nil {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			ts.Fatalf("%v", err)
		}
		err = nil
	}
}

// truncate FILE BYTES cuts a file off.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "truncate FILE BYTES")
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	path := ts.MkAbs(args[0])
	info, err := os.Stat(path)
	ts.Check(err)
	if info.Size() <= size {
		ts.Fatalf("%s has only %d bytes", args[0], info.Size())
	}
	ts.Check(os.Truncate(path, size))
}

// unhex FILE HEX writes bytes that a script cannot hold.
func unhex(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 2, "unhex FILE HEX")
	data, err := hex.DecodeString(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o644))
}

// prepared DIR copies the one folder of prepared data in the cache to a folder.
func prepared(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg || len(args) != 1, "prepared DIR")
	manifests, err := filepath.Glob(filepath.Join(ts.Getenv("PRETRAIN_CACHE"), "data", "*", "MANIFEST.json"))
	ts.Check(err)
	if len(manifests) != 1 {
		ts.Fatalf("%d prepared folders, want 1", len(manifests))
	}
	ts.Check(os.CopyFS(ts.MkAbs(args[0]), os.DirFS(filepath.Dir(manifests[0]))))
}
