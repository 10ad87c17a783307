"""Claims on the weighted loss ½‖C(AB − Z)D‖², the simplest one at which balance is not the best gauge.

Instances fit their target, Z = AB. The trace of the Hessian, ‖C‖²‖BD‖² + ‖D‖²‖CA‖², does not depend on Z at all.
"""

import flint
import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances import Number
from lorakappa.conditioning.instances.interpolating import ExactInterpolatingPair, FloatInterpolatingPair
from lorakappa.conditioning.instances.weighted import WEIGHTED, WEIGHTED_INTERIOR, WEIGHTED_RANK_1
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, at_most, exact

UNWEIGHTED = [[1, 0], [0, 1]]


def _in_frame(x: FloatInterpolatingPair) -> tuple[Array, Array]:
    """C and D for A and B in the frame of the instance."""
    left, right = x._frames
    return x.extras["C"] @ left.T, right @ x.extras["D"]


def _norm(M: flint.fmpq_mat) -> exact.Exact:
    """‖M‖_F."""
    return exact.sqrt(2 * exact.half_square(M))


def _squares(M: flint.fmpq_mat) -> list[exact.Exact]:
    """Squared singular values of M, ascending, as many as it has columns."""
    return exact.eigenvalues(M.transpose() * M)


@algebraic_claim(
    "weighted-balanced-smallest-trace",
    "For a = b balance has the smallest trace in Model 1. In the weighted model, too?",
    kind="question",
    family=WEIGHTED,
    sides=("tr H", "tr H at balance"),
    recorded="refuted",
    corrected_by="weighted-smallest-trace",
)
def balanced_smallest_trace(x: FloatInterpolatingPair) -> Comparison:
    """Fails: the data see CA and BD, and these are not balanced where A and B are."""
    return at_least(float(np.trace(x.hessian)), float(np.trace(x.balanced().hessian)), x.rounding)


@balanced_smallest_trace.exact
def _(x: ExactInterpolatingPair) -> Comparison:
    return at_least(x.trace, x.balanced().trace)


@algebraic_claim(
    "weighted-smallest-trace",
    "In the weighted model tr H ≥ 2‖C‖‖D‖·‖CABD‖_*.",
    kind="correction",
    family=WEIGHTED,
    sides=("tr H", "2‖C‖‖D‖·‖CABD‖_*"),
    tight_at=(Shape(2, 2, 1), WEIGHTED.parameters([1], [0], [[1]], C=UNWEIGHTED, D=UNWEIGHTED)),
)
def smallest_trace(x: FloatInterpolatingPair) -> Comparison:
    """Proof: tr H = ‖C‖²‖BD‖² + ‖D‖²‖CA‖² ≥ 2‖C‖‖D‖·‖CA‖‖BD‖ and ‖CA‖‖BD‖ ≥ ‖CABD‖_* (Hölder). Equality where
    (CA)ᵀCA/‖C‖² = BD(BD)ᵀ/‖D‖²; C = I and D = I give `smallest-trace`.
    """
    C, D = _in_frame(x)
    nuclear = np.linalg.svd(C @ x.A @ x.B @ D, compute_uv=False).sum()
    bound = 2 * np.linalg.norm(C) * np.linalg.norm(D) * nuclear
    return at_least(float(np.trace(x.hessian)), float(bound), x.rounding)


@smallest_trace.exact
def _(x: ExactInterpolatingPair) -> Comparison:
    C, D = x.extras["C"], x.extras["D"]
    CA, BD = C * x.A, x.B * D
    # the non-zero σ(CABD)² are the eigenvalues of (CA)ᵀCA·BD(BD)ᵀ
    squares = exact.eigenvalues(CA.transpose() * CA * (BD * BD.transpose()))
    nuclear = sum((exact.sqrt(value) for value in squares), flint.fmpq(0))
    return at_least(x.trace, 2 * _norm(C) * _norm(D) * nuclear)


