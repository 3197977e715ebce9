package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pretrain/configs"
	"pretrain/data/mix"
	"pretrain/internal/vfs"
	"pretrain/train/checkpoint"
	"pretrain/train/runs"

	"github.com/zeebo/xxh3"
)

// This file says what a run goes on from: its own newest checkpoint, the trunk's that it branches off from, or nothing; and
// whether the configuration may follow what that was trained with.

// saved is the checkpoint to go on from, nil for a new run.
func (j *job) saved(ctx context.Context, store *checkpoint.Store) (*checkpoint.State, error) {
	id, err := runs.ReadIdentity(vfs.OS, j.dir)
	if err != nil {
		return nil, err
	}
	if id != nil {
		j.parent = id.Parent
	}
	state, err := store.LoadLatest(ctx, func(p *checkpoint.Problem) {
		j.say("warning: %v: falling back to the checkpoint before it", p)
	})
	none := errors.Is(err, checkpoint.ErrNone)
	switch {
	case j.options.resume != "auto" && !none:
		return nil, usagef("%s has checkpoints already and --resume %s is for a new run: choose another --run-dir", j.dir, j.options.resume)
	case !none:
		return state, err
	case j.parent != nil:
		return loadStep(ctx, runs.ParentDir(j.dir, *j.parent), j.parent.Step)
	case j.options.resume == "auto", j.options.resume == "never":
		return nil, nil
	}
	path := filepath.Clean(j.options.resume)
	var step int64
	if _, err := fmt.Sscanf(filepath.Base(path), "step-%d", &step); err != nil {
		return nil, usagef("--resume %s: want auto, never or a checkpoint's directory, such as runs/x/checkpoints/step-000001000", path)
	}
	from, err := checkpoint.Open(vfs.OS, filepath.Dir(path), checkpoint.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	return from.Load(ctx, step)
}

// loadStep loads a checkpoint of another run, which may be training.
func loadStep(ctx context.Context, run string, step int64) (*checkpoint.State, error) {
	store, err := checkpoint.Open(vfs.OS, filepath.Join(run, "checkpoints"), checkpoint.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	state, err := store.Load(ctx, step)
	if err != nil {
		return nil, fmt.Errorf("the trunk's checkpoint, which this run begins with: %w", err)
	}
	return state, nil
}

// layOut lays the configuration out over the run, after what the run was before. What the configuration changes is listed, and
// refused where the saved state or the steps so far do not allow it.
func (j *job) layOut(saved *checkpoint.State) (err error) {
	if saved == nil {
		j.config, err = j.draft.Resolve(nil)
		return err
	}
	old, err := pastOf(saved.Meta)
	if err != nil {
		return err
	}
	if j.config, err = follow(j.draft, old, saved.Meta.Step); err != nil {
		return err
	}
	if err := j.keepTokenizer(old, saved); err != nil {
		return err
	}
	changes := changesOf(old, j.config, saved.Meta.Step, j.branchesAt(saved))
	for _, d := range changes {
		added := d.Old == "" && strings.HasPrefix(d.Key, "data.sources.") && !strings.HasSuffix(d.Key, ".path") // a source: its path says it
		if d.Class == configs.Allowed && !added {
			j.say("changed at step %d: %s", saved.Meta.Step, d)
		}
	}
	return refuse(changes, old, j.config, saved.Meta, j.dir, j.options, j.branchesAt(saved))
}

// branchesAt reports whether the state is the trunk's.
func (j *job) branchesAt(saved *checkpoint.State) bool {
	return j.parent != nil && filepath.Dir(filepath.Dir(saved.Path)) != j.dir
}

// keepTokenizer has a run whose sources changed read the tokenizer that it has: one trained now would be trained on others.
func (j *job) keepTokenizer(old *configs.Resolved, saved *checkpoint.State) error {
	c := &j.config.Run.Tokenizer
	names := func(r *configs.Resolved) []string { return slices.Sorted(maps.Keys(r.Run.Data.Mix().Sources)) }
	if c.Path != "" || old.Run.Tokenizer.Path == "" && slices.Equal(names(old), names(j.config)) {
		return nil
	}
	c.Path = filepath.Join(j.dir, "tokenizer.json")
	if _, err := os.Stat(c.Path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	content, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(saved.Path)), "tokenizer.json"))
	if err != nil {
		return fmt.Errorf("the tokenizer of the run that this one goes on from (give a copy as tokenizer.path): %w", err)
	}
	return writeFile(c.Path, content)
}

