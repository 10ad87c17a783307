"""Claims on the update of Imbalance-Regularized LoRA: which gradient it follows, and what it does to AB.

In this project's letters the adapted matrix is AB with A (a, r), B (r, b); the paper's B_i is A, its A_i is B, its m is
a, its n is b. D = BBᵀ − ρAᵀA.
"""

import flint
import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.claims.vanishing import vanishes, vanishes_exactly
from lorakappa.conditioning.imbalance_regularization import imbalance, imbalance_penalty, penalty_step
from lorakappa.conditioning.instances import (
    ANY_PAIR,
    CanonicalMinimizers,
    ExactPair,
    Extra,
    FloatPair,
    Number,
    gaussian,
)
from lorakappa.conditioning.sources import ILORA
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, equal
from lorakappa.conditioning.verification import exact as exactly

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

PENALIZED = CanonicalMinimizers("any ratio ρ, any direction (dA, dB)", ANY_PAIR, extras=(RATIO, STEP, *DIRECTION))
UPDATED = CanonicalMinimizers("any ratio ρ, any step", ANY_PAIR, extras=(RATIO, STEP))


def _update(x: FloatPair) -> tuple[Array, Array]:
    """The paper's update (A₊ − A, B₊ − B)."""
    new_A, new_B = penalty_step(x.A, x.B, step=x.extras["step"][0, 0], ratio=x.extras["ratio"][0, 0])
    return new_A - x.A, new_B - x.B


def _update_exactly(x: ExactPair) -> tuple[flint.fmpq_mat, flint.fmpq_mat]:
    """The paper's update (A₊ − A, B₊ − B) = (step·ρ·AD, −step·DB)."""
    step, ratio, D = x.extras["step"][0, 0], x.extras["ratio"][0, 0], _difference_exactly(x, x.A, x.B)
    return x.A * D * (step * ratio), D * x.B * -step


def _difference_exactly(x: ExactPair, A: flint.fmpq_mat, B: flint.fmpq_mat) -> flint.fmpq_mat:
    """D = BBᵀ − ρAᵀA."""
    return B * B.transpose() - A.transpose() * A * x.extras["ratio"][0, 0]


@algebraic_claim(
    "ilora-gradient",
    "The paper's update, −step·(−ρAD, DB) with D = BBᵀ − ρAᵀA, is a gradient step on its regularizer R = ‖D‖²: it is "
    "−step·∇R.",
    source=ILORA.at("Section 5, gradients of R"),
    family=PENALIZED,
    sides=("dR along (dA, dB)", "−(1/step) times the update's component along it"),
    recorded="refuted",
    corrected_by="ilora-gradient-constant",
)
def gradient(x: FloatPair) -> Comparison:
    """Fails wherever D ≠ 0: ∇R is 4 times as long. A weight λ in the paper's update is λ/4 in the loss."""
    slope, along, size = _slope_and_component(x)
    return equal(slope / size, -along / size, claim_rtol(1.0, x.shape.d))


@gradient.exact
def _(x: ExactPair) -> Comparison:
    slope, along = _slope_and_component_exactly(x)
    return equal(slope, -along)


@algebraic_claim(
    "ilora-gradient-constant",
    "The paper's update is a gradient step on a quarter of its regularizer R = ‖BBᵀ − ρAᵀA‖²: it is −(step/4)∇R.",
    kind="correction",
    family=PENALIZED,
    sides=("dR along (dA, dB), less −(4/step) times the update's component along it", "0"),
)
def gradient_constant(x: FloatPair) -> Comparison:
    """Proof: dR = 2⟨D, dD⟩ = 4⟨D·B, dB⟩ − 4ρ⟨A·D, dA⟩. So a weight λ in the update is a weight λ/4 of R in the loss.

    Here dR is the five-point difference of R itself, which is exact for polynomials of degree 4.
    """
    slope, along, size = _slope_and_component(x)
    return equal((slope + 4 * along) / size, 0.0, claim_rtol(1.0, x.shape.d))


@gradient_constant.exact
def _(x: ExactPair) -> Comparison:
    slope, along = _slope_and_component_exactly(x)
    return equal(slope + 4 * along, flint.fmpq(0))