@algebraic_claim(
    "weighted-balance-trace-cost",
    "How much does balance lose in the trace for r = 1? At most the factor (ρ + 1/ρ)/2, which is attained, with ρ the "
    "larger one of ‖C‖σ₁(D)/(‖D‖σ_a(C)) and ‖D‖σ₁(C)/(‖C‖σ_b(D)).",
    kind="question",
    family=WEIGHTED_RANK_1,
    sides=("tr H at balance over the smallest one", "(ρ + 1/ρ)/2"),
    tight_at=(Shape(1, 2, 1), WEIGHTED_RANK_1.parameters([1], [], [[1]], C=[[1]], D=[[3, 0], [0, 4]])),
)
def balance_trace_cost(x: FloatInterpolatingPair) -> Comparison:
    """Proof: at balance A = s^{1/2}u, B = s^{1/2}vᵀ with unit u and v, and tr H = s(‖C‖²‖Dᵀv‖² + ‖D‖²‖Cu‖²) against
    2s‖C‖‖D‖‖Cu‖‖Dᵀv‖: the factor is (t + 1/t)/2 with t = ‖C‖‖Dᵀv‖/(‖D‖‖Cu‖), which grows with |log t|. Both ends of the
    range of t are attained at singular vectors of C and D.
    """
    balanced = x.balanced()
    C, D = _in_frame(balanced)
    CA, BD = np.linalg.norm(C @ balanced.A), np.linalg.norm(balanced.B @ D)
    smallest = 2 * np.linalg.norm(C) * np.linalg.norm(D) * CA * BD
    sigma_C, sigma_D = np.linalg.svd(C, compute_uv=False), np.linalg.svd(D, compute_uv=False)
    ratio = np.linalg.norm(C) / np.linalg.norm(D)
    rho = max(ratio * sigma_D[0] / sigma_C[-1], sigma_C[0] / sigma_D[-1] / ratio)
    return at_most(float(np.trace(balanced.hessian) / smallest), float(rho + 1 / rho) / 2, x.rounding)


@balance_trace_cost.exact
def _(x: ExactInterpolatingPair) -> Comparison:
    C, D = x.extras["C"], x.extras["D"]
    balanced = x.balanced()
    smallest = 2 * _norm(C) * _norm(D) * _norm(C * balanced.A) * _norm(balanced.B * D)
    of_C, of_D = _squares(C), _squares(D)
    ratio = _norm(C) / _norm(D)
    rho = exact.maximum(ratio * exact.sqrt(of_D[-1] / of_C[0]), exact.sqrt(of_C[-1] / of_D[0]) / ratio)
    return at_most(balanced.trace / smallest, (rho + 1 / rho) / 2)


@algebraic_claim(
    "weighted-balanced-optimal",
    "For r < min(a, b) balance is optimally conditioned in Model 1. In the weighted model, too: κ ≥ κ at balance?",
    kind="question",
    family=WEIGHTED_INTERIOR,
    sides=("κ", "κ at balance"),
    recorded="refuted",
    corrected_by="weighted-condition-number-bound",
)
def balanced_optimal(x: FloatInterpolatingPair) -> Comparison:
    """Fails: it is Model 2 with J = C ⊗ Dᵀ, whose weights an imbalance can undo."""
    return at_least(x.kappa, x.balanced().kappa, max(x.rounding, x.balanced().rounding))


@algebraic_claim(
    "weighted-condition-number-bound",
    "In the weighted model with rank Z = r < min(a, b), κ ≥ 2σ₁(CZD)/σ_r(CZD) · min(σ_a(C), σ_b(D))²/max(σ₁(C), "
    "σ₁(D))² in every gauge.",
    kind="correction",
    family=WEIGHTED_INTERIOR,
    sides=("κ", "bound"),
    tight_at=(Shape(2, 2, 1), WEIGHTED_INTERIOR.parameters([1], [0], [[1]], C=UNWEIGHTED, D=UNWEIGHTED)),
)
def condition_number_bound(x: FloatInterpolatingPair) -> Comparison:
    """Proof: H = ΨᵀH̃Ψ with Ψ(dA, dB) = (C·dA, dB·D) and H̃ Model 1's Hessian at (CA, BD) with target CZD. By Ostrowski's
    theorem each eigenvalue of H is one of H̃ times a number between the extreme σ(C)² and σ(D)², and κ of H̃ is at least
    2s₁/s_r of its target (`balanced-optimal-model1`).
    """
    C, D = _in_frame(x)
    s = np.linalg.svd(C @ x.A @ x.B @ D, compute_uv=False)
    sigma_C, sigma_D = np.linalg.svd(C, compute_uv=False), np.linalg.svd(D, compute_uv=False)
    spread = min(sigma_C[-1], sigma_D[-1]) / max(sigma_C[0], sigma_D[0])
    return at_least(x.kappa, float(2 * s[0] / s[x.shape.r - 1] * spread**2), x.rounding)


@condition_number_bound.exact
def _(x: ExactInterpolatingPair) -> Comparison:
    C, D = x.extras["C"], x.extras["D"]
    squares = _squares(C * x.product * D)[-x.shape.r :]
    of_C, of_D = _squares(C), _squares(D)
    spread: Number = exact.minimum(of_C[0], of_D[0]) / exact.maximum(of_C[-1], of_D[-1])
    return at_least(x.kappa, 2 * exact.sqrt(squares[-1] / squares[0]) * spread)


CLAIMS = (
    balanced_smallest_trace,
    smallest_trace,
    balance_trace_cost,
    balanced_optimal,
    condition_number_bound,
)
