"""The Markdown table of a GPU benchmark's results."""

PEAKS = {"H200": 989.5e12, "H100 PCIe": 756e12, "H100 NVL": 835.5e12, "H100": 989.5e12, "A100": 312e12}  # dense bf16, as internal/gpu has them
COLUMNS = ["part", "program", "sequences", "remat", "tokens/s", "step, s", "6·N, TFLOP/s", "attention, TFLOP/s", "MFU", "compile, s", "GB, compiled", "GB, device", "attention", "products", "loss"]


def number(x, form="{:,.0f}"):
    return "" if x is None else form.format(x)


def products(part):
    return ", ".join(f"{n} {d}" for d, n in part.get("dots", {}).items())


def row(name, part, shape, peak):
    program = part.get("peer", "pretrain")
    if said := part.get("error", part.get("note")):
        return [name, program if "peer" in part else "", *[""] * 12, said.replace("|", "/").replace("\n", " ")[:160]]
    rate, flops = part["tokens_per_second"], shape.flops()
    mfu = rate * sum(flops.values()) / peak if peak else None
    attention = ", ".join(f"{n} {t.removeprefix('__cudnn$')}" for t, n in part.get("cudnn_attention", {}).items())
    return [
        name, program, part["sequences"], part["remat"], number(rate), number(part["step_seconds_median"], "{:.4g}"), number(rate * flops["dense"] / 1e12, "{:.1f}"),
        number(rate * flops["attention"] / 1e12, "{:.1f}"), number(mfu, "{:.1%}"), number(part["compile_seconds"], "{:.0f}"),
        number(part.get("compiled_memory_bytes", 0) / 1e9 or None, "{:.1f}"), number((part.get("peak_memory_bytes") or part["device_memory_bytes"] or 0) / 1e9 or None, "{:.1f}"),
        attention, products(part), f"{part['first_loss']:.2f} to {part['last_loss']:.2f}" + (" (cut short)" if "cut_short" in part else ""),
    ]


def table(results, shapes):
    machine = results["machine"]
    peak = next((flops for name, flops in PEAKS.items() if name in machine["gpu"]), None)
    rows = [row(name, part, shapes[name.split("/")[1]], peak) for name, part in results["parts"].items()]
    lines = ["| " + " | ".join(str(x) for x in r) + " |" for r in [COLUMNS, ["---"] * len(COLUMNS), *rows]]
    about = f"{machine['gpu'] or 'no GPU'}, driver {machine['driver'] or 'none'}, {machine['date']}, commit {machine['commit']}."
    if peak:
        about += f" MFU is of {peak / 1e12:g} TFLOP/s: 6·N with the output projection, and attention over the causal half."
    speed = {name: part["tokens_per_second"] for name, part in results["parts"].items() if "tokens_per_second" in part}
    ratios = []
    for size in shapes:
        ours = speed.get(f"ours/{size}", speed.get(f"train/{size}"))
        against = [f"{ours / speed[f'{peer}/{size}']:.2f} of {peer}'s" for peer in ("jax", "torch") if ours and f"{peer}/{size}" in speed]
        if against:
            ratios.append(f"{size}: {' and '.join(against)}")
    return "\n".join([about, "", *lines, *(["", "Tokens/s of ours: " + "; ".join(ratios) + "."] if ratios else [])])
