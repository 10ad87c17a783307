"""Claims of Imbalance-Regularized LoRA: variances, what GD and scaled GD do to the Gram matrices, the paper's update.

In this project's letters the adapted matrix is AB with A (a, r), B (r, b); the paper's B_i is A, its A_i is B, its m is
a, its n is b. We had the abstract, the algorithms and the subjects of the theorems, not their text: the statements are
our reading of them. D = BBᵀ − ρAᵀA, and G = ∇ℓ(AB) for any loss ℓ.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flint
import numpy as np

from lorakappa.conditioning import spectra as closed_form
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.claims.canonical import (
    GRADIENT_STEP,
    CanonicalMinimizers,
    Extra,
    FloatPair,
    diagonal,
    gaussian,
)
from lorakappa.conditioning.imbalance_regularization import imbalance, imbalance_penalty, paper_ratio, penalty_step
from lorakappa.conditioning.preconditioning import scaled_gradient
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import (
    Comparison,
    Measurement,
    Shape,
    algebraic_claim,
    at_least,
    at_most,
    equal,
    measured_claim,
)
from lorakappa.conditioning.verification import exact as exactly

ILORA = "Imbalance-Regularized LoRA, our reading of {}; the text was not at hand"

RATIO = Extra(
    "ratio",
    lambda s: (1, 1),
    lambda s, rng: 10.0 ** rng.uniform(-2, 1, (1, 1)),
    lambda ratio: bool(1e-3 <= ratio[0, 0] <= 1e3),
)
STEP = Extra(
    "step",
    lambda s: (1, 1),
    lambda s, rng: 10.0 ** rng.uniform(-3, 0, (1, 1)),
    lambda step: bool(1e-4 <= step[0, 0] <= 10),
)
DIRECTION = (gaussian("dA", lambda s: (s.a, s.r)), gaussian("dB", lambda s: (s.r, s.b)))

MOVED = CanonicalMinimizers("any pair, any gradient ∇ℓ(AB)", extras=GRADIENT_STEP[:1])
PROPORTIONAL = CanonicalMinimizers(
    "any pair with BBᵀ = μAᵀA, any gradient ∇ℓ(AB)", extras=GRADIENT_STEP[:1], scalar_gauge=True
)
PENALIZED = CanonicalMinimizers("any pair, any ratio ρ, any direction", extras=(RATIO, STEP, *DIRECTION))
UPDATED = CanonicalMinimizers("any pair, any ratio ρ, any step", extras=(RATIO, STEP))
RATIOS = CanonicalMinimizers(
    "r < min(a, b) and AᵀA = ρBBᵀ for any ρ", where=lambda shape: shape.r < shape.k, scalar_gauge=True
)
INTERIOR = CanonicalMinimizers("r < min(a, b)", where=lambda shape: shape.r < shape.k)

# --- variances ------------------------------------------------------------------------------------------

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
    """Refuted if some interval of a mean excludes what is expected of it, inconclusive if some is too wide.

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
        return Measurement("refuted", trials, worst, note, evidence)
    return Measurement("holds" if widest <= PRECISION else "inconclusive", trials, worst, note, evidence)


