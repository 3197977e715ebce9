"""Checks that the oracles themselves are right: `python selfcheck.py`, about a minute.

An oracle nobody checked proves only that two programs agree. Each check below rests on something other than the code it
checks: finite differences, closed forms, the paper's published counts, symmetries of the formulas, PyTorch's own Muon,
and Hugging Face's Llama (`pip install transformers`, skipped without it).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

import make_golden
import minicpm
import optimizers
import peer_train
import schedules
from make_golden import ADAMW_STEPS, CASES, MUP, STANDARD, B, T
from minicpm import Config

F64 = torch.float64


class Skip(Exception):
    """A check whose optional package is not installed."""


def close(got, want, tol: float, what: str) -> None:
    got, want = (torch.as_tensor(x, dtype=F64) for x in (got, want))
    err = ((got - want).abs().max() / want.abs().max().clamp_min(1e-30)).item()
    assert err <= tol, f"{what}: relative error {err:.3g} above {tol:g}"


def random_tokens(c: Config, rows: int, cols: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, c.vocab_size, (rows, cols), generator=torch.Generator().manual_seed(seed))


def params(c: Config, seed: int = 0, gain_std: float = 0.1) -> minicpm.Params:
    return {n: torch.from_numpy(a).to(F64) for n, a in minicpm.init(c, seed, gain_std).items()}


def check_finite_differences():
    """The central difference of loss + z-loss along a random direction of each parameter is its gradient."""
    for name, case in CASES.items():
        weights = minicpm.init(case.config, case.seed, gain_std=0.1)
        given = make_golden.inputs(case)
        grads = make_golden.forward_backward(case, weights, **given)
        tokens, targets, segments = (torch.from_numpy(given[k]).long() for k in ("tokens", "targets", "segments"))
        mask, rng = torch.from_numpy(given["mask"]).to(F64), np.random.Generator(np.random.PCG64(0))

        def total(p: minicpm.Params) -> float:
            return sum(minicpm.losses(minicpm.logits(case.config, p, tokens, segments), targets, mask, case.z_loss)).item()

        for n in weights:
            v = rng.standard_normal(weights[n].shape)
            v += 0.5 * np.sqrt(v.size) * grads[f"grad.{n}"] / np.linalg.norm(grads[f"grad.{n}"])  # never orthogonal to it
            v /= np.linalg.norm(v)
            p, h = {m: torch.from_numpy(a).to(F64) for m, a in weights.items()}, 1e-5
            centre = p[n]
            p[n] = centre + h * torch.from_numpy(v)
            up = total(p)
            p[n] = centre - h * torch.from_numpy(v)
            close((up - total(p)) / (2 * h), (v * grads[f"grad.{n}"]).sum(), 1e-5, f"{name}: {n}")


def check_parameter_counts():
    """MiniCPM Table 2: non-embedding parameters of the two released models, exactly."""
    for want, c in (
        (2_442_057_984, Config(122_753, 2304, 5760, 40, 36, 36, 64)),
        (1_247_442_432, Config(73_440, 1536, 3840, 52, 24, 8, 64)),
    ):
        got = sum(math.prod(s) for n, s in minicpm.shapes(c).items() if n != "embed")
        assert got == want, f"{got} parameters, want {want}"


def check_init_oracles():
    """At init the final residual RMS is 6.28 at every width and depth, and the loss ln V + (25.6/sqrt d)^2 / 2."""
    for d, f, h, layers in ((320, 800, 5, 8), (512, 1280, 8, 12), (768, 1920, 12, 16)):
        c = Config(4096, d, f, layers, h, h, 64)
        p = {n: t.float() for n, t in params(c, seed=d, gain_std=0).items()}
        tokens, targets = random_tokens(c, 8, 128, seed=1), random_tokens(c, 8, 128, seed=2)
        with torch.no_grad():
            stream = minicpm.residual_stream(c, p, tokens)
            lg = minicpm.rms_norm(stream[-1], p["final_norm"], c.norm_eps) / c.width_ratio @ p["embed"].T
            loss, _ = minicpm.losses(lg, targets, torch.ones(8, 128))
        rms = stream[-1].square().mean().sqrt().item()
        cos = torch.cosine_similarity(stream[0], stream[-1], dim=-1).mean().item()
        want = math.log(c.vocab_size) + (25.6 / math.sqrt(d)) ** 2 / 2
        print(f"    d {d}: residual RMS {rms:.3f}, cos(embedding, residual) {cos:.3f}, loss {loss:.4f}, closed form {want:.4f}")
        close(rms, 6.28, 0.02, f"d={d}: residual RMS")
        close(cos, 0.19, 0.05, f"d={d}: cosine of embedding and final residual")
        close(loss.item(), want, 0.01, f"d={d}: init loss")


def check_masks():
    """Later tokens, other documents and tokens out of the window cannot be seen; a document is as if alone."""
    c = replace(MUP, num_kv_heads=2)
    p, tokens = params(c), random_tokens(c, 1, T)
    changed = tokens.clone()
    changed[0, 10] = (changed[0, 10] + 1) % c.vocab_size

    base, other = minicpm.logits(c, p, tokens), minicpm.logits(c, p, changed)
    assert torch.equal(base[0, :10], other[0, :10]) and not torch.allclose(base[0, 10:], other[0, 10:]), "causality"

    masked = replace(c, document_mask=True)
    segments = torch.tensor([[0] * 9 + [1] * 15])
    packed = minicpm.logits(masked, p, tokens, segments)
    alone = torch.cat([minicpm.logits(c, p, tokens[:, :9]), minicpm.logits(c, p, tokens[:, 9:])], dim=1)
    close(packed, alone, 1e-12, "documents packed or alone")

    wide = minicpm.logits(replace(c, sliding_window=T), p, tokens)
    close(wide, base, 0, "a window as long as the sequence")
    one = replace(c, sliding_window=3, num_layers=1)
    reach = minicpm.logits(one, p, tokens) - minicpm.logits(one, p, changed)
    assert [t for t in range(T) if reach[0, t].abs().max() > 0] == [10, 11, 12], "a window of 3 is itself and two before"


def check_symmetries():
    """What must not change when the same function is written another way."""
    c = replace(MUP, num_kv_heads=2, num_layers=3)
    p, tokens = params(c), random_tokens(c, B, T)
    base = minicpm.logits(c, p, tokens)

    # Plain Llama with the scalings folded into the weights, as OpenBMB's llama-format weights do.
    folded = {n: t.clone() for n, t in p.items()}
    folded |= {"embed": p["embed"] * 12, "lm_head": p["embed"] / c.width_ratio}
    for i in range(c.num_layers):
        for n in ("wo", "w_down"):
            folded[f"layer.{i}.{n}"] *= 1.4 / math.sqrt(c.num_layers)
    llama = replace(c, parameterization="standard", tie_embeddings=False)
    close(minicpm.logits(llama, folded, tokens), base, 1e-12, "mup folded into plain Llama")

    # Grouped-query attention is multi-head attention with its key/value heads repeated.
    repeated = dict(p)
    for i in range(c.num_layers):
        for n in ("wk", "wv"):
            w = p[f"layer.{i}.{n}"].view(c.d_model, 2, c.head_dim)
            repeated[f"layer.{i}.{n}"] = w[:, [0, 0, 1, 1]].reshape(c.d_model, -1)
    close(minicpm.logits(replace(c, num_kv_heads=4), repeated, tokens), base, 1e-12, "GQA against repeated heads")

    # RoPE is relative: a shift of all positions leaves q.k unchanged.
    q, k = torch.randn(2, 1, 8, 1, 12, dtype=F64, generator=torch.Generator().manual_seed(0))
    dot = lambda shift: torch.einsum("bihd,bjhd->bij", *(minicpm.rope(x, torch.arange(8)[None] + shift, 1e4) for x in (q, k)))
    close(dot(100), dot(0), 1e-10, "RoPE shifted by 100")

    capped = minicpm.logits(replace(c, logit_soft_cap=0.5), p, tokens)
    close(capped, 0.5 * torch.tanh(base / 0.5), 1e-12, "soft cap")


def check_hugging_face_llama():
    """The standard parameterization is Hugging Face's LlamaForCausalLM, weights transposed."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        raise Skip("transformers is not installed") from None
    c = replace(STANDARD, num_kv_heads=2, tie_embeddings=False)
    p, tokens = params(c), random_tokens(c, B, T)
    hf = LlamaForCausalLM(LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.d_model, intermediate_size=c.d_ff, num_hidden_layers=c.num_layers,
        num_attention_heads=c.num_heads, num_key_value_heads=c.num_kv_heads, rms_norm_eps=c.norm_eps,
        tie_word_embeddings=False, attn_implementation="eager")).double()
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "w_gate": "mlp.gate_proj", "w_up": "mlp.up_proj",
             "w_down": "mlp.down_proj"} | {f"w{x}": f"self_attn.{x}_proj" for x in "qkvo"}
    state = {"model.embed_tokens.weight": p["embed"], "model.norm.weight": p["final_norm"], "lm_head.weight": p["lm_head"]}
    for n, t in p.items():
        if n.startswith("layer."):
            _, i, short = n.split(".")
            state[f"model.layers.{i}.{names[short]}.weight"] = t.T if t.ndim == 2 else t
    hf.load_state_dict(state)
    # Hugging Face computes norms, rotary angles and softmax in float32 whatever the model's dtype.
    close(minicpm.logits(c, p, tokens), hf(tokens).logits.detach(), 2e-6, "Hugging Face Llama")


