"""The decoder of bench/golden/peer_train.py under torch.compile on a GPU: prints a JSON line after each step.

As there: SDPA, fused AdamW, bfloat16 autocast over float32 weights; beside it the loss in checkpointed chunks, layers
checkpointed where asked, and data of a shard. Model and loss are compiled.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import tokens as data
from minicpm import Config
from peer_train import Decoder, optimizer


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
    torch.manual_seed(0)
    print(json.dumps({"peer": f"torch {torch.__version__}", "device": torch.cuda.get_device_name() if a.device == "cuda" else "cpu"}), flush=True)
    seq_len = a.shape.pop("seq_len")
    c = Config(max_seq_len=seq_len, **a.shape)
    with torch.device(a.device):
        model = Decoder(c)
    opt = optimizer(model, lr=1e-3)

    def hidden(tokens):
        x = model.embed(tokens) * c.embed_scale
        for block in model.layer:
            args = (x, model.cos[:seq_len], model.sin[:seq_len])
            x = checkpoint(block, *args, use_reentrant=False) if a.remat == "layer" else block(*args)
        return F.rms_norm(x, (c.d_model,), model.final_norm, c.norm_eps) / c.width_ratio

    def nats(h, target):
        return F.cross_entropy(model.lm_head(h).float(), target, reduction="sum")

    @torch.compile
    def loss_of(tokens):
        h, targets = hidden(tokens[:, :-1]).reshape(-1, c.d_model), tokens[:, 1:].reshape(-1)
        parts = zip(h.split(a.chunk), targets.split(a.chunk))
        return sum(checkpoint(nats, *part, use_reentrant=False) for part in parts) / len(targets)

    for tokens in data.batches(a.tokens, a.batch, seq_len, a.steps):
        start = time.perf_counter()
        with torch.autocast(a.device, torch.bfloat16):
            loss = loss_of(torch.from_numpy(tokens).to(a.device).long())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        value = loss.item()  # waits for the device
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": value}), flush=True)
    peak = torch.cuda.max_memory_allocated() if a.device == "cuda" else None
    print(json.dumps({"peer": f"torch {torch.__version__}", "peak_memory_bytes": peak}), flush=True)


if __name__ == "__main__":
    main()
