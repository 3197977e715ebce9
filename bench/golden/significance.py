"""Writes data/significance.json: what SciPy, or a formula written another way, makes of the statistics in train/ablate.

    python significance.py [--check]
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
from scipy import stats

OUT = Path(__file__).parent / "data" / "significance.json"
ALPHA = 0.05

SAMPLES = [
    [0.012, 0.019],
    [0.010, -0.004, 0.007],
    [-0.021, -0.025, -0.019, -0.030],
    [0.1, 0.1, 0.1, 0.1, 0.2],
    [1.0, -2.0, 0.5, 3.0, -1.5, 0.25],
    [0.003, 0.001, 0.004, -0.001, 0.005, 0.009, -0.002, 0.006],
]


def paired(sample: list[float]) -> dict:
    test = stats.ttest_1samp(sample, 0)
    ci = test.confidence_interval(1 - ALPHA)
    return {"differences": sample, "mean": np.mean(sample), "sd": np.std(sample, ddof=1), "p": test.pvalue, "low": ci.low, "high": ci.high}


def bootstrap(sample: list[float]) -> dict:
    """Every resample, none drawn."""
    means = [np.mean(r) for r in itertools.product(sample, repeat=len(sample))]
    low, high = np.percentile(means, [100 * ALPHA / 2, 100 * (1 - ALPHA / 2)])
    return {"differences": sample, "low": low, "high": high}


def holm(ps: list[float]) -> dict:
    """By closed testing: the adjusted p of i is the largest Bonferroni p of any set of hypotheses that holds i."""
    adjusted = [0.0] * len(ps)
    for size in range(1, len(ps) + 1):
        for subset in itertools.combinations(range(len(ps)), size):
            joint = min(1.0, size * min(ps[i] for i in subset))
            for i in subset:
                adjusted[i] = max(adjusted[i], joint)
    return {"p": ps, "adjusted": adjusted}


def power(difference: float, sd: float, alpha: float, n: int) -> float:
    c = stats.t.ppf(1 - alpha / 2, n - 1)
    shift = difference * n**0.5 / sd
    return stats.nct.sf(c, n - 1, shift) + stats.nct.cdf(-c, n - 1, shift)


def golden() -> dict:
    powers = [
        {"difference": d, "sd": 1.0, "alpha": a, "n": n, "power": power(d, 1.0, a, n)}
        for d, a, n in [(1, 0.05, 3), (2, 0.05, 3), (3, 0.05, 2), (0.5, 0.05, 20), (1, 0.01, 8), (1.5, 0.005, 12), (0.2, 0.0125, 90), (0, 0.05, 5)]
    ]
    seeds = []
    for d, a in [(3.0, 0.05), (1.0, 0.05), (0.5, 0.01), (0.3, 0.05)]:
        n = next(n for n in range(2, 1000) if power(d, 1.0, a, n) >= 0.8)
        seeds.append({"difference": d, "sd": 1.0, "alpha": a, "n": n})
    return {
        "t_quantiles": [{"p": p, "df": df, "t": stats.t.ppf(p, df)} for p in (0.9, 0.975, 0.995, 0.9995) for df in (1, 2, 3, 4, 9, 30, 200)],
        "paired": [paired(s) for s in SAMPLES],
        "bootstrap": [bootstrap(s) for s in SAMPLES if len(s) <= 6],
        "holm": [holm(ps) for ps in ([0.04], [0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.001, 0.9], [0.02, 0.02, 0.02], [1, 0.5, 0.0])],
        "power": powers,
        "seeds": seeds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    text = json.dumps(golden(), indent=1) + "\n"
    if parser.parse_args().check:
        return 0 if text == OUT.read_text() else print("data/significance.json differs", file=sys.stderr) or 1
    OUT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