def check_peer():
    """The decoder peer_train.py times computes the same logits and gradients, so its speed is that of the same work."""
    for c in (replace(MUP, num_kv_heads=2), replace(STANDARD, tie_embeddings=False)):
        p, tokens = params(c), random_tokens(c, B, T)
        for t in p.values():
            t.requires_grad_()
        model = peer_train.Decoder(c).double()
        peer_train.load(model, p)
        want, got = minicpm.logits(c, p, tokens), model(tokens)
        close(got.detach(), want.detach(), 1e-6, "peer logits")  # its rotary angles are float32
        want.square().sum().backward()
        got.square().sum().backward()
        for name, t in model.named_parameters():
            short = name.removesuffix(".weight")
            grad = t.grad.T if minicpm.is_hidden_matrix(short, t.shape) else t.grad
            close(grad, p[short].grad, 1e-5, f"peer gradient of {short}")


def check_float32_noise():
    """How far float32 alone moves each case: the room a test's tolerance has to leave."""
    for name, case in CASES.items():
        weights, given = minicpm.init(case.config, case.seed, gain_std=0.1), make_golden.inputs(case)
        a, b = (make_golden.forward_backward(case, weights, **given, dtype=t) for t in (F64, torch.float32))
        worst = max(np.abs(a[k] - b[k]).max() / np.abs(a[k]).max() for k in a if k.startswith(("logits", "grad.")))
        line = f"    {name}: logits and gradients {worst:.1e} of the tensor's largest"
        if case.adamw_lr:
            a, b = (make_golden.adamw_run(case, weights, t) for t in (F64, torch.float32))
            weights_after = [k for k in a if k.startswith(f"adamw{ADAMW_STEPS}.")]
            moved = max(np.abs(a[k] - b[k]).max() / np.abs(a[k]).max() for k in weights_after)
            line += f"; weights after ten AdamW steps {moved:.1e}"
            assert moved < 5e-5, f"{name}: AdamW in float32 moves {moved:.2g}: no room below 1e-4"
            assert a["adamw.loss"][-3:].mean() < a["adamw.loss"][:3].mean(), f"{name}: the loss does not fall"
        print(line)
        assert worst < 5e-6, name


