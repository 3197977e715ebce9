"""Writes data/scaling.json: what SciPy makes of points from known scaling laws, to hold train/scaling against.

    python scaling.py [--check]

The points are those of a known law with known noise, five sizes by six lengths; one set has an outlier. Chinchilla's recipe is
written here as Hoffmann et al. (2203.15556, D.3) and Besiroglu et al. (2404.10102) give it: L-BFGS from their grid.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
from scipy import optimize, special

OUT = Path(__file__).parent / "data" / "scaling.json"
DELTA = 1e-3
LAW = {"E": 1.7, "A": 320.0, "B": 900.0, "alpha": 0.33, "beta": 0.31}
KAPLAN = {"N_c": 8.8e9, "D_c": 5.4e10, "alpha_N": 0.076, "alpha_D": 0.095}
SIZES = [2e7, 6e7, 2e8, 6e8, 2e9]
LENGTHS = [4e8, 1e9, 3e9, 8e9, 2e10, 6e10]


def points(curve, noise: float, outlier: float = 0.0) -> np.ndarray:
    """[30, 3]: N, D, loss. Noise is a share of the loss, from a fixed generator."""
    rng = np.random.default_rng(7)
    rows = [[n, d, curve(n, d) * (1 + noise * rng.standard_normal())] for n, d in itertools.product(SIZES, LENGTHS)]
    rows[0][2] *= 1 + outlier
    return np.array(rows)


def additive(n, d):
    return LAW["E"] + LAW["A"] / n ** LAW["alpha"] + LAW["B"] / d ** LAW["beta"]


def kaplan(n, d):
    p = KAPLAN
    return ((p["N_c"] / n) ** (p["alpha_N"] / p["alpha_D"]) + p["D_c"] / d) ** p["alpha_D"]


def huber(r: np.ndarray) -> float:
    return np.sum(special.huber(DELTA, r))


def polish(f, x: np.ndarray) -> optimize.OptimizeResult:
    """Another optimizer than the one tested: Nelder-Mead, restarted until it gains nothing."""
    best = optimize.minimize(f, x, method="Nelder-Mead", options={"maxiter": 40000, "maxfev": 40000, "xatol": 1e-12, "fatol": 1e-18})
    while True:
        again = optimize.minimize(f, best.x, method="Nelder-Mead", options={"maxiter": 40000, "maxfev": 40000, "xatol": 1e-12, "fatol": 1e-18})
        if again.fun >= best.fun * (1 - 1e-9):
            return best
        best = again


def fit_huber(data: np.ndarray) -> dict:
    n, d, loss = np.log(data).T

    def f(p):
        e, a, b, alpha, beta = p
        terms = np.stack([a - alpha * n, b - beta * d, np.full_like(n, e)])
        return huber(special.logsumexp(terms, axis=0) - loss)

    starts = itertools.product([-1, 0, 1], [0, 10, 20], [0, 10, 20], [0, 0.5, 1], [0, 0.5, 1])
    found = [optimize.minimize(f, x, method="L-BFGS-B") for x in starts]
    best = polish(f, min(found, key=lambda r: r.fun).x)
    e, a, b, alpha, beta = best.x
    return {"E": np.exp(e), "A": np.exp(a), "B": np.exp(b), "alpha": alpha, "beta": beta, "objective": best.fun}


def fit_least_squares(data: np.ndarray) -> dict:
    """MiniCPM's: scipy.optimize.curve_fit, in units of 1e9 as their figure has it."""
    n, d, loss = data[:, 0] / 1e9, data[:, 1] / 1e9, data[:, 2]

    def f(_, e, a, b, alpha, beta):
        return e + a * n**-alpha + b * d**-beta

    (e, a, b, alpha, beta), _ = optimize.curve_fit(f, None, loss, p0=[1, 0.3, 1, 0.3, 0.3], maxfev=100000, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    rss = np.sum((f(None, e, a, b, alpha, beta) - loss) ** 2)
    return {"E": e, "A": a * 1e9**alpha, "B": b * 1e9**beta, "alpha": alpha, "beta": beta, "objective": rss}


def fit_kaplan(data: np.ndarray) -> dict:
    n, d, loss = np.log(data).T

    def f(p):
        nc, dc, an, ad = p
        return huber(ad * np.logaddexp(an / ad * (nc - n), dc - d) - loss)

    best = polish(f, optimize.minimize(f, [22, 24, 0.1, 0.1], method="L-BFGS-B").x)
    nc, dc, an, ad = best.x
    return {"N_c": np.exp(nc), "D_c": np.exp(dc), "alpha_N": an, "alpha_D": ad, "objective": best.fun}


def isoflop() -> dict:
    """Five sizes around the optimum at each of four computes, and the line through the bottoms of their parabolas."""
    rng = np.random.default_rng(11)
    rows, bottoms = [], []
    budgets = [1e18, 1e19, 1e20, 1e21]
    g = (LAW["alpha"] * LAW["A"] / (LAW["beta"] * LAW["B"])) ** (1 / (LAW["alpha"] + LAW["beta"]))
    for c in budgets:
        best = g * (c / 6) ** (LAW["beta"] / (LAW["alpha"] + LAW["beta"]))  # Hoffmann et al., eq. 4
        n = best * np.array([0.25, 0.5, 1, 2, 4])
        loss = additive(n, c / (6 * n)) * (1 + 2e-4 * rng.standard_normal(5))
        rows += [[a, c / (6 * a), b] for a, b in zip(n, loss)]
        quadratic, linear, _ = np.polyfit(np.log(n), loss, 2)
        bottoms.append(np.exp(-linear / (2 * quadratic)))
    slope, intercept = np.polyfit(np.log(budgets), np.log(bottoms), 1)
    return {"points": rows, "optima": bottoms, "N_exponent": slope, "N_scale": np.exp(intercept)}


def optima() -> list:
    """Best sizes: found by SciPy's bounded search, with and without inference to pay for."""
    out = []
    for c, inference in [(1e19, 0), (1e21, 0), (1e23, 0), (1e23, 1e12), (1e23, 1e13)]:
        def loss(logn):
            n = np.exp(logn)
            return additive(n, (c - 2 * n * inference) / (6 * n))
        high = np.log(c / (6 + 2 * inference))
        r = optimize.minimize_scalar(loss, bounds=(np.log(1e6), min(high, np.log(1e12))), method="bounded", options={"xatol": 1e-10})
        out.append({"c": c, "inference": inference, "n": np.exp(r.x), "loss": r.fun})
    return out


def main() -> None:
    noisy, outlier, kap = points(additive, 2e-3), points(additive, 2e-3, 0.3), points(kaplan, 2e-3)
    data = {
        "law": LAW,
        "noisy": {"points": noisy.tolist(), "huber": fit_huber(noisy), "least_squares": fit_least_squares(noisy)},
        "outlier": {"points": outlier.tolist(), "huber": fit_huber(outlier), "least_squares": fit_least_squares(outlier)},
        "kaplan": {"points": kap.tolist(), "huber": fit_kaplan(kap)},
        "isoflop": isoflop(),
        "optima": optima(),
    }
    text = json.dumps(data, indent=1) + "\n"
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    if parser.parse_args().check:
        sys.exit(0 if OUT.read_text() == text else f"{OUT} differs")
    OUT.write_text(text)


if __name__ == "__main__":
    main()
