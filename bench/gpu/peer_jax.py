"""The decoder of bench/peers/peer_jax.py as one would write it in JAX for a GPU: prints a JSON line after each step.

One jitted step with donated buffers; layers stacked and scanned, checkpointed where asked; cuDNN's flash attention where there is
a GPU; products, forward and backward, in bfloat16 over float32 weights, with a float32 residual stream; the loss in checkpointed chunks;
clipped gradients, AdamW. (bench/peers/peer_jax.py has products give float32, as ours do; JAX then runs the backward ones in float32.)
"""

import argparse
import functools
import json
import math
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp

import tokens as data


def norm(x, gain):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * gain


def rotate(x, cos, sin):  # [B, T, H, E], half-split
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def dot(x, w):
    return jnp.dot(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16))


def init(s, key):
    d, f, q, kv, ratio = s.d_model, s.d_ff, s.num_heads * s.head_dim, s.num_kv_heads * s.head_dim, s.d_model / 256
    keys = iter(jax.random.split(key, 8))
    stack = lambda *shape: 0.1 / math.sqrt(ratio) * jax.random.normal(next(keys), (s.num_layers, *shape), jnp.float32)
    gains = jnp.ones((s.num_layers, d))
    return {
        "embed": 0.1 * jax.random.normal(next(keys), (s.vocab_size, d), jnp.float32), "final_norm": jnp.ones(d),
        "layers": {
            "attn_norm": gains, "wq": stack(d, q), "wk": stack(d, kv), "wv": stack(d, kv), "wo": stack(q, d),
            "ffn_norm": gains, "w_gate": stack(d, f), "w_up": stack(d, f), "w_down": stack(f, d),
        },
    }


def loss_fn(params, tokens, s):
    B, T, E = tokens.shape[0], tokens.shape[1] - 1, s.head_dim
    scale = 1.4 / math.sqrt(s.num_layers)
    angle = jnp.arange(T)[:, None] * 10000.0 ** (-jnp.arange(E // 2) / (E // 2))
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]

    def layer(x, p):
        n = norm(x, p["attn_norm"])
        q, k, v = (dot(n, p[w]).reshape(B, T, -1, E) for w in ("wq", "wk", "wv"))
        q, k = (rotate(y, cos, sin).astype(jnp.bfloat16) for y in (q, k))
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="cudnn" if s.device == "cuda" else None)
        x = x + scale * dot(y.reshape(B, T, -1), p["wo"])
        n = norm(x, p["ffn_norm"])
        return x + scale * dot(jax.nn.silu(dot(n, p["w_gate"])) * dot(n, p["w_up"]), p["w_down"]), None

    x = params["embed"][tokens[:, :-1]] * 12.0
    x, _ = jax.lax.scan(jax.checkpoint(layer) if s.remat == "layer" else layer, x, params["layers"])
    x = norm(x, params["final_norm"]) / (s.d_model / 256)

    @jax.checkpoint
    def chunk(total, part):
        h, target = part
        logits = dot(h, params["embed"].T).astype(jnp.float32)
        return total + jnp.sum(jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, target[:, None], -1)[:, 0]), None

    size = min(s.chunk, B * T)
    parts = (x.reshape(-1, size, s.d_model), tokens[:, 1:].reshape(-1, size))
    return jax.lax.scan(chunk, jnp.float32(0), parts)[0] / (B * T)


def step(state, tokens, s):
    params, m, v, t = state
    loss, grads = jax.value_and_grad(loss_fn)(params, tokens, s)
    size = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
    grads = jax.tree.map(lambda g: g * jnp.minimum(1, 1 / (size + 1e-6)), grads)
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g * g, v, grads)

    def update(path, p, m, v):
        hidden = p.ndim == 3
        lr, decay = (s.lr * 256 / s.d_model, 0.1) if hidden else (s.lr, 0.0)
        return p - lr * ((m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.95**t)) + 1e-8) + decay * p)

    return (jax.tree_util.tree_map_with_path(update, params, m, v), m, v, t), loss


def abstract(s, batch):
    """The step's function and its arguments' shapes, to be compiled without running."""
    params = jax.eval_shape(functools.partial(init, s), jax.random.key(0))
    state = (params, params, params, jax.ShapeDtypeStruct((), jnp.float32))
    return jax.jit(functools.partial(step, s=s), donate_argnums=0), (state, jax.ShapeDtypeStruct((batch, s.seq_len + 1), jnp.int32))


def options(shape, remat="none", chunk=2048, device="cuda", lr=1e-3):
    return SimpleNamespace(**shape, remat=remat, chunk=chunk, device=device, lr=lr)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--shape", type=json.loads, required=True, help="the model, a JSON object")
    p.add_argument("--batch", type=int, required=True, help="sequences")
    p.add_argument("--tokens", required=True, metavar="PREFIX", help="shard to train on: PREFIX.bin, PREFIX.json")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--chunk", type=int, default=2048, help="tokens whose logits exist at once")
    p.add_argument("--remat", choices=("none", "layer"), default="none")
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    a = p.parse_args()
    s = options(a.shape, a.remat, a.chunk, a.device)
    device = jax.devices()[0]
    print(json.dumps({"peer": f"jax {jax.__version__}", "device": f"{device.platform} {device.device_kind}"}), flush=True)
    params = jax.jit(functools.partial(init, s))(jax.random.key(0))
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros(), zeros(), jnp.float32(0))
    train = jax.jit(functools.partial(step, s=s), donate_argnums=0)
    for tokens in data.batches(a.tokens, a.batch, s.seq_len, a.steps):
        start = time.perf_counter()
        state, loss = train(state, tokens)
        loss = float(loss)  # waits for the device
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss}), flush=True)
    stats = device.memory_stats() or {}
    print(json.dumps({"peer": f"jax {jax.__version__}", "peak_memory_bytes": stats.get("peak_bytes_in_use")}), flush=True)


if __name__ == "__main__":
    main()
