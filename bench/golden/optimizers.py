"""Optimizer trajectories: torch.optim where PyTorch has the rule, the paper's formula in NumPy where it has not.

Four tensors, named by what they exercise: `matrix` [12,20] and `tall` [20,12] (Muon's scale depends on which side is
longer, LAMB's clamp on ‖w‖ above and below 10), `vector` [20], `bias` [8] starting at zero (LAMB's ratio at ‖w‖ = 0).
The learning rate of step t is lr * lr_scale[t]: a rule that folds it into its momentum shows.
All arithmetic is float64 from float32 inputs.
"""

from __future__ import annotations

import numpy as np
import torch

STEPS = 20
KEEP = (1, 2, 5, 20)  # the steps after which weights are stored
SHAPES = {"matrix": (12, 20), "tall": (20, 12), "vector": (20,), "bias": (8,)}
LR_SCALE = np.array([k / 8 for k in (1, 2, 4, 6, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 7, 6, 5, 4, 2, 1)], np.float32)
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024, "Muon"

Arrays = dict[str, np.ndarray]


def problem(seed: int) -> tuple[Arrays, Arrays]:
    """Initial weights and 20 gradients of each tensor: a drift plus noise whose scale changes by 100x."""
    rng = np.random.Generator(np.random.PCG64(seed))
    std = {"matrix": 1.0, "tall": 0.3, "vector": 1.0, "bias": 0.0}
    weights = {n: (std[n] * rng.standard_normal(s)).astype(np.float32) for n, s in SHAPES.items()}
    loudness = np.exp(rng.uniform(np.log(0.05), np.log(5), STEPS))
    grads = {}
    for n, s in SHAPES.items():
        drift = 0.3 * rng.standard_normal(s)
        noise = rng.standard_normal((STEPS, *s)) * loudness.reshape(-1, *[1] * len(s))
        grads[n] = (drift + noise).astype(np.float32)
    for name in ("matrix", "tall"):
        grads[name][:, 3, :] = 0  # a row that never gets a gradient: an unused token's embedding
    return weights, grads


def run_torch(make, weights: Arrays, grads: Arrays) -> Arrays:
    """Weights at KEEP, under keys name.step, of a torch.optim rule with its lr scaled each step."""
    params = {n: torch.nn.Parameter(torch.from_numpy(w.astype(np.float64))) for n, w in weights.items()}
    opt = make(list(params.values()))
    peak = opt.param_groups[0]["lr"]
    out = {}
    for t in range(STEPS):
        for n, p in params.items():
            p.grad = torch.from_numpy(grads[n][t].astype(np.float64))
        for group in opt.param_groups:
            group["lr"] = peak * float(LR_SCALE[t])
        opt.step()
        if t + 1 in KEEP:
            out |= {f"{n}.{t + 1}": p.detach().numpy().copy() for n, p in params.items()}
    return out


def run_numpy(rule, weights: Arrays, grads: Arrays, lr: float) -> Arrays:
    """The same for rule(w, g, state, t, lr) -> new w, called for each tensor with t from 1."""
    w = {n: x.astype(np.float64) for n, x in weights.items()}
    state: dict[str, dict] = {n: {} for n in w}
    out = {}
    for t in range(1, STEPS + 1):
        for n in w:
            w[n] = rule(w[n], grads[n][t - 1].astype(np.float64), state[n], t, lr * float(LR_SCALE[t - 1]))
        if t in KEEP:
            out |= {f"{n}.{t}": x.copy() for n, x in w.items()}
    return out


def lamb(betas, eps, weight_decay, clamp, debias, exempt_1d=False):
    """LAMB, You et al. 1904.00962 Algorithm 2, with phi(z) = min(z, clamp).

    m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  r = mhat / (sqrt(vhat) + eps);  u = r + weight_decay * w
    ratio = min(‖w‖, clamp) / ‖u‖, or 1 where ‖w‖ or ‖u‖ is 0;  w -= lr * ratio * u
    exempt_1d: vectors get ratio 1 and no weight decay, as common implementations do for gains and biases.
    """

    def rule(w, g, s, t, lr):
        plain = exempt_1d and w.ndim == 1
        m = s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
        v = s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
        if debias:
            m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        u = m / (np.sqrt(v) + eps) + (0 if plain else weight_decay) * w
        norm_w, norm_u = np.linalg.norm(w), np.linalg.norm(u)
        ratio = 1.0 if plain or norm_w == 0 or norm_u == 0 else min(norm_w, clamp) / norm_u
        return w - lr * ratio * u

    return rule


def lion(betas, weight_decay):
    """Lion, Chen et al. 2302.06675 Algorithm 2: w -= lr (sign(b1 m + (1-b1) g) + weight_decay w); m = b2 m + (1-b2) g."""

    def rule(w, g, s, t, lr):
        m = s.get("m", np.zeros_like(w))
        c = betas[0] * m + (1 - betas[0]) * g
        # A coin toss in float32 would make the golden worthless: the direction must be clear, or exactly zero.
        assert np.all((np.abs(c) > 2e-6) | (c == 0)), "a Lion direction too close to zero; choose another seed"
        s["m"] = betas[1] * m + (1 - betas[1]) * g
        return w - lr * (np.sign(c) + weight_decay * w)

    return rule


