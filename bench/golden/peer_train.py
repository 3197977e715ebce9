"""Training speed of the same decoder in idiomatic PyTorch, to be run in turn with ours: prints one JSON object.

    python peer_train.py --mode compile --precision bf16 --d-model 256 --num-layers 6 --vocab-size 8192 -B 16 -T 256

A fair peer: fused attention (SDPA), fused AdamW, F.rms_norm, bfloat16 autocast over float32 weights, torch.compile when
asked, gradients clipped, batches made before the clock starts. Compilation and the first --warmup steps are not timed.
selfcheck.py holds its logits and gradients to minicpm.py's.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minicpm import Config, is_hidden_matrix


class Block(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        q, kv = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
        linear = lambda n_in, n_out: nn.Linear(n_in, n_out, bias=False)
        self.attn_norm, self.ffn_norm = (nn.Parameter(torch.ones(c.d_model)) for _ in range(2))
        self.wq, self.wk, self.wv, self.wo = linear(c.d_model, q), linear(c.d_model, kv), linear(c.d_model, kv), linear(q, c.d_model)
        self.w_gate, self.w_up, self.w_down = linear(c.d_model, c.d_ff), linear(c.d_model, c.d_ff), linear(c.d_ff, c.d_model)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        c, (B, T, _) = self.c, x.shape
        n = F.rms_norm(x, (c.d_model,), self.attn_norm, c.norm_eps)
        q, k, v = (w(n).view(B, T, -1, c.head_dim).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=c.num_kv_heads != c.num_heads)
        x = x + c.residual_scale * self.wo(y.transpose(1, 2).reshape(B, T, -1))
        n = F.rms_norm(x, (c.d_model,), self.ffn_norm, c.norm_eps)
        return x + c.residual_scale * self.w_down(F.silu(self.w_gate(n)) * self.w_up(n))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class Decoder(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.embed = nn.Embedding(c.vocab_size, c.d_model)
        self.layer = nn.ModuleList(Block(c) for _ in range(c.num_layers))
        self.final_norm = nn.Parameter(torch.ones(c.d_model))
        self.lm_head = nn.Linear(c.d_model, c.vocab_size, bias=False)
        if c.tie_embeddings:
            self.lm_head.weight = self.embed.weight
        half = c.head_dim // 2
        angle = torch.arange(c.max_seq_len)[:, None] * c.rope_theta ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                hidden = is_hidden_matrix(name.removesuffix(".weight"), p.shape)
                nn.init.normal_(p, std=c.init_std / math.sqrt(c.width_ratio if hidden else 1))

    def forward(self, tokens: Tensor) -> Tensor:
        T = tokens.shape[1]
        x = self.embed(tokens) * self.c.embed_scale
        for block in self.layer:
            x = block(x, self.cos[:T], self.sin[:T])
        return self.lm_head(F.rms_norm(x, (self.c.d_model,), self.final_norm, self.c.norm_eps) / self.c.width_ratio)


def load(model: Decoder, weights: dict[str, Tensor]) -> None:
    """Sets the module's weights from minicpm.py's names and layouts ([in, out])."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            short = name.removesuffix(".weight")
            p.copy_(weights[short].T if is_hidden_matrix(short, p.shape) else weights[short])


def optimizer(model: Decoder, lr: float) -> torch.optim.AdamW:
    hidden, output, rest = [], [], []
    for name, p in model.named_parameters():
        group = hidden if is_hidden_matrix(name.removesuffix(".weight"), p.shape) else output if name == "lm_head.weight" else rest
        group.append(p)
    groups = [
        {"params": hidden, "lr": lr / model.c.width_ratio, "weight_decay": 0.1},
        {"params": output, "lr": lr, "weight_decay": 0.1},
        {"params": rest, "lr": lr, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.95), eps=1e-8, fused=True)


def run(args: argparse.Namespace) -> dict:
    torch.manual_seed(0)
    if args.threads:
        torch.set_num_threads(args.threads)
    c = Config(
        vocab_size=args.vocab_size, d_model=args.d_model, d_ff=args.d_ff or args.d_model * 5 // 2, num_layers=args.num_layers,
        num_heads=args.num_heads or args.d_model // args.head_dim, head_dim=args.head_dim,
        num_kv_heads=args.num_kv_heads or args.num_heads or args.d_model // args.head_dim, max_seq_len=args.T,
        tie_embeddings=not args.untied)
    device = torch.device(args.device)
    model = Decoder(c).to(device)
    opt = optimizer(model, lr=0.01)

    def loss_of(tokens: Tensor) -> Tensor:
        return F.cross_entropy(model(tokens[:, :-1]).view(-1, c.vocab_size).float(), tokens[:, 1:].reshape(-1))

    if args.mode == "compile":  # with the loss: compiled alone, the model would write its logits out for it
        loss_of = torch.compile(loss_of)
    total = args.warmup + args.steps
    batches = torch.randint(0, c.vocab_size, (total, args.B, args.T + 1), device=device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16")
    seconds, losses = [], []
    for step in range(total):
        start = time.perf_counter()
        with autocast:
            loss = loss_of(batches[step])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        losses.append(loss.item())  # also waits for a GPU
        if step >= args.warmup:
            seconds.append(time.perf_counter() - start)
    tokens = args.B * args.T
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "peer": f"torch {torch.__version__}", "mode": args.mode, "precision": args.precision, "device": args.device,
        "threads": torch.get_num_threads(), "parameters": parameters,
        "non_embedding_params": parameters - c.vocab_size * c.d_model * (2 if args.untied else 1),
        "tokens_per_step": tokens, "steps": args.steps, "tokens_per_second": round(tokens / statistics.median(seconds), 1),
        "tokens_per_second_best": round(tokens / min(seconds), 1), "seconds_per_step_median": round(statistics.median(seconds), 4),
        "first_loss": round(losses[0], 4), "last_loss": round(losses[-1], 4),
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--mode", choices=("eager", "compile"), default="eager")
    p.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    p.add_argument("--device", default="cpu")
    p.add_argument("--threads", type=int, default=0, help="0: torch's choice")
    p.add_argument("--vocab-size", type=int, default=8192)
    p.add_argument("--d-model", type=int, default=256)
    p.add_argument("--d-ff", type=int, default=0, help="0: 2.5 * d-model")
    p.add_argument("--num-layers", type=int, default=6)
    p.add_argument("--num-heads", type=int, default=0, help="0: d-model / head-dim")
    p.add_argument("--num-kv-heads", type=int, default=0, help="0: num-heads")
    p.add_argument("--head-dim", type=int, default=64)
    p.add_argument("--untied", action="store_true")
    p.add_argument("-B", type=int, default=16)
    p.add_argument("-T", type=int, default=256)
    p.add_argument("--steps", type=int, default=10, help="timed steps")
    p.add_argument("--warmup", type=int, default=3, help="steps before the clock starts")
    print(json.dumps(run(p.parse_args())))


if __name__ == "__main__":
    main()
