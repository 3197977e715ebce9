"""Writes the golden files of data/: `python make_golden.py`, or `--check` to compare a fresh set with the one checked in.

Everything is computed in float64 from float32 weights and stored as float32. See README.md for the names.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import minicpm
import optimizers
import schedules
from minicpm import Config

DATA = Path(__file__).parent / "data"
B, T = 2, 24
ADAMW_STEPS = 10

SMALL = Config(vocab_size=97, d_model=48, d_ff=120, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=12, max_seq_len=T)
# A base width of 12 makes the width ratio 4, so that leaving it out anywhere shows.
MUP = replace(SMALL, parameterization="mup", dim_model_base=12)
STANDARD = replace(SMALL, parameterization="standard", init_std=0.02)


@dataclass(frozen=True)
class Case:
    config: Config
    seed: int
    z_loss: float = 0.0
    adamw_lr: float = 0.0  # above 0: also ten AdamW steps at this rate
    clip_norm: float = 1.0


CASES = {
    # The clip norm lies amid this run's gradient norms: some steps are clipped, some are not.
    "mup_tied": Case(MUP, seed=1, adamw_lr=0.01, clip_norm=0.4),
    # head_dim 16 with d_model 48: wq and wo are not square. A width ratio of 0.75, below one.
    "mup_untied_gqa": Case(replace(MUP, tie_embeddings=False, num_kv_heads=2, head_dim=16, dim_model_base=64), seed=2),
    "llama_standard_untied": Case(replace(STANDARD, tie_embeddings=False), seed=3, adamw_lr=1e-3),
    "llama_tied_gqa": Case(replace(STANDARD, num_kv_heads=1, num_layers=3), seed=4),
    "masked_documents": Case(replace(MUP, num_kv_heads=2, document_mask=True), seed=5),
    "zloss_softcap_qknorm": Case(replace(MUP, num_kv_heads=2, qk_norm=True, logit_soft_cap=1.0), seed=6, z_loss=1e-2),
    "sliding_window": Case(replace(MUP, num_kv_heads=2, sliding_window=5), seed=7),
}

ADAMW = {
    "steps": ADAMW_STEPS, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1,
    "lr_of_hidden_matrices": "lr/width_ratio", "lr_of_others": "lr", "decayed": "hidden matrices and lm_head",
}


def batch(config: Config, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and the next token of each, int32 [B,T]: a rule to learn, 5x+3, broken by chance a quarter of the time.

    The upper tenth of the vocabulary never occurs: untied embedding rows with a gradient of exactly zero.
    """
    used = config.vocab_size * 9 // 10
    stream = rng.integers(0, used, (B, T + 1), dtype=np.int32)
    follow = rng.uniform(size=(B, T + 1)) < 0.75
    for t in range(1, T + 1):
        stream[:, t] = np.where(follow[:, t], (5 * stream[:, t - 1] + 3) % used, stream[:, t])
    return stream[:, :-1].copy(), stream[:, 1:].copy()


