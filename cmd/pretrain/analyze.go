package main

import (
	"github.com/spf13/cobra"
)

// newAnalyze is the parent of the verbs that look into a trained model. Each has a file of its own, analyze_VERB.go.
func newAnalyze(verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: "analyze", Short: "Look into a trained model: its layers, its gradient noise, abilities that emerge", Args: noArgs,
		Long: `Look into a trained model. Each analysis prints a table (or --json) and leaves its figures and plots in RUN/analysis, where the
run's report finds them.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(verbs...)
	return cmd
}
