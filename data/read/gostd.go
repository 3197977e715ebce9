package read

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// openGoStd lists the Go standard library: the .go files below GOROOT/src, without tests, testdata, vendored modules and
// cmd (the toolchain, which is not part of the standard library). Generated files are left out when read.
func openGoStd(ctx context.Context, spec Spec) (*Source, error) {
	root, err := goRoot(ctx, spec)
	if err != nil {
		return nil, err
	}
	src, err := filepath.EvalSymlinks(filepath.Join(root, "src"))
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w; is %s a Go installation? Set GOROOT in the environment to one", GoStd, err, root)
	}
	s := &Source{spec: spec}
	err = walk(ctx, src, func(p, rel string, size int64) {
		if strings.HasSuffix(rel, ".go") && !strings.HasSuffix(rel, "_test.go") {
			s.add(file{path: p, rel: rel, size: size, format: goSource})
		}
	}, func(rel string) bool {
		base := path.Base(rel)
		return rel == "cmd" || base == "testdata" || base == "vendor"
	})
	if err != nil {
		return nil, fmt.Errorf("open source %s: %w", GoStd, err)
	}
	if len(s.files) == 0 {
		return nil, fmt.Errorf("open source %s: %w: no .go files in %s", GoStd, ErrNoFiles, src)
	}
	s.sort()
	return s, nil
}

// goRoot finds the user's Go installation: the Spec's, $GOROOT, or the go command's.
func goRoot(ctx context.Context, spec Spec) (string, error) {
	if spec.GoRoot != "" {
		return spec.GoRoot, nil
	}
	if root := os.Getenv("GOROOT"); root != "" {
		return root, nil
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	root := strings.TrimSpace(string(out))
	if err == nil && root == "" {
		err = errors.New("it printed nothing")
	}
	if err != nil {
		return "", fmt.Errorf("open source %s: go env GOROOT: %w; install Go, set GOROOT in the environment, or set path to a folder of your own text", GoStd, err)
	}
	return root, nil
}

// isGenerated reports whether Go source has the line that marks generated code, before its package clause
// (go help generate).
func isGenerated(src []byte) bool {
	for line := range bytes.Lines(src) {
		line = bytes.TrimRight(line, "\r\n")
		if bytes.HasPrefix(line, []byte("// Code generated ")) && bytes.HasSuffix(line, []byte(" DO NOT EDIT.")) {
			return true
		}
		if bytes.HasPrefix(line, []byte("package ")) {
			return false
		}
	}
	return false
}