def newton_schulz(g: np.ndarray, steps: int = 5) -> np.ndarray:
    """Muon's quintic iteration on g / (‖g‖_F + 1e-7), on the side with fewer rows: singular values go to about 1."""
    a, b, c = NS_COEFFICIENTS
    x = g / (np.linalg.norm(g) + 1e-7)
    flip = x.shape[0] > x.shape[1]
    x = x.T if flip else x
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if flip else x


def muon_scale(shape: tuple[int, int], convention: str) -> float:
    """The factor on the orthogonalised update of a matrix stored [in, out].

    jordan: sqrt(max(1, out/in)), Jordan's sqrt(max(1, rows/cols)) of a matrix stored [out, in].
    moonshot: 0.2 sqrt(max(in, out)), an RMS of 0.2 like AdamW's (Liu et al. 2502.16982 §2.2).
    """
    n_in, n_out = shape
    return {"jordan": max(1, n_out / n_in) ** 0.5, "moonshot": 0.2 * max(n_in, n_out) ** 0.5}[convention]


def muon(momentum, weight_decay, convention):
    """Muon for matrices [in, out]: buf = mu buf + g; u = NS(g + mu buf) * scale; w = w (1 - lr weight_decay) - lr u.

    Jordan's buf = mu buf + (1-mu) g differs by a constant factor, which NS removes.
    """

    def rule(w, g, s, t, lr):
        buf = s["buf"] = momentum * s.get("buf", 0) + g
        update = newton_schulz(g + momentum * buf) * muon_scale(w.shape, convention)
        return w * (1 - lr * weight_decay) - lr * update

    return rule


def clip_cases(grads: Arrays, max_norm: float) -> Arrays:
    """Every step's gradients clipped together by torch: g * min(1, max_norm / (norm + 1e-6)), and the norms before."""
    out = {f"clip.{n}": np.empty(g.shape) for n, g in grads.items()}
    norms = np.empty(STEPS)
    for t in range(STEPS):
        params = {n: torch.nn.Parameter(torch.zeros(g.shape[1:], dtype=torch.float64)) for n, g in grads.items()}
        for n, p in params.items():
            p.grad = torch.from_numpy(grads[n][t].astype(np.float64))
        norms[t] = torch.nn.utils.clip_grad_norm_(list(params.values()), max_norm).item()
        for n, p in params.items():
            out[f"clip.{n}"][t] = p.grad.numpy()
    assert norms.min() < max_norm < norms.max(), "the clip case must hold both clipped and unclipped steps"
    return out | {"clip.norm": norms}


def trajectories(seed: int = 11) -> tuple[Arrays, dict]:
    """All tensors of optimizers.safetensors, and the hyper-parameters of each trajectory."""
    weights, grads = problem(seed)
    out: Arrays = {f"init.{n}": w for n, w in weights.items()}
    out |= {f"grad.{n}": g for n, g in grads.items()}
    out["lr_scale"] = LR_SCALE
    config: dict = {"steps": STEPS, "keep": list(KEEP), "seed": seed, "trajectories": {}}

    def add(name: str, kind: str, traj: Arrays, **hyper) -> None:
        out.update({f"{name}.{key}": value for key, value in traj.items()})
        config["trajectories"][name] = {"kind": kind, **hyper}

    betas, optim = (0.9, 0.95), torch.optim
    for suffix, wd in (("", 0.0), ("_wd", 0.1)):

        def add_torch(name: str, kind: str, cls, extra: dict = {}, **hyper) -> None:
            traj = run_torch(lambda p: cls(p, weight_decay=wd, **hyper, **extra), weights, grads)
            add(name + suffix, kind, traj, weight_decay=wd, **hyper)

        add_torch("sgd", "sgd", optim.SGD, lr=0.05, momentum=0.0)
        add_torch("momentum", "sgd", optim.SGD, lr=0.02, momentum=0.9)
        add_torch("nesterov", "sgd", optim.SGD, lr=0.02, momentum=0.9, nesterov=True)
        add_torch("adagrad", "adagrad", optim.Adagrad, lr=0.1, eps=1e-10)
        add_torch("adam", "adam", optim.Adam, {"foreach": False}, lr=0.01, betas=betas, eps=1e-8)
        add_torch("adamw", "adamw", optim.AdamW, {"foreach": False}, lr=0.01, betas=betas, eps=1e-8)

        hyper = dict(lr=0.01, betas=(0.9, 0.999), eps=1e-6, weight_decay=wd, clamp=10.0)
        for name, debias, exempt in (("lamb", True, False), ("lamb_nodebias", False, False), ("lamb_exempt_1d", True, True)):
            rule = lamb(hyper["betas"], hyper["eps"], wd, hyper["clamp"], debias, exempt)
            traj = run_numpy(rule, weights, grads, hyper["lr"])
            add(name + suffix, "lamb", traj, **hyper, debias=debias, exempt_1d=exempt)

        add("lion" + suffix, "lion", run_numpy(lion((0.9, 0.99), wd), weights, grads, 0.003),
            lr=0.003, betas=(0.9, 0.99), weight_decay=wd)

        matrices = {n: w for n, w in weights.items() if w.ndim == 2}
        for convention in ("jordan", "moonshot"):
            traj = run_numpy(muon(0.95, wd, convention), matrices, grads, 0.02)
            add(f"muon_{convention}{suffix}", "muon", traj, lr=0.02, momentum=0.95, ns_steps=5, scale=convention, weight_decay=wd)

    config["clip"] = {"max_norm": 12.0}
    out |= clip_cases(grads, config["clip"]["max_norm"])
    return {k: np.ascontiguousarray(v, np.float32) for k, v in out.items()}, config