def segments_and_mask(config: Config, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Segment ids and loss mask. Packed rows mask each document's last token; others mask a few at random."""
    if not config.document_mask:
        mask = (rng.uniform(size=(B, T)) > 0.2).astype(np.float32)
        return np.zeros((B, T), np.int32), mask
    segments = np.stack([np.repeat(np.arange(3), [7, 9, 8]), np.repeat(np.arange(4), [1, 12, 2, 9])]).astype(np.int32)
    ends = np.concatenate([segments[:, 1:] != segments[:, :-1], np.ones((B, 1), bool)], axis=1)
    return segments, 1 - ends.astype(np.float32)


def tensors(arrays: dict[str, np.ndarray], dtype: torch.dtype) -> minicpm.Params:
    return {n: torch.from_numpy(a).to(dtype).requires_grad_() for n, a in arrays.items()}


def forward_backward(case: Case, weights: dict, tokens, targets, mask, segments, dtype=torch.float64) -> dict[str, np.ndarray]:
    """Logits, losses, last residual stream and the gradient of loss + z_loss, as numpy arrays of dtype."""
    as_long = lambda a: torch.from_numpy(a).long()
    p = tensors(weights, dtype)
    lg = minicpm.logits(case.config, p, as_long(tokens), as_long(segments))
    loss, z = minicpm.losses(lg, as_long(targets), torch.from_numpy(mask).to(dtype), case.z_loss)
    (loss + z).backward()
    out = {"logits": lg, "loss": loss, "z_loss": z} | {f"grad.{n}": t.grad for n, t in p.items()}
    return {n: t.detach().numpy() for n, t in out.items()}


def adamw_run(case: Case, weights: dict, dtype=torch.float64) -> dict[str, np.ndarray]:
    """Ten steps of torch.optim.AdamW on ten fixed batches, clipped by torch; weights after steps 1 and 10."""
    c, p = case.config, tensors(weights, dtype)
    groups = []
    for name, t in p.items():
        hidden = minicpm.is_hidden_matrix(name, t.shape)
        groups.append({
            "params": [t],
            "lr": case.adamw_lr / (c.width_ratio if hidden else 1),
            "weight_decay": ADAMW["weight_decay"] if hidden or name == "lm_head" else 0.0,
        })
    opt = torch.optim.AdamW(groups, betas=tuple(ADAMW["betas"]), eps=ADAMW["eps"])
    rng = np.random.Generator(np.random.PCG64(1000 + case.seed))
    batches = [batch(c, rng) for _ in range(ADAMW_STEPS)]
    out = {
        "adamw.tokens": np.stack([b[0] for b in batches]),
        "adamw.targets": np.stack([b[1] for b in batches]),
        "adamw.loss": np.empty(ADAMW_STEPS),
        "adamw.grad_norm": np.empty(ADAMW_STEPS),
    }
    for i, (tokens, targets) in enumerate(batches):
        opt.zero_grad()
        lg = minicpm.logits(c, p, torch.from_numpy(tokens).long())
        loss, _ = minicpm.losses(lg, torch.from_numpy(targets).long(), torch.ones(B, T, dtype=dtype))
        loss.backward()
        out["adamw.loss"][i] = loss.item()
        out["adamw.grad_norm"][i] = torch.nn.utils.clip_grad_norm_(p.values(), case.clip_norm).item()
        opt.step()
        if i + 1 in (1, ADAMW_STEPS):
            out |= {f"adamw{i + 1}.{n}": t.detach().numpy().copy() for n, t in p.items()}
    return out


def inputs(case: Case) -> dict[str, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(100 + case.seed))
    tokens, targets = batch(case.config, rng)
    segments, mask = segments_and_mask(case.config, rng)
    return {"tokens": tokens, "targets": targets, "segments": segments, "mask": mask}


def make_case(case: Case) -> tuple[dict[str, np.ndarray], dict]:
    weights = minicpm.init(case.config, case.seed, gain_std=0.1)
    given = inputs(case)
    out = weights | given | forward_backward(case, weights, **given)
    config: dict = {"model": case.config.keys(), "z_loss": case.z_loss}
    if case.adamw_lr:
        out |= adamw_run(case, weights)
        config["adamw"] = {"lr": case.adamw_lr, "clip_norm": case.clip_norm, **ADAMW}
    keep = lambda a: a if a.dtype == np.int32 else np.asarray(a, np.float32)
    return {n: np.ascontiguousarray(keep(a)) for n, a in out.items()}, config


def write_all(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: make_case(case) for name, case in CASES.items()} | {"optimizers": optimizers.trajectories()}
    for name, (arrays, config) in files.items():
        # One metadata key only: the writer orders several at random, and the files would change at every run.
        path = folder / f"{name}.safetensors"
        save_file(arrays, path, metadata={"config": json.dumps(config)})
        path.chmod(0o644)  # the writer makes it private
    (folder / "schedules.csv").write_text(schedules.csv())


def check() -> list[str]:
    """What differs between a fresh set and the files checked in, beyond rounding."""
    import tempfile

    bad = []
    with tempfile.TemporaryDirectory() as tmp:
        write_all(Path(tmp))
        for fresh in sorted(Path(tmp).iterdir()):
            old = DATA / fresh.name
            if not old.exists():
                bad.append(f"{fresh.name}: missing")
            elif fresh.suffix == ".csv":
                if fresh.read_text() != old.read_text():
                    bad.append(f"{fresh.name}: differs")
            else:
                a, b = load_file(fresh), load_file(old)
                bad += [f"{fresh.name}: {n}: only in one of them" for n in a.keys() ^ b.keys()]
                bad += [f"{fresh.name}: {n}: differs" for n in a.keys() & b.keys() if not np.allclose(a[n], b[n], rtol=1e-5, atol=1e-7)]
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the checked-in files differ")
    if not parser.parse_args().check:
        write_all(DATA)
        for f in sorted(DATA.iterdir()):
            print(f"{os.path.getsize(f):8d}  {f.name}")
        return 0
    bad = check()
    print("\n".join(bad) or "golden files agree")
    return 1 if bad else 0


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
