package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"pretrain/configs"

	"github.com/spf13/cobra"
)

func newConfig(stdout io.Writer) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show a configuration, fully resolved", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newConfigShow(stdout), newConfigExplain(stdout), newConfigList(stdout))
	return cmd
}

func newConfigShow(stdout io.Writer) *cobra.Command {
	var f configFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show --config NAME_OR_FILE", Short: "Print the whole configuration, every default written out", Args: noArgs,
		Long:    "Print the whole configuration, every default written out. The output is a configuration: it loads to the same values.",
		Example: "  pretrain config show --config quickstart > mine.yaml",
		RunE: func(*cobra.Command, []string) error {
			r, err := f.load(configs.LoadWithoutFiles)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(stdout, r)
			}
			_, err = stdout.Write(r.YAML(false))
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as one JSON object")
	return cmd
}

func newConfigExplain(stdout io.Writer) *cobra.Command {
	var f configFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "explain --config NAME_OR_FILE", Short: "Say of every value where it came from, and derive the rest", Args: noArgs,
		Example: "  pretrain config explain --config quickstart --set batch.tokens=8192tok",
		RunE: func(*cobra.Command, []string) error {
			r, err := f.load(configs.LoadWithoutFiles)
			if err != nil {
				return err
			}
			if asJSON {
				type value struct {
					Key    string `json:"key"`
					Value  string `json:"value"`
					Origin string `json:"origin"`
				}
				var values []value
				for _, v := range append(r.Values(), r.Explain()...) {
					values = append(values, value{v.Key, v.Text, v.Origin.String()})
				}
				return printJSON(stdout, values)
			}
			if _, err := stdout.Write(r.YAML(true)); err != nil {
				return err
			}
			fmt.Fprintf(stdout, "\n# derived\n")
			w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
			for _, v := range r.Explain() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, v.Text, v.Origin)
			}
			return w.Flush()
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a list of JSON objects")
	return cmd
}

func newConfigList(stdout io.Writer) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the embedded configurations", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, name := range configs.Names() {
				fmt.Fprintln(stdout, name)
			}
			return nil
		},
	}
}

// printJSON writes one value as a line of JSON.
func printJSON(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}
