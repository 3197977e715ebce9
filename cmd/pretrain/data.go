package main

import "github.com/spf13/cobra"

// newData is the parent of the verbs about data. Each has a file of its own, data_VERB.go.
func newData(verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: "data", Short: "Prepare raw text for training, and look at the data of a run", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verbs...)
	return cmd
}