def check_optimizers():
    """Muon against torch.optim.Muon (bfloat16 inside), singular values, LAMB's and Lion's step lengths, the clip."""
    weights, grads = optimizers.problem(11)
    for convention, theirs in (("jordan", "original"), ("moonshot", "match_rms_adamw")):
        # torch stores matrices [out, in]: transpose in and out. Jordan's running mean differs by a factor that cancels.
        flip = lambda arrays, axes: {n: np.ascontiguousarray(a.transpose(axes)) for n, a in arrays.items() if a.ndim == len(axes)}
        make = lambda p: torch.optim.Muon(p, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=theirs)
        w = flip(weights, (1, 0))
        want = optimizers.run_torch(make, w, flip({n: grads[n] for n in w}, (0, 2, 1)))
        got = optimizers.run_numpy(optimizers.muon(0.95, 0.1, convention), {n: weights[n] for n in w}, grads, 0.02)
        for key in got:
            # Compare movements: weights alone would hide an error in a small update.
            start = weights[key.split(".")[0]]
            close(got[key] - start, want[key].T - start, 0.03, f"Muon {convention} {key}")

    s = np.linalg.svd(optimizers.newton_schulz(np.random.Generator(np.random.PCG64(0)).standard_normal((12, 20))), compute_uv=False)
    assert s.min() > 0.6 and s.max() < 1.3, f"Newton-Schulz singular values {s}"

    rng = np.random.Generator(np.random.PCG64(1))
    for norm in (0.5, 3.0, 40.0):
        w, g = (x / np.linalg.norm(x) * norm for x in rng.standard_normal((2, 6, 7)))
        moved = optimizers.lamb((0.9, 0.999), 1e-6, 0.1, 10.0, True)(w, g, {}, 1, 0.01) - w
        close(np.linalg.norm(moved), 0.01 * min(norm, 10), 1e-12, "LAMB moves by lr * min(norm, clamp)")
    moved = optimizers.lion((0.9, 0.99), 0.0)(w, g, {}, 1, 0.01) - w
    close(np.abs(moved), np.full(w.shape, 0.01), 1e-12, "Lion moves every weight by lr")

    clipped = optimizers.clip_cases(grads, 12.0)
    for t in range(optimizers.STEPS):
        raw = math.sqrt(sum(float((g[t].astype(np.float64) ** 2).sum()) for g in grads.values()))
        now = math.sqrt(sum(float((clipped[f"clip.{n}"][t] ** 2).sum()) for n in grads))
        close(now, min(raw, 12.0), 2e-6, "norm after the clip")


