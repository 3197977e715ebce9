"""Training speed of the same decoder in idiomatic JAX, to be run in turn with ours: prints one JSON object.

    python peer_jax.py --precision bf16 --d-model 256 --num-layers 6 --vocab-size 8192 -B 16 -T 256

A fair peer: one jitted step with donated buffers, products in bfloat16 with float32 results over float32 weights,
jax.nn.dot_product_attention, float32 norms, softmax and loss, clipped gradients, AdamW; batches made before the clock starts.
Compilation and the first --warmup steps are not timed. Arguments and output are those of ../golden/peer_train.py.
"""

import argparse
import functools
import json
import math
import os
import statistics
import time

import jax
import jax.numpy as jnp


def init(a, key):
    d, f, ratio = a.d_model, a.d_ff, a.d_model / 256
    normal = lambda k, shape, std: std * jax.random.normal(k, shape, jnp.float32)
    keys = iter(jax.random.split(key, 8 * a.num_layers + 2))
    hidden = lambda *shape: normal(next(keys), shape, 0.1 / math.sqrt(ratio))
    params = {"embed": normal(next(keys), (a.vocab_size, d), 0.1), "final_norm": jnp.ones(d), "layers": [
        {"attn_norm": jnp.ones(d), "wq": hidden(d, d), "wk": hidden(d, d), "wv": hidden(d, d), "wo": hidden(d, d),
         "ffn_norm": jnp.ones(d), "w_gate": hidden(d, f), "w_up": hidden(d, f), "w_down": hidden(f, d)}
        for _ in range(a.num_layers)]}
    if a.untied:
        params["lm_head"] = normal(next(keys), (a.vocab_size, d), 0.1)
    return params


def norm(x, gain):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5) * gain


def rotate(x, cos, sin):  # [B, T, H, E], half-split
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def loss_fn(params, tokens, a):
    B, T, E = a.B, a.T, a.head_dim
    dtype = jnp.bfloat16 if a.precision == "bf16" else jnp.float32
    dot = lambda x, w: jnp.dot(x.astype(dtype), w.astype(dtype), preferred_element_type=jnp.float32)
    scale = 1.4 / math.sqrt(a.num_layers)
    angle = jnp.arange(T)[:, None] * 10000.0 ** (-jnp.arange(E // 2) / (E // 2))
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    x = params["embed"][tokens[:, :-1]] * 12.0
    for p in params["layers"]:
        n = norm(x, p["attn_norm"])
        q, k, v = (dot(n, p[w]).reshape(B, T, -1, E) for w in ("wq", "wk", "wv"))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = jax.nn.dot_product_attention(q.astype(dtype), k.astype(dtype), v.astype(dtype), is_causal=True)
        x = x + scale * dot(y.reshape(B, T, -1), p["wo"])
        n = norm(x, p["ffn_norm"])
        x = x + scale * dot(jax.nn.silu(dot(n, p["w_gate"])) * dot(n, p["w_up"]), p["w_down"])
    logits = dot(norm(x, params["final_norm"]) / (a.d_model / 256), params.get("lm_head", params["embed"]).T)
    target = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
    return jnp.mean(jax.nn.logsumexp(logits, -1) - target)


def step(state, tokens, a):
    params, m, v, t = state
    loss, grads = jax.value_and_grad(loss_fn)(params, tokens, a)
    size = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(grads)))
    grads = jax.tree.map(lambda g: g * jnp.minimum(1, 1 / (size + 1e-6)), grads)
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g * g, v, grads)

    def update(path, p, m, v):
        name = path[-1].key
        lr = 0.01 / (a.d_model / 256) if p.ndim == 2 and name not in ("embed", "lm_head") else 0.01
        decay = 0.1 if p.ndim == 2 and name != "embed" else 0.0
        direction = (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.95**t)) + 1e-8)
        return p - lr * (direction + decay * p)

    return (jax.tree_util.tree_map_with_path(update, params, m, v), m, v, t), loss


def run(a):
    a.d_ff, a.head_dim = a.d_ff or a.d_model * 5 // 2, min(a.head_dim, a.d_model)
    params = init(a, jax.random.key(0))
    zeros = lambda: jax.tree.map(jnp.zeros_like, params)
    state = (params, zeros(), zeros(), jnp.float32(0))
    train = jax.jit(functools.partial(step, a=a), donate_argnums=0)
    total = a.warmup + a.steps
    batches = jax.random.randint(jax.random.key(1), (total, a.B, a.T + 1), 0, a.vocab_size)
    parameters = sum(p.size for p in jax.tree.leaves(params))
    seconds, losses = [], []
    for i in range(total):
        start = time.perf_counter()
        state, loss = train(state, batches[i])
        losses.append(float(loss))  # also waits for the device
        if i >= a.warmup:
            seconds.append(time.perf_counter() - start)
    tokens = a.B * a.T
    return {
        "peer": f"jax {jax.__version__}", "mode": "jit", "precision": a.precision, "device": jax.devices()[0].platform,
        "threads": os.cpu_count(), "parameters": parameters, "tokens_per_step": tokens, "steps": a.steps,
        "tokens_per_second": round(tokens / statistics.median(seconds), 1),
        "tokens_per_second_best": round(tokens / min(seconds), 1), "seconds_per_step_median": round(statistics.median(seconds), 4),
        "first_loss": round(losses[0], 4), "last_loss": round(losses[-1], 4),
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    p.add_argument("--vocab-size", type=int, default=8192)
    p.add_argument("--d-model", type=int, default=256)
    p.add_argument("--d-ff", type=int, default=0, help="0: 2.5 * d-model")
    p.add_argument("--num-layers", type=int, default=6)
    p.add_argument("--head-dim", type=int, default=64)
    p.add_argument("--untied", action="store_true")
    p.add_argument("-B", type=int, default=16)
    p.add_argument("-T", type=int, default=256)
    p.add_argument("--steps", type=int, default=10, help="timed steps")
    p.add_argument("--warmup", type=int, default=3, help="steps before the clock starts")
    print(json.dumps(run(p.parse_args())))


if __name__ == "__main__":
    main()
