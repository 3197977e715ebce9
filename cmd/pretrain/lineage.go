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
	"pretrain/internal/problem"
	"pretrain/internal/vfs"
	"pretrain/schedule"
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
		return j.checkLaw(err)
	}
	old, err := pastOf(saved.Meta)
	if err != nil {
		return err
	}
	if j.config, err = follow(j.draft, old, saved.Meta.Step); err != nil {
		return j.checkLaw(err)
	}
	if err := j.compare(old, saved.Meta, j.branchesAt(saved)); err != nil {
		return err
	}
	return errors.Join(j.checkLaw(nil), j.keepTokenizer(old, saved))
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

// checkLaw refuses a batch that follows the loss, unless there is an error already.
func (j *job) checkLaw(err error) error {
	if err == nil && j.config.Run.Batch.Tokens == schedule.Law {
		return j.config.Locate("batch", problem.Problem{Key: "tokens", Value: "law", Want: "a number of tokens: a batch that follows the loss can be planned but not trained yet"})
	}
	return err
}

// pastOf is the configuration that a checkpoint was written with.
func pastOf(meta checkpoint.Meta) (*configs.Resolved, error) {
	var list []configs.Segment
	for _, s := range meta.Past {
		list = append(list, configs.Segment{Until: s.Until, YAML: s.Config})
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
	if err == nil && r.Run.Model.VocabSize == 0 { // the tokenizer's, as it was then: its hash is compared, too
		r.Run.Model.VocabSize = old.Run.Model.VocabSize
	}
	return r, err
}

// segments is a past as a checkpoint keeps it.
func segments(past *configs.Past) (list []checkpoint.Segment) {
	for ; past != nil; past = past.Run.Past {
		list = append(list, checkpoint.Segment{Until: past.Step, Config: string(past.Run.YAML(false))})
	}
	slices.Reverse(list)
	return list
}

func configHash(text string) string { return fmt.Sprintf("%016x", xxh3.HashString(text)) }

// compare lists what the configuration changed since the checkpoint, and refuses what it may not change.
func (j *job) compare(old *configs.Resolved, meta checkpoint.Meta, branches bool) error {
	compare, since := configs.Compare, "since"
	if branches {
		compare, since = configs.CompareBranch, "from the trunk, branched off at"
	}
	differences := compare(old, j.config, meta.Step)
	refused := forbidden(differences)
	for _, d := range differences {
		if d.Class == configs.Allowed && d.Key != "name" {
			j.say("changed %s step %d: %s", since, meta.Step, d)
		}
	}
	if tokens := j.config.Plan.TokensBefore(meta.Step); len(refused) == 0 && tokens != meta.Tokens {
		refused = append(refused, fmt.Sprintf("batch: %d tokens in %d steps there, %d with this configuration", meta.Tokens, meta.Step, tokens))
	}
	if len(refused) == 0 {
		return nil
	}
	mend := "go on with that one, or choose another --run-dir"
	if !branches && len(forbidden(configs.CompareBranch(old, j.config, meta.Step))) == 0 {
		args := (&configFlags{j.options.config, j.options.sets}).args(j.options.backend)
		mend += fmt.Sprintf(", or branch off, which leaves this run as it is:\n  pretrain branch --from %s@%d --run-dir NEW %s",
			j.options.runDir, meta.Step, strings.Join(quoted(args), " "))
	}
	return usagef("%s was trained to step %d with another configuration:\n  %s\n%s", j.dir, meta.Step, strings.Join(refused, "\n  "), mend)
}

func forbidden(list []configs.Difference) (refused []string) {
	for _, d := range list {
		if d.Class == configs.Forbidden {
			refused = append(refused, d.String())
		}
	}
	return refused
}

// quoted is a command line's arguments as a shell reads them.
func quoted(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		if out[i] = a; strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./,:@%+") != "" {
			out[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return out
}

// dataPlan lays out the order of the data, after the saved state's past, whose data must be what it was.
func (j *job) dataPlan(saved *checkpoint.State) (*mix.Plan, error) {
	plan, past, err := j.corpus.plan(j.config)
	if err != nil || saved == nil {
		return plan, err
	}
	trained := plan
	if p := j.config.Past; p != nil && p.Step == saved.Meta.Step {
		trained = past
	}
	if saved.Meta.DataManifestHash != trained.Manifest() {
		return nil, fmt.Errorf("the data of the run in %s has changed since step %d: what was trained on cannot be told any more; use another --run-dir",
			filepath.Dir(filepath.Dir(saved.Path)), saved.Meta.Step)
	}
	return plan, nil
}
