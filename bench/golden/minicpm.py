"""A MiniCPM decoder in plain PyTorch, written from the formulas alone, as an oracle for the Go implementation.

It is slow and obvious on purpose: no modules, no fused kernels, weights in a dict, any floating dtype (the golden files
use float64). Formulas: MiniCPM (arXiv 2404.06395) Table 7 and Appendix A.1 for the scalings; Zhang & Sennrich
(1910.07467) for RMSNorm; Su et al. (2104.09864) for RoPE, in the half-split layout; Ainslie et al. (2305.13245) for
grouped-query attention; Shazeer (2002.05202) for SwiGLU.

Shapes: B batch, T positions, V vocabulary, d model width, H query heads, K key/value heads, D head width, F feed-forward.
Matrices are [in, out] and applied as x @ W; only `embed` and `lm_head` are [V, d].
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

Params = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    """Shape and options of a decoder. Field names are the keys of the Go package's model section."""

    vocab_size: int
    d_model: int
    d_ff: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_seq_len: int = 4096
    tie_embeddings: bool = True
    parameterization: str = "mup"  # or "standard": every scaling is one
    scale_emb: float = 12.0
    scale_depth: float = 1.4
    dim_model_base: int = 256
    init_std: float = 0.1
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    qk_norm: bool = False
    logit_soft_cap: float = 0.0  # 0: off
    sliding_window: int = 0  # 0: off; else a position sees itself and the window-1 positions before it
    document_mask: bool = False

    @property
    def mup(self) -> bool:
        return self.parameterization == "mup"

    @property
    def width_ratio(self) -> float:
        return self.d_model / self.dim_model_base if self.mup else 1.0

    @property
    def embed_scale(self) -> float:
        return self.scale_emb if self.mup else 1.0

    @property
    def residual_scale(self) -> float:
        return self.scale_depth / math.sqrt(self.num_layers) if self.mup else 1.0

    def keys(self) -> dict:
        """The configuration as the model section of a run; mup's keys only where they mean something."""
        out = asdict(self)
        if not self.mup:
            for key in ("scale_emb", "scale_depth", "dim_model_base"):
                del out[key]
        return out


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every parameter's name and shape, in the order the golden files list them."""
    d, q, kv, f = c.d_model, c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim, c.d_ff
    out: dict[str, tuple[int, ...]] = {"embed": (c.vocab_size, d)}
    for i in range(c.num_layers):
        layer = {"attn_norm": (d,), "wq": (d, q), "wk": (d, kv), "wv": (d, kv), "wo": (q, d)}
        if c.qk_norm:
            layer |= {"q_norm": (c.head_dim,), "k_norm": (c.head_dim,)}
        layer |= {"ffn_norm": (d,), "w_gate": (d, f), "w_up": (d, f), "w_down": (f, d)}
        out |= {f"layer.{i}.{name}": shape for name, shape in layer.items()}
    out["final_norm"] = (d,)
    if not c.tie_embeddings:
        out["lm_head"] = (c.vocab_size, d)
    return out


def is_hidden_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """The matrices mup scales by width: all 2-D weights inside the blocks, not embed and not lm_head."""
    return len(shape) == 2 and name not in ("embed", "lm_head")


def init(c: Config, seed: int, gain_std: float = 0.0) -> dict[str, np.ndarray]:
    """Float32 weights: normal, init_std for embed and lm_head, init_std/sqrt(d/d_base) for hidden matrices, gains 1.

    gain_std perturbs the gains, so that a golden file notices a gain that is left out.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    out = {}
    for name, shape in shapes(c).items():
        noise = rng.standard_normal(shape)
        if len(shape) == 1:
            value = 1 + gain_std * noise
        elif is_hidden_matrix(name, shape):
            value = c.init_std / math.sqrt(c.width_ratio) * noise
        else:
            value = c.init_std * noise
        out[name] = value.astype(np.float32)
    return out


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps) * gain


def document_positions(segments: Tensor) -> Tensor:
    """Each position's distance to the start of its own segment. [B,T] -> [B,T]"""
    B, T = segments.shape
    out = torch.zeros_like(segments)
    for b in range(B):
        for t in range(1, T):
            out[b, t] = out[b, t - 1] + 1 if segments[b, t] == segments[b, t - 1] else 0
    return out


