package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"

	"pretrain/train/scaling"

	"github.com/spf13/cobra"
)

func newScaling(stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{Use: "scaling", Short: "Fit scaling laws, and plan runs by them", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(newScalingFit(stdout, stderr), newScalingPlan(stdout))
	return cmd
}

// fitOptions are what the command line says about a fit.
type fitOptions struct {
	csv      string
	columns  scaling.Columns
	runs     []string
	params   scaling.Convention
	source   string
	form     string
	options  scaling.Options
	drop     int
	holdout  string
	compute  []float64
	out, svg string
	asJSON   bool
}

// isoFLOP is the value of --form that is no formula of N and D.
const isoFLOP = "isoflop"

func newScalingFit(stdout, stderr io.Writer) *cobra.Command {
	var o fitOptions
	var compute []string
	cmd := &cobra.Command{
		Use: "fit {--csv FILE | --runs DIR}", Short: "Fit the loss over size and data, with intervals, and check it on runs held out", Args: noArgs,
		Long: `Fit L(N, D) = E + A/N^alpha + B/D^beta to runs of several sizes N and lengths D.

The recipe is Chinchilla's (Hoffmann et al. 2022): the Huber loss (δ 0.001) of log L, by L-BFGS from a grid of 4500 starts.
--method least-squares is MiniCPM's, plain squares of L. --form kaplan is Kaplan et al.'s law; --form isoflop takes the lowest
point of a parabola at each compute instead. Intervals are the bootstrap's over points. It warns of what the points cannot tell.

Runs are rows of a table, or run directories: those in a folder whose learning rate has come down at the end, so a trunk itself
is none, and the decays that branched off it are (pretrain branch --plan makes such a family at the cost of its longest run).`,
		Example: `  pretrain scaling fit --csv runs.csv --n-col params --d-col tokens --loss-col val_loss --json
  pretrain scaling fit --runs runs/ladder --holdout largest --svg fit.svg
  pretrain scaling fit --runs runs/ladder --loss-col val_bpb --method least-squares
  pretrain scaling fit --csv chinchilla.csv --n-col "Model Size" --c-col "Training FLOP" --drop-highest 5 --compute 5.76e23`,
		RunE: func(*cobra.Command, []string) error {
			for _, text := range compute {
				c, err := strconv.ParseFloat(text, 64)
				if err != nil || !(c > 0) {
					return usagef("--compute %q: want FLOPs such as 1e21", text)
				}
				o.compute = append(o.compute, c)
			}
			return fitScaling(o, stdout, stderr)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.csv, "csv", "", "a `file` with a row for each run, its first row naming the columns")
	f.StringVar(&o.columns.N, "n-col", "N", "the `column` with the number of parameters")
	f.StringVar(&o.columns.D, "d-col", "", "the `column` with the tokens trained on (default D, or from --c-col: C/(6·N))")
	f.StringVar(&o.columns.C, "c-col", "", "the `column` with the training compute in FLOPs (default 6·N·D)")
	f.StringVar(&o.columns.Loss, "loss-col", "", "the `column` with the final loss (default loss); of run directories val_loss, the default, or val_bpb")
	f.StringArrayVar(&o.runs, "runs", nil, "a `folder` with run directories at any depth; may be given again")
	f.StringVar((*string)(&o.params), "params", string(scaling.NonEmbedding), "what N counts of run directories: non-embedding, compute (with the output projection) or total")
	f.StringVar(&o.source, "source", "", "of run directories, the loss of one validation source alone")
	f.StringVar(&o.form, "form", string(scaling.Additive), "chinchilla, kaplan or isoflop")
	f.StringVar((*string)(&o.options.Method), "method", string(scaling.Huber), "huber or least-squares")
	f.IntVar(&o.drop, "drop-highest", 0, "leave out the `n` points of the highest loss")
	f.StringVar(&o.holdout, "holdout", "", "predict, and do not fit: largest (all points of the largest N), or the `n` points of the most compute")
	f.StringArrayVar(&compute, "compute", nil, "also give the best size for this many `FLOPs`; may be given again")
	f.IntVar(&o.options.Bootstrap, "bootstrap", 1000, "resamples for the intervals; 0: no intervals")
	f.Uint64Var(&o.options.Seed, "seed", 1, "of the resampling")
	f.StringVar(&o.out, "out", "", "also write the JSON to a `file`, for pretrain scaling plan --fit")
	f.StringVar(&o.svg, "svg", "", "also draw points and law to a `file`")
	f.BoolVar(&o.asJSON, "json", false, "as one JSON object")
	return cmd
}

func fitScaling(o fitOptions, stdout, stderr io.Writer) error {
	o.options.Form = scaling.Form(o.form)
	switch {
	case (o.csv == "") == (len(o.runs) == 0):
		return usagef("want one of --csv FILE and --runs DIR")
	case o.form != isoFLOP && !slices.Contains(scaling.Forms, o.options.Form):
		return usagef("--form %s: want chinchilla, kaplan or isoflop", o.form)
	case !slices.Contains(scaling.Methods, o.options.Method):
		return usagef("--method %s: want huber or least-squares", o.options.Method)
	case !slices.Contains(scaling.Conventions, o.params):
		return usagef("--params %s: want non-embedding, compute or total", string(o.params))
	case o.options.Bootstrap < 0 || o.drop < 0:
		return usagef("--bootstrap %d, --drop-highest %d: want 0 or more", o.options.Bootstrap, o.drop)
	case o.form == isoFLOP && (o.holdout != "" || len(o.compute) > 0 || o.out != "" || o.svg != ""):
		return usagef("--form isoflop predicts no loss: want no --holdout, --compute, --out and --svg with it")
	}
	points, report, err := o.points(stderr)
	if err != nil {
		return err
	}
	points = scaling.DropHighest(points, o.drop)
	if o.form == isoFLOP {
		f, err := scaling.RunIsoFLOP(points, o.options)
		if err != nil {
			return fmt.Errorf("fit: %w", err)
		}
		if o.asJSON {
			return printJSON(stdout, f)
		}
		return f.Text(stdout)
	}
	points, held, err := o.holdOut(points)
	if err != nil {
		return err
	}
	if report.Fit, err = scaling.Run(points, o.options); err != nil {
		return fmt.Errorf("fit: %w", err)
	}
	report.HeldOut = report.Predict(held)
	for _, c := range o.compute {
		report.Budgets = append(report.Budgets, report.Budget(c))
	}
	if o.svg != "" {
		if err := writeFile(o.svg, []byte(report.Plot())); err != nil {
			return err
		}
	}
	if o.out != "" {
		text, err := report.MarshalJSON()
		if err != nil {
			return err
		}
		if err := writeFile(o.out, append(text, '\n')); err != nil {
			return err
		}
	}
	if o.asJSON {
		return printJSON(stdout, report)
	}
	return report.Text(stdout)
}

// points are read, with what the report says of them.
func (o fitOptions) points(stderr io.Writer) ([]scaling.Point, *scaling.Report, error) {
	if len(o.runs) > 0 {
		return o.runPoints(stderr)
	}
	c := o.columns
	if c.Loss == "" {
		c.Loss = "loss"
	}
	if c.D == "" && c.C == "" {
		c.D = "D"
	}
	file, err := os.Open(o.csv)
	if err != nil {
		return nil, nil, err
	}
	defer file.Close()
	points, err := scaling.ReadCSV(file, c)
	if err != nil {
		return nil, nil, usagef("%s: %w", o.csv, err)
	}
	return points, &scaling.Report{
		Source: o.csv, Unit: fmt.Sprintf("the unit of column %q", c.Loss),
		Convention: fmt.Sprintf("what column %q does; with or without embeddings changes best sizes and ratios, so say which", c.N),
	}, nil
}

// holdOut parts what is predicted from what is fitted.
func (o fitOptions) holdOut(points []scaling.Point) (fitted, held []scaling.Point, err error) {
	switch n, err := strconv.Atoi(o.holdout); {
	case o.holdout == "" || len(points) == 0:
		return points, nil, nil
	case o.holdout == "largest":
		fitted, held = scaling.HoldOutLargest(points)
		return fitted, held, nil
	case err != nil || n < 1:
		return nil, nil, usagef("--holdout %s: want largest, or a number of points", o.holdout)
	default:
		fitted, held = scaling.HoldOut(points, n)
		return fitted, held, nil
	}
}