def _slope_and_component(x: FloatPair) -> tuple[float, float, float]:
    """The change dR along (dA, dB), 1/step times the update's component along it, and the size of their terms."""
    step, ratio, dA, dB = (x.extras[name] for name in ("step", "ratio", "dA", "dB"))
    step, ratio = step[0, 0], ratio[0, 0]
    slope = _five_point_slope({t: float(imbalance_penalty(x.A + dA * t, x.B + dB * t, ratio)) for t in (-2, -1, 1, 2)})
    along = sum(float(np.sum(moved * direction)) for moved, direction in zip(_update(x), (dA, dB), strict=True))
    norms = [float(np.linalg.norm(M)) for M in (x.A, x.B, dA, dB)]
    size = 8 * max(ratio, 1.0) ** 2 * sum(norms) ** 4 * 2**4 + 4 / step * (norms[0] * norms[2] + norms[1] * norms[3])
    return slope, along / step, size


def _slope_and_component_exactly(x: ExactPair) -> tuple[flint.fmpq, flint.fmpq]:
    """The change dR along (dA, dB), and 1/step times the update's component along it."""
    step, dA, dB = x.extras["step"][0, 0], x.extras["dA"], x.extras["dB"]
    slope = _five_point_slope(
        {t: 2 * exactly.half_square(_difference_exactly(x, x.A + dA * t, x.B + dB * t)) for t in (-2, -1, 1, 2)}
    )
    moved = [entry for M in _update_exactly(x) for entry in M.entries()]
    direction = dA.entries() + dB.entries()
    return slope, sum((m * d for m, d in zip(moved, direction, strict=True)), flint.fmpq(0)) / step


def _five_point_slope(values: dict[int, Number]) -> Number:
    """Derivative at 0 from the values at ±1 and ±2, exact for polynomials of degree 4."""
    return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / 12


@algebraic_claim(
    "ilora-keeps-product",
    "Does the paper's update keep the adapted matrix AB, as BaLoRA's projection does?",
    kind="question",
    family=UPDATED,
    sides=("‖A₊B₊ − AB‖²", "0"),
    recorded="refuted",
    corrected_by="ilora-product-change",
)
def keeps_product(x: FloatPair) -> Comparison:
    """Fails wherever A·D·B ≠ 0, to first order in the step unless ρ = 1 (`ilora-product-change`)."""
    dA, dB = _update(x)
    return vanishes((x.A + dA) @ (x.B + dB) - x.A @ x.B, _product_size(x), x.shape)


@keeps_product.exact
def _(x: ExactPair) -> Comparison:
    dA, dB = _update_exactly(x)
    return vanishes_exactly((x.A + dA) * (x.B + dB) - x.A * x.B)


@algebraic_claim(
    "ilora-product-change",
    "The paper's update changes AB by exactly −step·(1 − ρ)·A·D·B − step²·ρ·A·D²·B, D = BBᵀ − ρAᵀA.",
    kind="correction",
    family=UPDATED,
    sides=("‖A₊B₊ − AB + step·(1 − ρ)·A·D·B + step²·ρ·A·D²·B‖²", "0"),
)
def product_change(x: FloatPair) -> Comparison:
    """Proof: A₊B₊ = A(I + step·ρD)(I − step·D)B; expand."""
    step, ratio = x.extras["step"][0, 0], x.extras["ratio"][0, 0]
    (dA, dB), D = _update(x), imbalance(x.A, x.B, ratio)
    change = (x.A + dA) @ (x.B + dB) - x.A @ x.B
    expected = -step * (1 - ratio) * x.A @ D @ x.B - step**2 * ratio * x.A @ D @ D @ x.B
    return vanishes(change - expected, _product_size(x), x.shape)


@product_change.exact
def _(x: ExactPair) -> Comparison:
    step, ratio = x.extras["step"][0, 0], x.extras["ratio"][0, 0]
    (dA, dB), D = _update_exactly(x), _difference_exactly(x, x.A, x.B)
    expected = x.A * D * x.B * (-step * (1 - ratio)) - x.A * D * D * x.B * (step**2 * ratio)
    return vanishes_exactly((x.A + dA) * (x.B + dB) - x.A * x.B - expected)


def _product_size(x: FloatPair) -> float:
    """Size of the terms of A₊B₊ before anything cancels."""
    step, ratio = x.extras["step"][0, 0], x.extras["ratio"][0, 0]
    norm_A, norm_B = float(np.linalg.norm(x.A)), float(np.linalg.norm(x.B))
    growth = 1 + step * max(1.0, ratio) * (norm_B**2 + ratio * norm_A**2)
    return norm_A * norm_B * growth**2


CLAIMS = (
    gradient,
    gradient_constant,
    keeps_product,
    product_change,
)