def rope(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotates pairs (i, i + D/2) of each head by position * theta^(-2i/D). x [B,T,heads,D], positions [B,T]"""
    half = x.shape[-1] // 2
    freq = theta ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = positions.to(x.dtype)[:, :, None, None] * freq  # [B,T,1,D/2]
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def visible(c: Config, segments: Tensor) -> Tensor:
    """Which key positions j a query position i sees. [B,T,T] of bool, indexed [b,i,j]"""
    T = segments.shape[1]
    i, j = torch.arange(T)[:, None], torch.arange(T)[None, :]
    seen = j <= i
    if c.sliding_window:
        seen = seen & (i - j < c.sliding_window)
    seen = seen[None].expand(segments.shape[0], T, T)
    if c.document_mask:
        seen = seen & (segments[:, :, None] == segments[:, None, :])
    return seen


def attention(c: Config, w: Params, x: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
    B, T, _ = x.shape
    q = (x @ w["wq"]).view(B, T, c.num_heads, c.head_dim)
    k = (x @ w["wk"]).view(B, T, c.num_kv_heads, c.head_dim)
    v = (x @ w["wv"]).view(B, T, c.num_kv_heads, c.head_dim)
    if c.qk_norm:
        q = rms_norm(q, w["q_norm"], c.norm_eps)
        k = rms_norm(k, w["k_norm"], c.norm_eps)
    q, k = rope(q, positions, c.rope_theta), rope(k, positions, c.rope_theta)
    group = c.num_heads // c.num_kv_heads  # query head h reads key/value head h // group
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(c.head_dim)
    scores = scores.masked_fill(~seen[:, None], -math.inf)
    out = torch.einsum("bhij,bjhd->bihd", scores.softmax(-1), v)
    return out.reshape(B, T, c.num_heads * c.head_dim) @ w["wo"]


def feed_forward(w: Params, x: Tensor) -> Tensor:
    gate = x @ w["w_gate"]
    return (gate * torch.sigmoid(gate) * (x @ w["w_up"])) @ w["w_down"]


def residual_stream(c: Config, p: Params, tokens: Tensor, segments: Tensor | None = None) -> list[Tensor]:
    """The residual stream as embedded and after each block, before the final norm: L+1 tensors [B,T,d]."""
    B, T = tokens.shape
    if segments is None:
        segments = torch.zeros_like(tokens)
    positions = document_positions(segments) if c.document_mask else torch.arange(T).expand(B, T)
    seen = visible(c, segments)
    h = p["embed"][tokens] * c.embed_scale
    stream = [h]
    for i in range(c.num_layers):
        prefix = f"layer.{i}."
        w = {name.removeprefix(prefix): value for name, value in p.items() if name.startswith(prefix)}
        h = h + c.residual_scale * attention(c, w, rms_norm(h, w["attn_norm"], c.norm_eps), positions, seen)
        h = h + c.residual_scale * feed_forward(w, rms_norm(h, w["ffn_norm"], c.norm_eps))
        stream.append(h)
    return stream


def logits(c: Config, p: Params, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
    """[B,T] -> [B,T,V]. The output matrix is `embed` (without scale_emb) when tied; soft-capped last."""
    h = rms_norm(residual_stream(c, p, tokens, segments)[-1], p["final_norm"], c.norm_eps)
    out = (h / c.width_ratio) @ (p["embed"] if c.tie_embeddings else p["lm_head"]).T
    if c.logit_soft_cap:
        out = c.logit_soft_cap * torch.tanh(out / c.logit_soft_cap)
    return out


def losses(lg: Tensor, targets: Tensor, mask: Tensor, z_coef: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats and z-loss z_coef * logsumexp^2 (PaLM 2204.02311 §5), each a mean over the mask."""
    lse = torch.logsumexp(lg, dim=-1)
    nll = lse - lg.gather(-1, targets[..., None]).squeeze(-1)
    weight = mask / mask.sum()
    return (weight * nll).sum(), z_coef * (weight * lse.square()).sum()
