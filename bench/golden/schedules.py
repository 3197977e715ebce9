"""Learning-rate curves, written from their formulas. CONTRACT below is copied to the head of schedules.csv.

Every curve is a function of s, the number of updates already made: update number s+1 uses value(s).
"""

from __future__ import annotations

import io
import json
import math

CONTRACT = """\
Values at step s = 0..260 of every curve named in the header; # NAME {parameters} gives each curve's parameters.
s counts the updates already made: the first update uses the value at s = 0.
All lengths are in steps, `peak` and `min` are absolute values. N = total steps, W = warmup.

Common to all: s < W: peak*s/W (MiniCPM eq. 1). From s = N on: the value at N, unless said otherwise.
constant         peak
linear           x = (s-W)/(N-W):  min + (peak-min)*(1-x)
cosine           x = (s-W)/(N-W):  min + (peak-min)*(1+cos(pi*x))/2
sgdr             cycles of length T_i = first*mult^i from W on, t = steps since the start of the cycle s is in:
                 min + (peak-min)*(1+cos(pi*t/T_i))/2; a step on a boundary starts the next cycle (value peak).
                 No N: cycles go on.
infinite_cosine  cosine from peak to min over `length` steps after W, then min for ever
wsd              s <= N-D: peak; then x = (s-(N-D))/D in (0,1], r = min/peak, value = peak*f(x):
  linear         f = r + (1-r)*(1-x)
  cosine         f = r + (1-r)*(1+cos(pi*x))/2
  1-sqrt         f = r + (1-r)*(1-sqrt(x))
  square         f = r + (1-r)*(1-x^2)
  exponential    value = max(min, peak*0.5^((s-(N-D))/half_life)), MiniCPM's decay with an explicit half-life
wcsd             W warmup; C steps of cosine waves: W <= s < W+C:
                 trough + (peak-trough)*(1+cos(2*pi*waves*(s-W)/C))/2, trough = trough_ratio*peak
                 (each wave starts at peak, goes down to the trough and rises back to peak);
                 then peak for N-W-C-D steps; then the decay of wsd over the last D steps.
"""

PEAK = 0.01
LAST = 260  # rows go past every N, to show what holds after the end


def half_cosine(high: float, low: float, x: float) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * x)) / 2


def decay(peak: float, floor: float, shape: str, done: int, length: int, half_life: float = 0) -> float:
    x, r = done / length, floor / peak
    if shape == "exponential":
        return max(floor, peak * 0.5 ** (done / half_life))
    fall = {
        "linear": 1 - x,
        "cosine": (1 + math.cos(math.pi * x)) / 2,
        "1-sqrt": 1 - math.sqrt(x),
        "square": 1 - x * x,
    }[shape]
    return peak * (r + (1 - r) * fall)


def value(s: int, kind: str, warmup: int, steps: int = 0, peak: float = PEAK, min: float = 0.0, first: int = 0, mult: int = 1,
          length: int = 0, decay_steps: int = 0, shape: str = "", half_life: float = 0, cosine_steps: int = 0, waves: int = 0,
          trough_ratio: float = 0) -> float:
    if s < warmup:
        return peak * s / warmup
    t = s - warmup
    if kind == "sgdr":
        while t >= first:
            t, first = t - first, first * mult
        return half_cosine(peak, min, t / first)
    if kind == "infinite_cosine":
        return half_cosine(peak, min, t / length) if t < length else min
    s = steps if s > steps else s
    t = s - warmup
    if kind == "constant":
        return peak
    if kind == "linear":
        return min + (peak - min) * (1 - t / (steps - warmup))
    if kind == "cosine":
        return half_cosine(peak, min, t / (steps - warmup))
    if kind == "wcsd" and t < cosine_steps:
        return half_cosine(peak, trough_ratio * peak, 2 * waves * t / cosine_steps)
    begin = steps - decay_steps
    return peak if s <= begin else decay(peak, min, shape, s - begin, decay_steps, half_life)


def curves() -> dict[str, dict]:
    run = {"warmup": 13, "steps": 240, "peak": PEAK}
    tail = {"min": 0.001}
    out = {
        "constant": {"kind": "constant", **run},
        "constant_no_warmup": {"kind": "constant", **run, "warmup": 0},
        "linear": {"kind": "linear", **run, "min": 0.0},
        "linear_floor": {"kind": "linear", **run, **tail},
        "cosine": {"kind": "cosine", **run, **tail},
        "cosine_to_zero": {"kind": "cosine", **run, "warmup": 0, "min": 0.0},
        "sgdr": {"kind": "sgdr", "warmup": 13, "peak": PEAK, **tail, "first": 30, "mult": 2},
        "sgdr_equal": {"kind": "sgdr", "warmup": 0, "peak": PEAK, "min": 0.0, "first": 50, "mult": 1},
        "infinite_cosine": {"kind": "infinite_cosine", "warmup": 13, "peak": PEAK, **tail, "length": 150},
    }
    for shape in ("linear", "cosine", "1-sqrt", "square"):
        out[f"wsd_{shape}"] = {"kind": "wsd", **run, "min": 0.0, "decay_steps": 24, "shape": shape}
        out[f"wsd_{shape}_floor"] = {"kind": "wsd", **run, **tail, "decay_steps": 48, "shape": shape}
    exponential = {"kind": "wsd", **run, "decay_steps": 48, "shape": "exponential"}
    out["wsd_exponential"] = {**exponential, "min": 0.0, "half_life": 10.0}
    out["wsd_exponential_floor"] = {**exponential, **tail, "half_life": 10.0}  # the floor is reached before the end
    wave = {"kind": "wcsd", **run, "trough_ratio": 0.1, "decay_steps": 24}
    out["wcsd_1"] = {**wave, **tail, "cosine_steps": 170, "waves": 1, "shape": "1-sqrt"}
    out["wcsd_3"] = {**wave, "min": 0.0, "cosine_steps": 170, "waves": 3, "shape": "linear"}
    out["wcsd_2_exponential"] = {**wave, **tail, "cosine_steps": 150, "waves": 2, "shape": "exponential", "half_life": 6.0}
    return out


def csv() -> str:
    table = curves()
    out = io.StringIO()
    for line in CONTRACT.splitlines():
        out.write(f"# {line}".rstrip() + "\n")
    for name, parameters in table.items():
        out.write(f"# {name} {json.dumps(parameters)}\n")
    out.write(",".join(["step", *table]) + "\n")
    for s in range(LAST + 1):
        out.write(",".join([str(s), *(f"{value(s, **p):.12g}" for p in table.values())]) + "\n")
    return out.getvalue()