// pastOf is the configuration that a checkpoint was written with.
func pastOf(meta checkpoint.Meta) (*configs.Resolved, error) {
	var list []configs.Segment
	for _, s := range meta.Past {
		list = append(list, configs.Segment{Until: s.Until, YAML: s.Config, Sequences: s.Sequences})
	}
	old, err := configs.LoadPast(fmt.Sprintf("of step %d", meta.Step), append(list, configs.Segment{YAML: meta.Config}))
	if err != nil {
		return nil, fmt.Errorf("read the configuration in the checkpoint of step %d: %w", meta.Step, err)
	}
	return old, nil
}

// follow resolves a configuration for a run that has done step steps with an old one.
func follow(draft *configs.Draft, old *configs.Resolved, step int64) (*configs.Resolved, error) {
	past := old.Past
	if step > 0 && !draft.SameCourse(old) {
		past = &configs.Past{Run: old, Step: step}
	}
	r, err := draft.Resolve(past)
	if err != nil {
		return nil, err
	}
	r = r.KeepFit(old)
	if r.Run.Model.VocabSize == 0 { // the tokenizer's, as it was then: its hash is compared, too
		r.Run.Model.VocabSize = old.Run.Model.VocabSize
	}
	return r, nil
}

// segments is a past as a checkpoint keeps it.
func segments(past *configs.Past) (list []checkpoint.Segment) {
	for ; past != nil; past = past.Run.Past {
		list = append(list, checkpoint.Segment{Until: past.Step, Config: string(past.Run.YAML(false)), Sequences: past.Sequences})
	}
	slices.Reverse(list)
	return list
}

func configHash(text string) string { return fmt.Sprintf("%016x", xxh3.HashString(text)) }

// changesOf lists what a configuration changes, the run's name aside.
func changesOf(old, r *configs.Resolved, step int64, branches bool) []configs.Difference {
	list := configs.Compare(old, r, step)
	if branches {
		list = configs.CompareBranch(old, r, step)
	}
	return slices.DeleteFunc(list, func(d configs.Difference) bool { return d.Key == "name" })
}

// refuse is the error that says which changes the saved state or the steps so far do not allow, and what to do instead.
func refuse(changes []configs.Difference, old, r *configs.Resolved, meta checkpoint.Meta, dir string, o trainOptions, branches bool) error {
	refused := forbidden(changes)
	if tokens := r.Plan.TokensBefore(meta.Step); len(refused) == 0 && tokens != meta.Tokens {
		refused = append(refused, fmt.Sprintf("batch: %d tokens in %d steps there, %d with this configuration", meta.Tokens, meta.Step, tokens))
	}
	switch {
	case len(refused) == 0:
		return nil
	case branches:
		return usagef("a branch cannot differ from its trunk in this:\n  %s", strings.Join(refused, "\n  "))
	}
	mend := "go on with that one, or choose another --run-dir"
	if len(forbidden(configs.CompareBranch(old, r, meta.Step))) == 0 {
		args := (&configFlags{o.config, o.sets}).args(o.backend)
		mend += fmt.Sprintf(", or branch off, which leaves this run as it is:\n  pretrain branch --from %s@%d --run-dir NEW %s",
			o.runDir, meta.Step, shellWords(args))
	}
	return usagef("%s was trained to step %d with another configuration:\n  %s\n%s", dir, meta.Step, strings.Join(refused, "\n  "), mend)
}

func forbidden(list []configs.Difference) (refused []string) {
	for _, d := range list {
		if d.Class == configs.Forbidden {
			refused = append(refused, d.String())
		}
	}
	return refused
}

// dataPlan lays out the order of the data, after the saved state's past, whose data must be what it was.
func (j *job) dataPlan(saved *checkpoint.State) (*mix.Plan, error) {
	plan, past, err := j.corpus.plan(j.config)
	if err != nil || saved == nil {
		return plan, err
	}
	if err := sameData(saved.Meta, filepath.Dir(filepath.Dir(saved.Path)), j.config, plan, past); err != nil {
		return nil, fmt.Errorf("%w; use another --run-dir", err)
	}
	return plan, nil
}

// sameData reports data that is not what the steps before a checkpoint of the run in dir were trained on. plan and past are
// those of the configuration r, which goes on from it.
func sameData(meta checkpoint.Meta, dir string, r *configs.Resolved, plan, past *mix.Plan) error {
	trained := plan
	if r.Past != nil && r.Past.Step == meta.Step {
		trained = past
	}
	if meta.Step > 0 && meta.DataManifestHash != trained.Manifest() { // at step 0, such as of an imported model, nothing was trained on
		return fmt.Errorf("the data of the run in %s has changed since step %d: what was trained on cannot be told any more", dir, meta.Step)
	}
	return nil
}