@measured_claim(
    "ilora-forward-variance",
    "With independent entries of mean 0 and variances σ_A², σ_B² the forward signal has variance σ_B²‖x‖² an entry in "
    "Bx and rσ_A²σ_B²‖x‖² in ABx: each factor keeps it, whatever the dimensions, at σ_B² = 1/b and σ_A² = 1/r.",
    source=ILORA.format("Theorem 1 (forward variance)"),
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
    source=ILORA.format("Corollary 1 (variances of the factors)"),
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


# --- what a step does to the Gram matrices --------------------------------------------------------------


def _gram_changes(x: Any, dA: Any, dB: Any) -> tuple[Any, Any]:
    """First-order changes (d(BBᵀ), d(AᵀA))."""
    if isinstance(x, FloatPair):
        return dB @ x.B.T + x.B @ dB.T, x.A.T @ dA + dA.T @ x.A
    A, B = x.A, x.B
    return dB * B.transpose() + B * dB.transpose(), A.transpose() * dA + dA.transpose() * A


def _vanishes(x: Any, matrix: Any, size: float) -> Comparison:
    """The statement ‖matrix‖² = 0; in floats relative to the size of what cancels, which is 0 only where all is."""
    if isinstance(x, FloatPair):
        return equal(float(np.linalg.norm(matrix)) / (size or 1.0), 0.0, claim_rtol(1.0, x.shape.d))
    return equal(2 * exactly.half_square(matrix), flint.fmpq(0))


@algebraic_claim(
    "ilora-gd-proportion",
    "To first order a GD step on any loss of AB changes both Gram matrices alike: d(BBᵀ) = d(AᵀA) for dA = −GBᵀ and "
    "dB = −AᵀG.",
    source=ILORA.format("Theorem 2 (gradient descent)"),
    family=MOVED,
    sides=("‖d(BBᵀ) − d(AᵀA)‖²", "0"),
)
def gd_proportion(x: Any) -> Comparison:
    """Proof: both are −(AᵀGBᵀ + BGᵀA). So D changes by (1 − ρ)·d(BBᵀ): GD keeps it to first order only for ρ = 1."""
    G = x.extras["gradient"]
    if isinstance(x, FloatPair):
        for_B, for_A = _gram_changes(x, -G @ x.B.T, -x.A.T @ G)
        return _vanishes(x, for_B - for_A, 4 * float(np.linalg.norm(x.A) * np.linalg.norm(G) * np.linalg.norm(x.B)))
    for_B, for_A = _gram_changes(x, -G * x.B.transpose(), -x.A.transpose() * G)
    return _vanishes(x, for_B - for_A, 1.0)


def _scaled_defect(x: Any) -> tuple[Any, Any, float]:
    """d(BBᵀ) − μd(AᵀA) under scaled GD from BBᵀ = μAᵀA, K = AᵀGBᵀ, and the size of what cancels (floats only)."""
    G, mu = x.extras["gradient"], 1 / x.G[0, 0] ** 4
    if isinstance(x, FloatPair):
        scaled_A, scaled_B = scaled_gradient(x.A, x.B, G @ x.B.T, x.A.T @ G)
        for_B, for_A = _gram_changes(x, -scaled_A, -scaled_B)
        K = x.A.T @ G @ x.B.T
        # the rounding of K, magnified by M⁻¹ and by the condition of M
        size = 8 * np.linalg.norm(x.A) * np.linalg.norm(G) * np.linalg.norm(x.B) * x.gram_A[0] / x.gram_A[-1] ** 2
        return for_B - mu * for_A, K, float(size)
    gram_A, gram_B, K = x.A.transpose() * x.A, x.B * x.B.transpose(), x.A.transpose() * G * x.B.transpose()
    for_B, for_A = _gram_changes(x, -G * x.B.transpose() * gram_B.inv(), -gram_A.inv() * x.A.transpose() * G)
    return for_B - for_A * mu, K, 1.0


@algebraic_claim(
    "ilora-scaled-gd-proportion",
    "Scaled GD, dA = −GBᵀ(BBᵀ)⁻¹ and dB = −(AᵀA)⁻¹AᵀG, keeps a ratio to first order: "
    "d(BBᵀ) = μ·d(AᵀA) where BBᵀ = μAᵀA.",
    source=ILORA.format("Theorem 3 (scaled gradient descent)"),
    family=PROPORTIONAL,
    sides=("‖d(BBᵀ) − μ·d(AᵀA)‖²", "0"),
    recorded="refuted",
    corrected_by="ilora-scaled-gd-trace",
)
def scaled_gd_proportion(x: Any) -> Comparison:
    """Fails for r ≥ 2: with K = AᵀGBᵀ and M = AᵀA the left side is −(M⁻¹K + KᵀM⁻¹), the right one −(KM⁻¹ + M⁻¹Kᵀ).
    They differ by the commutator of K − Kᵀ with M⁻¹ (`ilora-scaled-gd-defect`). For r = 1 all of it commutes.
    """
    defect, _, size = _scaled_defect(x)
    return _vanishes(x, defect, size)


@algebraic_claim(
    "ilora-scaled-gd-trace",
    "Under scaled GD the traces keep the ratio to first order: tr d(BBᵀ) = μ·tr d(AᵀA) where BBᵀ = μAᵀA.",
    kind="correction",
    family=PROPORTIONAL,
    sides=("tr d(BBᵀ) − μ·tr d(AᵀA)", "0"),
)
def scaled_gd_trace(x: Any) -> Comparison:
    """Proof: both traces are −2 tr(M⁻¹K), M = AᵀA and K = AᵀGBᵀ. So ‖B‖² = μ‖A‖² is kept."""
    defect, _, size = _scaled_defect(x)
    if isinstance(x, FloatPair):
        return equal(float(np.trace(defect)) / (size or 1.0), 0.0, claim_rtol(1.0, x.shape.d))
    return equal(sum((defect[i, i] for i in range(x.shape.r)), flint.fmpq(0)), flint.fmpq(0))


@algebraic_claim(
    "ilora-scaled-gd-diagonal",
    "In the common eigenbasis of AᵀA and BBᵀ = μAᵀA the diagonals of d(BBᵀ) and μ·d(AᵀA) under scaled GD agree.",
    kind="correction",
    family=PROPORTIONAL,
    sides=("‖diagonal of d(BBᵀ) − μ·d(AᵀA)‖²", "0"),
)
def scaled_gd_diagonal(x: Any) -> Comparison:
    """Proof: the diagonal of a commutator with a diagonal matrix is 0 (`ilora-scaled-gd-defect`). So, to first order,
    the eigenvalues keep the ratio where they are distinct, and only the eigenvectors of the Gram matrices part.
    """
    defect, _, size = _scaled_defect(x)  # instances have the gauge tI: AᵀA = t²S is diagonal in every outer frame
    entries = [defect[i, i] for i in range(x.shape.r)]
    return _vanishes(
        x, np.array(entries) if isinstance(x, FloatPair) else diagonal(x.shape.r, x.shape.r, entries), size
    )


@algebraic_claim(
    "ilora-scaled-gd-defect",
    "What scaled GD adds to the ratio to first order is a commutator: where BBᵀ = μAᵀA, d(BBᵀ) − μ·d(AᵀA) = "
    "(K − Kᵀ)M⁻¹ − M⁻¹(K − Kᵀ) with K = AᵀGBᵀ and M = AᵀA.",
    kind="correction",
    family=PROPORTIONAL,
    sides=("‖d(BBᵀ) − μ·d(AᵀA) − (K − Kᵀ)M⁻¹ + M⁻¹(K − Kᵀ)‖²", "0"),
)
def scaled_gd_defect(x: Any) -> Comparison:
    """Proof: μ(BBᵀ)⁻¹ = M⁻¹, so d(BBᵀ) = −(M⁻¹K + KᵀM⁻¹) and μ·d(AᵀA) = −(KM⁻¹ + M⁻¹Kᵀ)."""
    defect, K, size = _scaled_defect(x)
    if isinstance(x, FloatPair):
        inverse, skew = np.linalg.inv(x.A.T @ x.A), K - K.T
    else:
        inverse, skew = (x.A.transpose() * x.A).inv(), K - K.transpose()
        return _vanishes(x, defect - skew * inverse + inverse * skew, size)
    return _vanishes(x, defect - skew @ inverse + inverse @ skew, size)


# --- the paper's update --------------------------------------------------------------------------------


def _update(x: Any) -> tuple[Any, Any]:
    """The paper's update (A₊ − A, B₊ − B)."""
    step, ratio = x.extras["step"][0, 0], x.extras["ratio"][0, 0]
    if isinstance(x, FloatPair):
        new_A, new_B = penalty_step(x.A, x.B, step=step, ratio=ratio)
        return new_A - x.A, new_B - x.B
    D = _difference(x)
    return x.A * D * (step * ratio), D * x.B * -step


def _difference(x: Any) -> Any:
    """D = BBᵀ − ρAᵀA."""
    ratio = x.extras["ratio"][0, 0]
    if isinstance(x, FloatPair):
        return imbalance(x.A, x.B, ratio)
    return x.B * x.B.transpose() - x.A.transpose() * x.A * ratio


def _penalty_at(x: Any, t: int) -> Any:
    """R = ‖BBᵀ − ρAᵀA‖² at the pair moved t times along (dA, dB)."""
    ratio, A, B = x.extras["ratio"][0, 0], x.A + x.extras["dA"] * t, x.B + x.extras["dB"] * t
    if isinstance(x, FloatPair):
        return float(imbalance_penalty(A, B, ratio))
    return 2 * exactly.half_square(B * B.transpose() - A.transpose() * A * ratio)


@algebraic_claim(
    "ilora-gradient-constant",
    "The paper's update is a gradient step on a quarter of its regularizer R = ‖BBᵀ − ρAᵀA‖²: it is −(step/4)∇R.",
    source=ILORA.format("Algorithms 1 and 2, whose gradient leaves out R's factor 4"),
    family=PENALIZED,
    sides=("dR along (dA, dB), less −(4/step) times the update's component along it", "0"),
)
def gradient_constant(x: Any) -> Comparison:
    """Proof: dR = 2⟨D, dD⟩ = 4⟨D·B, dB⟩ − 4ρ⟨A·D, dA⟩. So a weight λ in the update is a weight λ/4 of R in the loss.

    Here dR is the five-point difference of R itself, which is exact for polynomials of degree 4.
    """
    change, step, values = _update(x), x.extras["step"][0, 0], {t: _penalty_at(x, t) for t in (-2, -1, 1, 2)}
    slope = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / 12
    pairs = list(zip(change, (x.extras["dA"], x.extras["dB"]), strict=True))
    if isinstance(x, FloatPair):
        along = sum(float(np.sum(moved * direction)) for moved, direction in pairs)
        entries = [float(np.linalg.norm(M)) for M in (x.A, x.B, x.extras["dA"], x.extras["dB"])]
        ratio = max(x.extras["ratio"][0, 0], 1.0)
        size = 8 * ratio**2 * sum(entries) ** 4 * 2**4 + 4 / step * (entries[0] * entries[2] + entries[1] * entries[3])
        return equal((slope + 4 / step * along) / size, 0.0, claim_rtol(1.0, x.shape.d))
    along = sum((m * d for moved, direction in pairs for m, d in zip(*_entries(moved, direction), strict=True)), 0)
    return equal(slope + 4 / step * along, flint.fmpq(0))


def _entries(*matrices: flint.fmpq_mat) -> tuple[list[Any], ...]:
    return tuple(matrix.entries() for matrix in matrices)


@algebraic_claim(
    "ilora-keeps-product",
    "Does the paper's update keep the adapted matrix AB, as BaLoRA's projection does?",
    kind="question",
    family=UPDATED,
    sides=("‖A₊B₊ − AB‖²", "0"),
    recorded="refuted",
    corrected_by="ilora-product-change",
)
def keeps_product(x: Any) -> Comparison:
    """Fails wherever A·D·B ≠ 0, to first order in the step unless ρ = 1 (`ilora-product-change`)."""
    dA, dB = _update(x)
    if isinstance(x, FloatPair):
        return _vanishes(x, (x.A + dA) @ (x.B + dB) - x.A @ x.B, _product_size(x))
    return _vanishes(x, (x.A + dA) * (x.B + dB) - x.A * x.B, 1.0)


@algebraic_claim(
    "ilora-product-change",
    "The paper's update changes AB by exactly −step·(1 − ρ)·A·D·B − step²·ρ·A·D²·B, D = BBᵀ − ρAᵀA.",
    kind="correction",
    family=UPDATED,
    sides=("‖A₊B₊ − AB + step·(1 − ρ)·A·D·B + step²·ρ·A·D²·B‖²", "0"),
)
def product_change(x: Any) -> Comparison:
    """Proof: A₊B₊ = A(I + step·ρD)(I − step·D)B; expand."""
    (dA, dB), D = _update(x), _difference(x)
    step, ratio = x.extras["step"][0, 0], x.extras["ratio"][0, 0]
    if isinstance(x, FloatPair):
        change = (x.A + dA) @ (x.B + dB) - x.A @ x.B
        expected = -step * (1 - ratio) * x.A @ D @ x.B - step**2 * ratio * x.A @ D @ D @ x.B
        return _vanishes(x, change - expected, _product_size(x))
    expected = x.A * D * x.B * (-step * (1 - ratio)) - x.A * D * D * x.B * (step**2 * ratio)
    return _vanishes(x, (x.A + dA) * (x.B + dB) - x.A * x.B - expected, 1.0)


def _product_size(x: FloatPair) -> float:
    """Size of the terms of A₊B₊ before anything cancels."""
    step, ratio = x.extras["step"][0, 0], x.extras["ratio"][0, 0]
    norm_A, norm_B = float(np.linalg.norm(x.A)), float(np.linalg.norm(x.B))
    growth = 1 + step * max(1.0, ratio) * (norm_B**2 + ratio * norm_A**2)
    return norm_A * norm_B * growth**2


# --- what the ratio costs -------------------------------------------------------------------------------


def _cost(x: Any) -> Any:
    """κ over κ_bal."""
    return x.kappa / x.kappa_balanced


@algebraic_claim(
    "ilora-ratio-condition-number",
    "What iLoRA's ratio, AᵀA = ρBBᵀ with ρ = m/r, costs against balance: for r < k and any ρ, κ/κ_bal = "
    "τ(τ + (τ² − 4 + 4q²)^{1/2})/(4(1 + q)), τ = ρ^{1/2} + ρ^{-1/2}, q = s_{r+1}/s_r.",
    kind="question",
    family=RATIOS,
    sides=("κ/κ_bal at AᵀA = ρBBᵀ", "closed form"),
)
def ratio_condition_number(x: Any) -> Comparison:
    """Proof: L = s₁τ against 2s₁. μ is the smaller eigenvalue of [[s_r/√ρ, −s_{r+1}], [−s_{r+1}, s_r√ρ]]: determinant
    s_r²(1 − q²) over the larger one, s_r(τ + (τ² − 4 + 4q²)^{1/2})/2.
    """
    r, t = x.shape.r, abs(x.G[0, 0])
    if isinstance(x, FloatPair):
        cost = closed_form.imbalanced_condition_number(x.s, r, t**4, (x.shape.a, x.shape.b)) / x.kappa_balanced
        return equal(_cost(x), cost, x.rounding)
    tau, q = t**2 + 1 / t**2, x.s[r] / x.s[r - 1]
    return equal(_cost(x), tau * (tau + x.sqrt(tau**2 - 4 + 4 * q**2)) / (4 * (1 + q)))


@algebraic_claim(
    "ilora-ratio-cost-lower",
    "The ratio AᵀA = ρBBᵀ costs at least (ρ + 2 + 1/ρ)/4 in κ against balance for r < k: iLoRA's ρ = m/r more than "
    "m/(4r).",
    kind="question",
    family=RATIOS,
    sides=("κ/κ_bal at AᵀA = ρBBᵀ", "(ρ + 2 + 1/ρ)/4"),
)
def ratio_cost_lower(x: Any) -> Comparison:
    """Proof: the closed form decreases with q: with w = (τ² − 4 + 4q²)^{1/2} ≥ 2q, 4q(1 + q) ≤ (τ + w)w because
    τ ≥ 2, and at q = 1 it is τ²/4. The bound exceeds 1 unless ρ = 1.
    """
    rho = x.G[0, 0] ** 4
    return at_least(_cost(x), (rho + 2 + 1 / rho) / 4, x.rounding)


@algebraic_claim(
    "ilora-ratio-cost-upper",
    "The ratio AᵀA = ρBBᵀ costs at most (1 + max(ρ, 1/ρ))/2 in κ against balance for r < k, and just that where "
    "rank Z = r: iLoRA's ρ = m/r half of 1 + m/r.",
    kind="question",
    family=RATIOS,
    sides=("κ/κ_bal at AᵀA = ρBBᵀ", "(1 + max(ρ, 1/ρ))/2"),
    tight_at=(Shape(3, 2, 1), RATIOS.parameters([2], [0], [[2]])),
)
def ratio_cost_upper(x: Any) -> Comparison:
    """Proof: the closed form decreases with q (`ilora-ratio-cost-lower`); at q = 0 it is τ·max(ρ, 1/ρ)^{1/2}/2."""
    rho = x.G[0, 0] ** 4
    return at_most(_cost(x), (1 + x.maximum(rho, 1 / rho)) / 2, x.rounding)


@algebraic_claim(
    "ilora-ratio-smallest-trace",
    "Is the trace of the Hessian, for r < k, smallest at iLoRA's ratio BBᵀ = (r/m)AᵀA?",
    kind="question",
    family=INTERIOR,
    sides=("tr H", "tr H at BBᵀ = (r/m)AᵀA"),
    recorded="refuted",
    corrected_by="smallest-trace",
)
def ratio_smallest_trace(x: Any) -> Comparison:
    """Fails for b ≠ r: the trace is smallest at BBᵀ = (b/a)AᵀA, m = a, not at r/a. With AᵀA = ρBBᵀ it is
    (bρ^{1/2} + aρ^{-1/2})(s₁ + … + s_r).
    """
    (a, b, r), number = (x.shape.a, x.shape.b, x.shape.r), float if isinstance(x, FloatPair) else flint.fmpq
    root = x.sqrt(number(a) / r)
    return at_least(x.trace, (b * root + a / root) * sum(x.s[:r]), x.rounding)


CLAIMS = (
    forward_variance,
    gram_ratio,
    gd_proportion,
    scaled_gd_proportion,
    scaled_gd_trace,
    scaled_gd_diagonal,
    scaled_gd_defect,
    gradient_constant,
    keeps_product,
    product_change,
    ratio_condition_number,
    ratio_cost_lower,
    ratio_cost_upper,
    ratio_smallest_trace,
)
