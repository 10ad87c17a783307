"""Small results in the format that the packages save, made without any computation of theirs."""

from functools import partial
from pathlib import Path

import numpy as np

from lorakappa.figures.saved import Saved
from lorakappa.shared.records import write_json, write_npz

SETTINGS = {
    "loss": "one-layer",
    "shape": [6, 5],
    "rank": 3,
    "target": "gaussian",
    "start": "lora",
    "init_std": 1.0,
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
    """Five rules with six rows each; row 1 is inconclusive, row 2 has no rate below 1."""
    rng = np.random.default_rng(2)
    rule = np.repeat(["gd", "sign-gd", "sign-gd-sharp", "balora-gd", "sign-gd-exact"], 6)
    kappa = rng.uniform(5, 60, 30)
    bound = ((kappa - 1) / (kappa + 1)) ** 2
    limsup = bound ** np.where(np.char.startswith(rule, "sign"), 4.0, 1.0)
    limsup[2] = 1.0
    arrays = {
        "rule": rule,
        "kappa": kappa,
        "bound": bound,
        "limsup": limsup,
        "log_ratio": np.log(limsup) / np.log(bound),
        "uncertainty": np.full(30, 0.05),
        "conclusive": np.arange(30) != 1,
    }
    return Saved("rates", arrays, {"settings": {"shape": [6, 5], "rank": 3, "target": "gaussian"}})


def phase() -> Saved:
    """Four decided cells, one undecided, one without a result."""
    gain = np.asarray([[1.5, -0.4, 0.05], [2.0, 0.6, np.nan]])
    arrays = {
        "gain": gain,
        "interval": np.stack([gain - 0.1, gain + 0.1], axis=-1),
        "decays": np.asarray([0.5, 0.9]),
        "init_stds": np.asarray([0.01, 0.1, 1.0]),
    }
    meta = {
        "settings": SETTINGS,
        "spectrum": "geometric",
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


def audit(layers: int = 7) -> Saved:
    """Layers of a transformer, worst first; the worst of them has a factor of smaller rank, the next two even AB."""
    rng = np.random.default_rng(4)
    modules = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    entries = []
    for i in range(layers):
        block = "self_attn" if i % 7 < 4 else "mlp"
        balanced = float(np.exp(rng.normal(1.5 + 0.1 * (i % 7), 0.5)))
        bounds = (
            (np.inf, np.inf if i < 3 else balanced) if 0 < i < 4 else (balanced * np.exp(rng.exponential(3)), balanced)
        )
        entries.append(
            {
                "name": f"base_model.model.model.layers.{i // 7}.{block}.{modules[i % 7]}",
                "shape": [64, 64],
                "r": 4,
                "dtype": "float32",
                "sigma_A": [4.0, 3.0, 2.0, 1.0],
                "sigma_B": [0.4, 0.3, 0.2, 0.1],
                "sigma_AB": [1.6, 0.9, 0.4, 0.1],
                "gap": 20.0,
                "relative_gap": float(rng.beta(2, 2)),
                "rank": 4,
                "kappa_bound": float(bounds[0]),
                "kappa_bound_balanced": float(bounds[1]),
                "scale": 2.0,
                "stable_rank": 1.39,
                "entropy_rank": 2.9,
                "suggested_rank": 3,
            }
        )
    entries.sort(key=lambda entry: -entry["kappa_bound"])
    return Saved("audit", {}, {"layers": entries})


def llm_compare(
    methods: tuple[str, ...] = ("lora", "balora", "ilora"),
    ranks: tuple[int, ...] = (4, 8),
    scalings: tuple[float, ...] = (0.5, 1.0),
    n: int = 3,
    lost: tuple[tuple[str, int], ...] = (),
) -> Saved:
    """A parabola over the logarithm of the learning rate for each method; the largest learning rate diverges.

    Args:
        methods: the first one is the baseline.
        ranks: ranks.
        scalings: values of α/r.
        n: seeds.
        lost: (method, rank) whose every run diverged.
    """
    rng = np.random.default_rng(5)
    rates, steps = np.geomspace(1e-5, 1, 11), np.arange(0, 121, 20)
    cells, best, curves = [], [], {key: [] for key in ("validation_loss", "seconds", "gap", "kappa_bound")}
    for i, method in enumerate(methods):
        for rank in ranks:
            mine = []
            for scaling in scalings:
                for j, rate in enumerate(rates[: 11 - i % 2]):  # some grids are shorter
                    away = 0.08 * np.log10(rate / 10 ** (-3 + 0.2 * i)) ** 2 + 0.1 * (scaling - 1) ** 2
                    loss = ((0.9 - 0.03 * i) * rank**-0.15 * (1 + away) + 0.01 * rng.random(n)).tolist()
                    status = ["ok"] * n
                    if j == 9 or (method, rank) in lost:
                        loss[0], status[0] = None, "failed"
                    if j == 10 or (method, rank) in lost:
                        loss, status = [None] * n, ["diverged"] * n
                    mine.append(
                        {
                            "method": method,
                            "rank": rank,
                            "scaling": scaling,
                            "learning_rate": float(rate),
                            "validation_loss": loss,
                            "status": status,
                        }
                    )
            cells += mine
            known = [cell for cell in mine if set(cell["status"]) == {"ok"}]
            if not known:
                continue
            chosen = min(known, key=lambda cell: np.mean(cell["validation_loss"]))
            final = np.asarray(chosen["validation_loss"])
            rate = chosen["learning_rate"]
            best.append(
                {
                    **{key: chosen[key] for key in ("method", "rank", "scaling", "learning_rate", "validation_loss")},
                    "at_edge": i == 2,
                    "test_loss": (final + 0.02).tolist(),
                    "exact_match": (1 - final).tolist() if i != 1 else [None, *(1 - final[1:]).tolist()],
                    "window": [rate / 3, rate * 2] if i != 1 else None,
                    "decades": 0.778 if i != 1 else None,
                    "window_censored": i == 2,
                    "seconds_per_step": (0.5 + 0.05 * i + 0.02 * rng.random(n)).tolist(),
                    "method_seconds_per_step": (0.02 * i * np.ones(n)).tolist(),
                    "peak_memory_bytes": [int(2e9 * (1 + 0.02 * i))] * n if i != 2 else [None] * n,
                }
            )
            decay = np.exp(-steps / 25)
            curves["validation_loss"].append(final[:, None] + 2 * decay)
            curves["seconds"].append(steps * np.asarray(best[-1]["seconds_per_step"])[:, None])
            gap = (
                np.full((n, len(steps)), 1e-12)
                if method.startswith("balora")
                else rng.uniform(0.3, 0.6, (n, 1)) + 0 * steps
            )
            curves["gap"].append(gap)
            kappa = (30 + 10 * i) * np.exp(rng.normal(0, 0.2, (n, len(steps))).cumsum(axis=1))
            kappa[:, 0] = np.inf
            curves["kappa_bound"].append(kappa)
    comparisons = [
        {
            "method": entry["method"],
            "rank": entry["rank"],
            "quantity": quantity,
            "estimate": 0.03,
            "low": low,
            "high": 0.05,
        }
        for entry in best
        for quantity in ("test_loss", "exact_match", "seconds_per_step")
        for low in [0.01 if n > 1 else None]
        if entry["method"] != methods[0]
    ]
    arrays = {key: np.asarray(value).reshape(len(best), n, len(steps)) for key, value in curves.items()}
    meta = {
        "model": "tiny",
        "data": "mathematics: algebra__linear_1d",
        "baseline": methods[0],
        "methods": list(methods),
        "ranks": list(ranks),
        "scalings": list(scalings),
        "seeds": list(range(n)),
        "steps": 120,
        "cells": cells,
        "best": best,
        "comparisons": comparisons,
    }
    return Saved("llm-compare", {"eval_steps": steps, **arrays}, meta)


def curvature() -> Saved:
    """Two layers of rank 2, each at three places of its gauge path and beside it; balancing halves λ_max."""

    def matrix(largest: float) -> dict[str, object]:
        return {"lambda_max": largest, "trace": 3 * largest, "kappa": {"r": 2.0, "2r": 8.0, "rank": "inf"}}

    def point(t: float | None, largest: float) -> dict[str, object]:
        return {"t": t, "ggn": matrix(largest), "hessian": matrix(1.5 * largest)}

    layers = [
        {
            "name": f"model.layers.{i}.self_attn.q_proj (adapter default)",
            "path": [point(t, (1.0 + i) * 2 ** (1 - t)) for t in (0, 0.5, 1)],
            "gauges": {"ilora": point(None, 1.5), "trace": point(None, 0.6), "lambda_max": point(None, 0.5)},
            "lambda_max_bound": 0.5,
        }
        for i in range(2)
    ]
    return Saved("curvature", {}, {"layers": layers, "tokens": 64, "loss": 1.25})


DUEL_SETTINGS = {"rank": 2, "seeds": 4, "init_std": 0.3, "target": "geometric:0.7"}
DUELLISTS = ["lora", "balora", "ilora"]


def duel():
    """Two decays, two shapes, one start: BaLoRA wins, iLoRA wins, a tie, nobody; iLoRA has no result in one cell."""
    gain = np.zeros((2, 2, 1, 3))
    gain[0, 0, 0] = [0, 3, 1]
    gain[0, 1, 0] = [0, -1, 6]
    gain[1, 0, 0] = [0, 1, np.nan]
    gain[1, 1, 0] = np.nan
    winner = np.asarray([[[1], [2]], [[-1], [-2]]])
    margin = np.full((2, 2, 1, 3), np.nan)
    margin[0, 0, 0], margin[0, 1, 0], margin[1, 0, 0] = (2, 1.5, 2.5), (6, 5, 7), (1, -1, 2)
    arrays = {
        "gain": gain,
        "winner": winner,
        "margin": margin,
        "decays": np.asarray([0.5, 0.9]),
        "shapes": np.asarray([[8, 4], [4, 8]]),
    }
    meta = {
        "settings": DUEL_SETTINGS,
        "methods": DUELLISTS,
        "starts": ["lora"],
        "spectrum": "geometric",
        "optimizer": "adam",
        "steps": 50,
    }
    return Saved("duel", arrays, meta)


def gauges():
    """The outcomes of the duel's sample under two optimizers, over condition numbers."""
    of_duel = duel().arrays
    arrays = {name: np.repeat(of_duel[name], 2, axis=2) for name in ("gain", "winner", "margin")}
    arrays |= {"conditions_c": np.asarray([1.0, 10.0]), "conditions_d": np.asarray([1.0, 100.0])}
    meta = {
        "settings": {"rank": 2, "seeds": 4, "alignment": "crossed"},
        "methods": DUELLISTS,
        "optimizers": ["sgd", "adam"],
        "steps": 50,
        "noise": 0.3,
    }
    return Saved("gauges", arrays, meta)


def ratios():
    rng = np.random.default_rng(0)
    arrays = {
        "log10": rng.normal(-4, 1, (2, 5, 4)),
        "factors": np.asarray([0.5, 1.0, 4.0]),
        "powers": np.asarray([0.0, 1.0]),
        "shapes": np.asarray([[8, 4], [4, 8]]),
    }
    return Saved("ratios", arrays, {"settings": DUEL_SETTINGS, "method": "ilora", "optimizer": "gd", "steps": 50})


def benchmarks() -> Saved:
    """Two goals, one of them missed, and a curve of growth."""

    def row(work, setting, ours, theirs, least, growth=None):
        ratio = theirs / ours
        return {
            "topic": "balance",
            "work": work,
            "setting": setting,
            "threads": 1,
            "unit": "pairs",
            "rate": 1 / ours,
            "goals": [] if growth else [{"least": least, "peer": "loop of SVDs"}, {"least": 10.0, "peer": None}],
            "reached": [] if growth else [ratio >= least, True],
            "ratios": {"loop of SVDs": {"median": ratio, "spread": 0.1 * ratio}},
            "seconds": {"balance": ours, "loop of SVDs": theirs},
            "growth": growth,
            "exponent": 2 if growth else None,
        }

    rows = [row("balance", "r = 8", 0.01, 0.05, 4.0), row("balance", "r = 64", 0.1, 0.3, 4.0)]
    rows += [row("balance as r grows", f"r = {r}", 1e-5 * r**1.5, 1e-4 * r**2, 1.0, ["r", r]) for r in (32, 8, 128)]
    return Saved("benchmarks", {}, {"rows": rows, "processor": "a processor", "cores": 2, "device": "cpu"})


METHODS_OF_A_STUDY = ("lora", "balora", "reflora", "ilora", "dora")


def study(methods: tuple[str, ...] = METHODS_OF_A_STUDY, ranks: tuple[int, ...] = (2, 8, 32)) -> Saved:
    """Three tables: methods by rank, two horizons, three starts; one effect has no interval, one is unknown."""
    rng = np.random.default_rng(7)
    tables = [("methods", methods, ranks, (60,), ()), ("horizons", methods[:2], (8,), (60, 200), ())]
    tables += [("starts", methods[:2], (8,), (60,), (0.01, 1.0, 100.0))]
    findings = []
    for name, names, at, steps, starts in tables:
        places = [(r, s, start) for r in at for s in steps for start in starts or (None,)]
        for rank, horizon, start in places:
            for i, method in enumerate(names[1:]):
                estimate, half = 0.02 * (1 - i) + 0.005 * rng.standard_normal(), 0.004 + 0.006 * i
                low, high = estimate - half, estimate + half
                verdict = "better" if low > 0 else "worse" if high < 0 else "equivalent"
                verdict = verdict if verdict != "equivalent" or max(-low, high) < 0.01 else "inconclusive"
                effect = {"estimate": estimate, "low": low, "high": high, "n": 12}
                if i == 3 and rank == 2:
                    effect, verdict = effect | {"low": None, "high": None}, "inconclusive"
                if i == 3 and rank == 8:
                    effect, verdict = dict.fromkeys(("estimate", "low", "high")) | {"n": 0}, "inconclusive"
                arm = {"scaling": start or 1.0, "test_loss": 1.0}
                findings.append(
                    {
                        "table": name,
                        "method": method,
                        "baseline": names[0],
                        "rank": rank,
                        "steps": horizon,
                        "start": start,
                        "verdict": verdict,
                        "effect": effect,
                        "method_arm": arm | {"test_loss": 1.0 - estimate},
                        "baseline_arm": arm,
                    }
                )
    meta = {
        "study": "tiny",
        "model": "tiny",
        "data": "topics of questions, generated",
        "delta": 0.01,
        "confidence": 0.95,
        "tables": [
            {
                "name": name,
                "baseline": names[0],
                "methods": list(names),
                "ranks": list(at),
                "steps": list(steps),
                "starts": list(starts),
                "comparisons": (len(names) - 1) * len(at) * len(steps) * max(1, len(starts)),
            }
            for name, names, at, steps, starts in tables
        ],
        "findings": findings,
    }
    return Saved("study", {}, meta)


SAMPLES = {
    "manifold": manifold,
    "kappa-histogram": kappa_histogram,
    "convergence": convergence,
    "rates": rates,
    "phase": phase,
    "settle": settle,
    "duel": duel,
    "ratios": ratios,
    "gauges": gauges,
    "audit": audit,
    "curvature": curvature,
    "llm-compare": partial(llm_compare, ranks=(4,)),
    "benchmarks": benchmarks,
    "study": study,
}
"""Name of a result → function that makes a small one."""


def save(saved: Saved, folder: Path) -> None:
    """Writes a sample as the packages write their results."""
    if saved.arrays:
        write_npz(folder / f"{saved.name}.npz", saved.arrays)
    write_json(folder / f"{saved.name}.json", {"experiment": saved.name, **saved.meta})
