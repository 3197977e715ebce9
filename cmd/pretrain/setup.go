package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"pretrain/internal/backend"
	"pretrain/internal/plugin"
	"pretrain/model"
	"pretrain/tokenizer/hf"

	"github.com/spf13/cobra"
)

func newSetup(stderr io.Writer) *cobra.Command {
	var kind string
	cmd := &cobra.Command{
		Use: "setup", Short: "Install the XLA plugin of a backend", Args: noArgs,
		Long: `Install the PJRT plugin through which XLA computes. It goes to the user's library folder and is checked against a
pinned digest; a second call finds it there. Without a plugin the program falls back to a pure-Go backend, about 12
times slower.`,
		Example: "  pretrain setup\n  pretrain setup --backend cuda13",
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := plugin.ParseKind(kind)
			if err != nil {
				return usageError{err}
			}
			library, err := plugin.Default()
			if err != nil {
				return err
			}
			p, err := library.Install(cmd.Context(), k, stderr)
			if err != nil {
				return err
			}
			fmt.Fprintf(stderr, "%s plugin %s: %s\n", p.Kind, p.Version, p.Path)
			return nil
		},
	}
	cmd.Flags().StringVar(&kind, "backend", "cpu", "cpu, cuda13 or cuda12")
	return cmd
}

func newDoctor(stdout io.Writer) *cobra.Command {
	var spec string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Report backend, plugin, devices and tools, and what is missing", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cache, err := cacheDir()
			if err != nil {
				return err
			}
			wd, err := os.Getwd()
			if err != nil {
				return err
			}
			report := backend.Doctor(cmd.Context(), backend.DoctorOptions{Backend: spec, Open: backend.Options{Cache: cache}, Check: model.CheckFusedAttention, Dirs: []string{cache, wd}, Tokenizers: tokenizersVersion})
			if asJSON {
				err = printJSON(stdout, report)
			} else {
				report.Print(stdout)
			}
			if err == nil && !report.OK() {
				err = errors.New("doctor: something is missing: see above")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&spec, "backend", "", "the backend to look at, as in training")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

// tokenizersVersion is the version of the linked tokenizers library, or why there is none.
func tokenizersVersion() (string, error) {
	if _, err := hf.New(nil, "", ""); errors.Is(err, hf.ErrMissing) {
		return "", err
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", nil
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/daulet/tokenizers" {
			return d.Version, nil
		}
	}
	return "unknown", nil
}
