package main

import (
	"context"
	"errors"

	"pretrain/data/mix"
	"pretrain/train"
	"pretrain/train/checkpoint"
)

// train trains to the end, going back where a spike wants it and on with a larger batch where the loss does.
func (j *job) train(ctx context.Context, store *checkpoint.Store) error {
	for {
		err := j.run.Train(ctx)
		back, grown := new(train.RollbackError), new(train.GrowError)
		switch {
		case errors.As(err, &back):
			err = j.goBack(ctx, store, back.Spike)
		case errors.As(err, &grown):
			err = j.grow(store, grown)
		default:
			return err
		}
		if err != nil {
			return err
		}
	}
}

// grow has the run go on with a larger batch. The configuration so far becomes its past, as that of a resumed run with another
// batch would: checkpoints say so, and a resume or a branch sees the same batches. Where stages or schedule do not fit the fewer
// steps that are left, the batch stays as it is.
func (j *job) grow(store *checkpoint.Store, g *train.GrowError) error {
	config, err := j.config.Grow(g.Step, g.Sequences)
	var plan *mix.Plan
	if err == nil {
		plan, _, err = j.corpus.plan(config)
	}
	if err != nil {
		j.say("warning: the batch stays as it is, though the validation loss of %.4g asks for %d sequences from step %d on: %v", g.Loss, g.Sequences, g.Step, err)
		return nil
	}
	old := j.run.Saver
	if err := j.closeTo(j.started); err != nil {
		return err
	}
	j.config = config
	j.follow(plan)
	if err := j.openMetrics(); err != nil {
		return err
	}
	if err := j.openSaver(store, plan.Manifest(), nil); err != nil {
		return err
	}
	j.run.Saver.Follows(old)
	j.say("the batch grows to %s tokens from step %d on: the validation loss is %.4g; the run has %d steps now",
		si(g.Sequences*config.Plan.SequenceLength()), g.Step, g.Loss, config.Derived.Steps)
	return nil
}