def check_schedules():
    """Ends, joints and floors of every curve, and areas of the decay shapes where they have a closed form."""
    for name, p in schedules.curves().items():
        v = [schedules.value(s, **p) for s in range(schedules.LAST + 1)]
        low = min(p.get("min", p["peak"]), p.get("trough_ratio", 1) * p["peak"])
        assert math.isclose(v[p["warmup"]], p["peak"]) and (p["warmup"] == 0 or v[0] == 0), f"{name}: warmup"
        assert max(v) <= p["peak"] * (1 + 1e-12) and min(v[p["warmup"]:]) >= low - 1e-12, f"{name}: bounds"
        if p["kind"] in ("linear", "cosine") or p.get("shape", "exponential") != "exponential":
            assert abs(v[p["steps"]] - p["min"]) < 1e-15, f"{name}: does not end at its floor"
        if "decay_steps" in p:
            begin = p["steps"] - p["decay_steps"]
            assert math.isclose(v[begin], p["peak"]) and v[begin + 1] < v[begin], f"{name}: decay begins at N-D"
    area = lambda shape: sum(schedules.decay(1, 0, shape, i, 100_000) for i in range(100_000)) / 100_000
    for shape, want in (("linear", 1 / 2), ("cosine", 1 / 2), ("1-sqrt", 1 / 3), ("square", 2 / 3)):
        close(area(shape), want, 1e-4, f"area under {shape}")
    half = schedules.curves()["wsd_exponential"]
    close(schedules.value(192 + 10, **half), half["peak"] / 2, 1e-12, "half-life")
    wave = schedules.curves()["wcsd_3"]
    low = schedules.value(13 + 85, **wave)  # the middle of the second of three waves
    close(low, wave["trough_ratio"] * wave["peak"], 1e-12, "trough of the second wave")


def main() -> None:
    passed = skipped = 0
    for name, check in [(n, f) for n, f in globals().items() if n.startswith("check_")]:
        try:
            check()
            passed += 1
            print(f"ok    {name.removeprefix('check_')}")
        except Skip as why:
            skipped += 1
            print(f"skip  {name.removeprefix('check_')}: {why}")
    print(f"{passed} passed, 0 failed, {skipped} skipped")


if __name__ == "__main__":
    main()
