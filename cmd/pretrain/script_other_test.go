//go:build !linux

package main

import "github.com/rogpeppe/go-internal/testscript"

func giveUpRoot() error { return nil }

func smallDisk(ts *testscript.TestScript, _ bool, _ []string) { ts.Fatalf("not on this system") }

func canMount() bool { return false }
