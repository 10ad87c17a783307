"""Small results in the format that `synthetic` saves, made without any simulation."""

from pathlib import Path

import numpy as np

from conditioning.records import write_json, write_npz
from figures.saved import Saved

SETTINGS = {
    "loss": "one-layer",
    "shape": [6, 5],
    "rank": 3,
    "target": "gaussian",
    "start": "lora",
    "scale": 1.0,
    "scaling": 1.0,
    "seeds": 5,
    "seed": 0,
}


def manifold() -> Saved:
    axis, x = np.linspace(-2, 2, 21), np.geomspace(0.5, 2, 11)
    branch = np.stack([x, 1 / x], axis=1)
    starts = np.asarray([[2.0, 0.5], [-0.5, 1.0]])
    images = np.asarray([[1.0, 1.0], [-(0.5**0.5), 0.5**0.5]])
    t = np.linspace(0, 1, 5)[None, :, None]
    arrays = {
        "x": axis,
        "y": axis,
        "excess": 0.5 * (1 - axis[None] * axis[:, None]) ** 2,
        "minimizers": np.stack([branch, -branch]),
        "kappa": np.stack([3 * (x**2 + x**-2) / 2] * 2),
        "balanced": np.asarray([[1.0, 1.0], [-1.0, -1.0]]),
        "starts": starts,
        "images": images,
        "paths": starts[:, None] * (images / starts)[:, None] ** t,
    }
    return Saved("manifold", arrays, {"settings": {"singular_values": [1.0, 0.3]}, "kappa_balanced": 3.0})


def kappa_histogram() -> Saved:
    rng = np.random.default_rng(0)
    kappa = 10 * np.exp(rng.exponential(1, 40))
    upper = 3 * kappa
    upper[:10] = np.inf
    arrays = {
        "kappa": kappa,
        "lower": 0.3 * kappa,
        "upper": upper,
        "lower_corrected": 0.9 * kappa,
        "upper_corrected": 1.5 * kappa,
        "kappa_limit": 10 * np.exp(rng.exponential(2, 12)),
        "singular_values": np.asarray([3.0, 2.0, 1.5, 0.5, 0.2]),
    }
    return Saved("kappa-histogram", arrays, {"settings": SETTINGS, "kappa_balanced": 9.0, "not_converged": 2})


def convergence(methods: tuple[str, ...] = ("lora", "balora", "balora@5")) -> Saved:
    """Geometric decay, faster for later methods; the largest step sizes diverge, one seed of the first method too."""
    rng = np.random.default_rng(1)
    T, M, G, n = 12, len(methods), 6, 5
    speed = np.linspace(0.1, 0.6, G)[:, None] * rng.uniform(0.5, 1.5, n) * np.arange(1, M + 1)[:, None, None]
    excess = 10 * np.exp(-speed * np.arange(T + 1)[:, None, None, None])
    excess[4:, :, -2:] = np.inf
    excess[6:, 0, 3, 2] = np.inf
    diverged_at = np.where(np.isfinite(excess[-1]), -1, np.isinf(excess).argmax(axis=0))
    arrays = {
        "excess": excess,
        "imbalance": excess,
        "diverged_at": diverged_at,
        "step_sizes": np.geomspace(1e-3, 1, G),
        "scores": np.log10(excess[-1]),
        "best": np.full((M, n), 3),
        "curves": excess[:, :, 3],
        "curves_imbalance": excess[:, :, 3],
        "f_star": np.zeros(n),
    }
    summary = [
        {"method": name, "step_size": [float(arrays["step_sizes"][3])], "diverged_at_best": int(i == 0)}
        for i, name in enumerate(methods)
    ]
    meta = {"settings": SETTINGS, "optimizer": "gd", "methods": list(methods), "steps": T, "summary": summary}
    return Saved("convergence", arrays, meta)


def rates() -> Saved:
    """Four rules with six rows each; row 1 is inconclusive, row 2 has no rate below 1."""
    rng = np.random.default_rng(2)
    rule = np.repeat(["gd", "sign-gd", "sign-gd-sharp", "balora-gd"], 6)
    kappa = rng.uniform(5, 60, 24)
    bound = ((kappa - 1) / (kappa + 1)) ** 2
    limsup = bound ** np.where(np.char.startswith(rule, "sign"), 4.0, 1.0)
    limsup[2] = 1.0
    arrays = {
        "rule": rule,
        "kappa": kappa,
        "bound": bound,
        "limsup": limsup,
        "log_ratio": np.log(limsup) / np.log(bound),
        "uncertainty": np.full(24, 0.05),
        "conclusive": np.arange(24) != 1,
    }
    return Saved("rates", arrays, {"settings": {"shape": [6, 5], "rank": 3, "target": "gaussian"}})


def phase() -> Saved:
    """Four decided cells, one undecided, one without a result."""
    gain = np.asarray([[1.5, -0.4, 0.05], [2.0, 0.6, np.nan]])
    arrays = {
        "gain": gain,
        "interval": np.stack([gain - 0.1, gain + 0.1], axis=-1),
        "decays": np.asarray([0.5, 0.9]),
        "scales": np.asarray([0.01, 0.1, 1.0]),
    }
    meta = {
        "settings": SETTINGS,
        "family": "geometric",
        "optimizer": "sign-gd",
        "methods": ["lora", "balora"],
        "steps": 100,
    }
    return Saved("phase", arrays, meta)


def settle(rank: int = 3) -> Saved:
    rng = np.random.default_rng(3)
    gammas, factor = 0.5 ** np.arange(1, 7), rng.uniform(0.5, 2, 5)
    curves = 10 * np.exp(-rng.uniform(0.1, 0.5, (6, 5)) * np.arange(15)[:, None, None])
    arrays = {
        "gammas": gammas,
        "deviation": 1e-2 * gammas[:, None] * factor,
        "imbalance_from_balanced": 2e-2 * gammas[:, None] * factor,
        "drift_one_step": 1e-2 * gammas[:, None] ** 2 * factor,
        "drift_fixed_time": 3e-2 * gammas[:, None] * factor,
        "rescale_curves": curves,
        "rescale_step_sizes": np.ones((2, 5)),
    }
    if rank >= 3:
        arrays["equal_kappa_curves"] = 1e-4 * np.exp(-0.4 * np.arange(60)[:, None, None] * np.ones((2, 5)))
        arrays["equal_kappa"] = np.full((2, 5), 10.0)
    gain = {"median": 0.5, "interval": [0.2, 0.9], "p_value": 0.1, "wins": 4, "n": 5}
    meta = {
        "settings": {**SETTINGS, "rank": rank},
        "rescale_runs": [
            "lora",
            "balora",
            "lora with balora's lengths",
            "lora with the best multiple of balora's lengths",
            "balora with lora's lengths",
            "balora with the best multiple of lora's lengths",
        ],
        "log10_gain": {"each_at_best": gain, "at_balora_lengths": {**gain, "median": -1.0, "interval": None}},
    }
    return Saved("settle", arrays, meta)


SAMPLES = {
    "manifold": manifold,
    "kappa-histogram": kappa_histogram,
    "convergence": convergence,
    "rates": rates,
    "phase": phase,
    "settle": settle,
}
"""Name of a result → function that makes a small one."""


def save(saved: Saved, folder: Path) -> None:
    """Writes a sample as `synthetic` writes its results."""
    write_npz(folder / f"{saved.name}.npz", saved.arrays)
    write_json(folder / f"{saved.name}.json", {"experiment": saved.name, **saved.meta})
