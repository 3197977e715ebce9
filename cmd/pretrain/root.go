package main

import (
	"io"
	"os"
	"path/filepath"

	"pretrain/configs"

	"github.com/spf13/cobra"
)

// newRoot is the command line. The root command trains.
func newRoot(stdout, stderr io.Writer) *cobra.Command {
	var f configFlags
	var o trainOptions
	var asJSON bool
	var profile string
	cmd := &cobra.Command{
		Use:   "pretrain --config NAME_OR_FILE",
		Short: "Train a small language model from raw text to finished weights",
		Long: `Pretrain trains a small language model, end to end, from one configuration.

Without a subcommand it trains: a new run, or the rest of an interrupted one in the same run directory. Ctrl-C or SIGTERM
finishes the step, saves and exits; the same command goes on from there, to the bit. Raw data is prepared on first use
and cached (PRETRAIN_CACHE, or the user's cache folder).`,
		Example: `  pretrain --config quickstart                            # a first model, in some minutes on a laptop
  pretrain --config quickstart --set data.path=DIR        # on your own text, JSONL(.gz, .zst) or Parquet
  pretrain --config my.yaml --set schedule.peak_lr=0.02 --run-dir runs/lr-0.02
  pretrain --config my.yaml --set train.mesh.fsdp=-1      # all GPUs of the machine, weights shared out
  pretrain config explain --config quickstart             # every value and where it comes from`,
		Args: noArgs, SilenceErrors: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.config == "" {
				return cmd.Help()
			}
			draft, err := configs.Read(f.config, f.sets)
			if err != nil {
				return err
			}
			if o.runDir == "" {
				o.runDir = filepath.Join("runs", draft.RunName())
			}
			o.config, o.sets = f.config, f.sets
			return profiled(profile, func() error { return trainRun(cmd.Context(), draft, o, stdout, stderr, asJSON) })
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&o.runDir, "run-dir", "", "where the run lives (default runs/NAME, NAME being the configuration's)")
	cmd.Flags().StringVar(&o.resume, "resume", "auto", "auto: go on where the run directory is; never: refuse to; DIR: start a new run from that checkpoint")
	cmd.Flags().StringVar(&o.backend, "backend", "", "cpu, cuda, go, or xla:/path/to/plugin.so, with options after a comma: cpu,devices=4 makes virtual devices (default: a GPU where there is one, else the CPU; also GOMLX_BACKEND)")
	cmd.Flags().StringVar(&profile, "profile", "", "write cpu.pprof and heap.pprof of the run into this `folder`, for go tool pprof")
	cmd.Flags().BoolVar(&o.verbose, "verbose", false, "let XLA write its own log")
	cmd.Flags().BoolVar(&asJSON, "json", false, "end with one JSON object on stdout")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.AddCommand(
		newSetup(stderr),
		newDoctor(stdout),
		newConfig(stdout),
		newPlan(stdout, stderr),
		newData(
			newDataPrepare(stdout, stderr),
			newDataReport(stdout),
			newDataInspect(stdout, stderr),
			newDataTrainClassifier(stdout, stderr),
			newDataLabels(stdout),
			newDataSynth(stdout, stderr),
		),
		newTokenizer(stdout, stderr),
		newVerifyResume(stdout, stderr),
		newBranch(stdout, stderr),
		newRuns(stdout),
		newAblate(stdout, stderr),
		newScaling(stdout, stderr),
		newEval(stdout, stderr),
		newAnalyze(
			newAnalyzeLayers(stdout, stderr),
			newAnalyzeNoise(stdout, stderr),
			newAnalyzeEmergence(stdout, stderr),
		),
		newExport(stdout, stderr),
		newGenerate(os.Stdin, stdout, stderr),
		newServe(stderr),
		newImport(stdout),
		newReport(stdout),
		newDashboard(stdout),
	)
	return cmd
}

// configFlags choose a configuration.
type configFlags struct {
	config string
	sets   []string
}

func (f *configFlags) add(cmd *cobra.Command) {
	f.addAs(cmd, "a YAML `file`, or the name of an embedded configuration, which pretrain config list lists", "model.d_model=256")
}

// addAs adds the flags for a configuration of another kind than a run's.
func (f *configFlags) addAs(cmd *cobra.Command, config, example string) {
	cmd.Flags().StringVar(&f.config, "config", "", config)
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "override a value, as `"+example+"`; may be given again")
}

// load reads the configuration with load, one of configs' functions.
func (f *configFlags) load(load func(string, []string) (*configs.Resolved, error)) (*configs.Resolved, error) {
	if f.config == "" {
		return nil, usagef("--config is missing: give a YAML file or one of the embedded configurations, such as quickstart")
	}
	return load(f.config, f.sets)
}
