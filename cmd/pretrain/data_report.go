package main

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"pretrain/data/pipeline"

	"github.com/spf13/cobra"
)

func newDataReport(stdout io.Writer) *cobra.Command {
	var page string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "report DIR", Short: "Show what became of the documents of a preparation, and why",
		Long: `Show the account of a preparation, DIR being its output: documents and bytes that passed each step, the reasons of the others, and
tokens. The page, which data prepare also writes to DIR/report/all/report.html, has samples of what was dropped and kept, how
figures are distributed, clusters of duplicates and contamination besides.`,
		Example: "  pretrain data report prepared/go\n  pretrain data report prepared/go --html report.html",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("want one argument, the output folder of a preparation, not %d", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := pipeline.ReadReport(args[0])
			if errors.Is(err, fs.ErrNotExist) {
				return usagef("%s is not the output of a finished pretrain data prepare: %w", args[0], err)
			} else if err != nil {
				return err
			}
			if page != "" {
				f, err := os.Create(page)
				if err != nil {
					return err
				}
				if err := errors.Join(r.HTML(f), f.Close()); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(stdout, r)
			}
			return printFunnel(stdout, r, args[0])
		},
	}
	cmd.Flags().StringVar(&page, "html", "", "write the page to this `file`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}
