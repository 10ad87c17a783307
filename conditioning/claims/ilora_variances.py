"""Claims of Imbalance-Regularized LoRA on variances: of the forward signal, and of the Gram matrices' ratio.

In this project's letters the adapted matrix is AB with A (a, r), B (r, b); the paper's B_i is A, its A_i is B, its m is
a, its n is b. D = BBᵀ − ρAᵀA.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.imbalance_regularization import imbalance, paper_ratio
from lorakappa.conditioning.sources import ILORA
from lorakappa.conditioning.verification import Measurement, Shape, measured_claim

DIMENSIONS = (Shape(64, 48, 4), Shape(1024, 256, 8), Shape(4096, 4096, 16))
STANDARD_ERRORS = 4.0
"""Half-width of the intervals: 4 standard errors leave a true statement outside once in 16,000 intervals."""
PRECISION = 0.25
"""Largest relative half-width at which an interval decides anything."""


def _factors(shape: Shape, trials: int, seed: int, *, uniform: bool = False) -> Iterator[tuple[Array, Array]]:
    """Pairs with independent entries of mean 0, of variance 1/r in A and 1/b in B."""
    rng = np.random.default_rng([seed, *shape.as_dict().values(), uniform])
    for _ in range(trials):
        sizes = (shape.a, shape.r), (shape.r, shape.b)
        A, B = (rng.uniform(-(3**0.5), 3**0.5, n) if uniform else rng.standard_normal(n) for n in sizes)
        yield A / shape.r**0.5, B / shape.b**0.5


def _judge(trials: int, expected: dict[str, float], observed: Mapping[str, Sequence[float]]) -> Measurement:
    """Not seen if some interval of a mean excludes what is expected of it, inconclusive if some is too wide.

    Args:
        trials: draws of each sample.
        expected: expectation by name; where it is 0 the interval is absolute.
        observed: samples by name, in units in which 1 is large.
    """
    if trials < 2:
        return Measurement("inconclusive", trials, None, "an interval needs 2 draws or more")
    evidence, worst, widest = {}, np.inf, 0.0
    for name, values in observed.items():
        mean, half = float(np.mean(values)), STANDARD_ERRORS * float(np.std(values, ddof=1)) / len(values) ** 0.5
        scale = expected[name] or 1.0
        evidence[name] = {"expected": expected[name], "mean": mean, "half_width": half}
        worst, widest = min(worst, 1 - abs(mean - expected[name]) / half), max(widest, half / scale)
    note = f"{len(observed)} means over {trials} draws, all " if worst >= 0 else f"{len(observed)} means, not all "
    note += f"within {STANDARD_ERRORS:g} standard errors (at most {100 * widest:.1f} %) of the expectation"
    if worst < 0:
        return Measurement("not seen", trials, worst, note, evidence)
    return Measurement("holds" if widest <= PRECISION else "inconclusive", trials, worst, note, evidence)


@measured_claim(
    "ilora-forward-variance",
    "With independent entries of mean 0 and variances σ_A², σ_B² the forward signal has variance σ_B²‖x‖² an entry in "
    "Bx and rσ_A²σ_B²‖x‖² in ABx: each factor keeps it, whatever the dimensions, at σ_B² = 1/b and σ_A² = 1/r.",
    source=ILORA.at("Theorem 1"),
    domain="Gaussian and uniform entries, a and b up to 4096, a fixed x with mean square 1",
    trials=1000,
)
def forward_variance(trials: int, seed: int) -> Measurement:
    """Rule: the means of (Bx)_i² and (ABx)_i² lie within 4 standard errors of 1, which are at most 25 %.

    Proof: (Bx)_i is a sum of b independent terms of variance σ_B²x_j². Given B, (ABx)_i has variance σ_A²‖Bx‖², whose
    mean is rσ_A²σ_B²‖x‖². With ‖x‖² = b the two are bσ_B² and bσ_B²·rσ_A². LoRA itself starts with A = 0: it is a
    statement about factors of that scale, which the ratio r/m asks for during training (`ilora-gram-ratio`).
    """
    observed: dict[str, Sequence[float]] = {}
    for shape in DIMENSIONS:
        x = np.random.default_rng(seed).standard_normal(shape.b)
        x /= np.sqrt(np.mean(x**2))
        for uniform in (False, True):
            name = f"{shape.a}×{shape.b}, r = {shape.r}, {'uniform' if uniform else 'Gaussian'}"
            squares = [
                (float(np.mean((B @ x) ** 2)), float(np.mean((A @ (B @ x)) ** 2)))
                for A, B in _factors(shape, trials, seed, uniform=uniform)
            ]
            observed[f"{name}: Bx"], observed[f"{name}: ABx"] = zip(*squares, strict=True)
    return _judge(trials, dict.fromkeys(observed, 1.0), observed)


@measured_claim(
    "ilora-gram-ratio",
    "At those variances E BBᵀ = (r/m)·E AᵀA = I, which is the ratio c = r/m of the regularizer; for Gaussian entries "
    "‖BBᵀ − (r/m)AᵀA‖² has mean r(r + 1)(1/a + 1/b), so that the relative imbalance is O((r/min(a, b))^{1/2}).",
    source=ILORA.at("Corollary 1"),
    domain="Gaussian entries of variance 1/r in A and 1/b in B, a and b up to 4096",
    trials=500,
)
def gram_ratio(trials: int, seed: int) -> Measurement:
    """Rule: the means of tr D/r and of ‖D‖² over its expectation lie within 4 standard errors of 0 and 1.

    Proof: E AᵀA = (a/r)I and E BBᵀ = I. An off-diagonal entry of BBᵀ has variance 1/b and a diagonal one 2/b, and the
    same with a for (r/a)AᵀA, which is independent of it: r(r − 1)(1/a + 1/b) + 2r(1/a + 1/b).
    """
    expected: dict[str, float] = {}
    observed: dict[str, list[float]] = {}
    for shape in DIMENSIONS:
        ratio = paper_ratio(shape.a, shape.r)
        size = shape.r * (shape.r + 1) * (1 / shape.a + 1 / shape.b)
        D = [imbalance(A, B, ratio) for A, B in _factors(shape, trials, seed)]
        name = f"{shape.a}×{shape.b}, r = {shape.r}"
        observed[f"{name}: tr D/r"] = [float(np.trace(d)) / shape.r for d in D]
        observed[f"{name}: ‖D‖² relative"] = [float(np.sum(d**2)) / size for d in D]
        expected |= {f"{name}: tr D/r": 0.0, f"{name}: ‖D‖² relative": 1.0}
    return _judge(trials, expected, observed)


CLAIMS = (
    forward_variance,
    gram_ratio,
)
