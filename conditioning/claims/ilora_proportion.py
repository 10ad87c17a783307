"""Claims of Imbalance-Regularized LoRA on what a step of GD and of scaled GD does to the ratio of the Gram matrices.

In this project's letters the adapted matrix is AB with A (a, r), B (r, b); the paper's B_i is A, its A_i is B, its m is
a, its n is b. G = ∇ℓ(AB) for any loss ℓ.
"""

import flint
import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.claims.vanishing import vanishes, vanishes_exactly
from lorakappa.conditioning.instances import (
    ANY_PAIR,
    GRADIENT_STEP,
    CanonicalMinimizers,
    ExactPair,
    Extra,
    FloatPair,
    diagonal,
    gaussian,
)
from lorakappa.conditioning.preconditioning import scaled_gradient
from lorakappa.conditioning.sources import ILORA
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, at_least, at_most, equal
from lorakappa.conditioning.verification import exact as exactly

POSITIVE_NUMBER = Extra(
    "μ", lambda s: (1, 1), lambda s, rng: 10.0 ** rng.uniform(-2, 1, (1, 1)), lambda mu: bool(1e-3 <= mu[0, 0] <= 1e3)
)
MOVED = CanonicalMinimizers("any gradient ∇ℓ(AB)", ANY_PAIR, extras=GRADIENT_STEP[:1])
PROPORTIONAL = CanonicalMinimizers(
    "BBᵀ = μAᵀA for any μ, any gradient ∇ℓ(AB)", ANY_PAIR, extras=GRADIENT_STEP[:1], scalar_gauge=True
)
ONE_INPUT = CanonicalMinimizers(
    "BBᵀ = μAᵀA and r ≤ min(a, b)/4, the gradient error·inputᵀ of ½‖f(x) − y‖² for one input x, error = f(x) − y",
    ANY_PAIR,
    where=lambda shape: 4 * shape.r <= shape.k,
    largest=8,
    extras=(gaussian("error", lambda s: (s.a, 1)), gaussian("input", lambda s: (s.b, 1))),
    scalar_gauge=True,
)
TWO_RATES = CanonicalMinimizers("any gradient ∇ℓ(AB), any μ", ANY_PAIR, extras=(*GRADIENT_STEP[:1], POSITIVE_NUMBER))


def _gram_changes(x: FloatPair, dA: Array, dB: Array) -> tuple[Array, Array]:
    """First-order changes (d(BBᵀ), d(AᵀA))."""
    return dB @ x.B.T + x.B @ dB.T, x.A.T @ dA + dA.T @ x.A


def _gram_changes_exactly(
    x: ExactPair, dA: flint.fmpq_mat, dB: flint.fmpq_mat
) -> tuple[flint.fmpq_mat, flint.fmpq_mat]:
    """First-order changes (d(BBᵀ), d(AᵀA))."""
    return dB * x.B.transpose() + x.B * dB.transpose(), x.A.transpose() * dA + dA.transpose() * x.A


@algebraic_claim(
    "ilora-gd-proportion",
    "To first order a GD step on any loss of AB changes both Gram matrices alike: d(BBᵀ) = d(AᵀA) for dA = −GBᵀ and "
    "dB = −AᵀG.",
    source=ILORA.at("Theorem 2"),
    family=MOVED,
    sides=("‖d(BBᵀ) − d(AᵀA)‖²", "0"),
)
def gd_proportion(x: FloatPair) -> Comparison:
    """Proof: both are −(AᵀGBᵀ + BGᵀA). So D changes by (1 − ρ)·d(BBᵀ): GD keeps it to first order only for ρ = 1."""
    G = x.extras["gradient"]
    for_B, for_A = _gram_changes(x, -G @ x.B.T, -x.A.T @ G)
    size = 4 * float(np.linalg.norm(x.A) * np.linalg.norm(G) * np.linalg.norm(x.B))
    return vanishes(for_B - for_A, size, x.shape)


@gd_proportion.exact
def _(x: ExactPair) -> Comparison:
    G = x.extras["gradient"]
    for_B, for_A = _gram_changes_exactly(x, -G * x.B.transpose(), -x.A.transpose() * G)
    return vanishes_exactly(for_B - for_A)


def _scaled_change(x: FloatPair, G: Array) -> tuple[Array, Array]:
    """(d(BBᵀ), d(AᵀA)) under scaled GD."""
    scaled_A, scaled_B = scaled_gradient(x.A, x.B, G @ x.B.T, x.A.T @ G)
    return _gram_changes(x, -scaled_A, -scaled_B)


def _scaled_change_exactly(x: ExactPair, G: flint.fmpq_mat) -> tuple[flint.fmpq_mat, flint.fmpq_mat]:
    """(d(BBᵀ), d(AᵀA)) under scaled GD."""
    gram_A, gram_B = x.A.transpose() * x.A, x.B * x.B.transpose()
    return _gram_changes_exactly(x, -G * x.B.transpose() * gram_B.inv(), -gram_A.inv() * x.A.transpose() * G)


def _scaled_defect(x: FloatPair, G: Array) -> tuple[Array, Array, float]:
    """d(BBᵀ) − μd(AᵀA) under scaled GD from BBᵀ = μAᵀA, K = AᵀGBᵀ, and the size of what cancels."""
    for_B, for_A = _scaled_change(x, G)
    K = x.A.T @ G @ x.B.T
    # the rounding of K, magnified by M⁻¹ and by the condition of M
    size = 8 * np.linalg.norm(x.A) * np.linalg.norm(G) * np.linalg.norm(x.B) * x.gram_A[0] / x.gram_A[-1] ** 2
    return for_B - for_A / x.G[0, 0] ** 4, K, float(size)


def _scaled_defect_exactly(x: ExactPair, G: flint.fmpq_mat) -> tuple[flint.fmpq_mat, flint.fmpq_mat]:
    """d(BBᵀ) − μd(AᵀA) under scaled GD from BBᵀ = μAᵀA, and K = AᵀGBᵀ."""
    for_B, for_A = _scaled_change_exactly(x, G)
    return for_B - for_A * (1 / x.G[0, 0] ** 4), x.A.transpose() * G * x.B.transpose()


def _outer(x: FloatPair) -> Array:
    """The gradient exᵀ."""
    return np.asarray(x.extras["error"] @ x.extras["input"].T)


@algebraic_claim(
    "ilora-scaled-gd-proportion",
    "Scaled GD, dA = −GBᵀ(BBᵀ)⁻¹ and dB = −(AᵀA)⁻¹AᵀG, keeps a ratio to first order: d(BBᵀ) ≈ μ·d(AᵀA) where "
    "BBᵀ = μAᵀA, r ≪ min(a, b) and G = exᵀ; read as: up to an error of at most half of ‖d(BBᵀ)‖.",
    source=ILORA.at("Theorem 3"),
    family=ONE_INPUT,
    sides=("‖d(BBᵀ) − μ·d(AᵀA)‖²", "‖d(BBᵀ)‖²/4"),
    recorded="refuted",
    corrected_by="lora-plus-keeps-proportion",
)
def scaled_gd_proportion(x: FloatPair) -> Comparison:
    """Fails for r ≥ 2: with K = AᵀGBᵀ and M = AᵀA the left side is −(M⁻¹K + KᵀM⁻¹), the right one −(KM⁻¹ + M⁻¹Kᵀ).
    They differ by the commutator of K − Kᵀ with M⁻¹ (`ilora-scaled-gd-defect`). The last step of the paper's proof
    overlooks it: Σ and Σ⁻¹ change places there. For r = 1 all of it commutes.
    """
    (defect, _, size), (change, _) = _scaled_defect(x, _outer(x)), _scaled_change(x, _outer(x))
    left, right = float(np.linalg.norm(defect)), float(np.linalg.norm(change))
    return at_most((left / (size or 1.0)) ** 2, (right / 2 / (size or 1.0)) ** 2, claim_rtol(1.0, x.shape.d))


@scaled_gd_proportion.exact
def _(x: ExactPair) -> Comparison:
    gradient = x.extras["error"] * x.extras["input"].transpose()
    defect, _ = _scaled_defect_exactly(x, gradient)
    change, _ = _scaled_change_exactly(x, gradient)
    return at_most(2 * exactly.half_square(defect), exactly.half_square(change) / 2)


@algebraic_claim(
    "ilora-scaling-needed",
    "Are preconditioners needed to keep a ratio: under GD with a learning rate for A and one for B, whatever the two, "
    "does d(BBᵀ) miss μ·d(AᵀA) by half of ‖d(BBᵀ)‖ or more?",
    source=ILORA.at("Remark 3, scaling needed"),
    kind="question",
    family=TWO_RATES,
    sides=("‖d(BBᵀ) − μ·d(AᵀA)‖² for η_B = μη_A", "‖d(BBᵀ)‖²/4"),
    recorded="refuted",
    corrected_by="lora-plus-keeps-proportion",
)
def scaling_needed(x: FloatPair) -> Comparison:
    """Fails for η_B = μη_A, at every pair and for every loss."""
    for_B, for_A, size = _two_rates(x)
    missed = float(np.linalg.norm(for_B - float(x.extras["μ"][0, 0]) * for_A)) / (size or 1.0)
    return at_least(missed**2, (float(np.linalg.norm(for_B)) / (size or 1.0) / 2) ** 2, claim_rtol(1.0, x.shape.d))


@scaling_needed.exact
def _(x: ExactPair) -> Comparison:
    for_B, for_A = _two_rates_exactly(x)
    return at_least(2 * exactly.half_square(for_B - for_A * x.extras["μ"][0, 0]), exactly.half_square(for_B) / 2)


@algebraic_claim(
    "lora-plus-keeps-proportion",
    "Two learning rates do what scaled GD does not: with η_B = μη_A a GD step on any loss of AB, from any pair, has "
    "d(BBᵀ) = μ·d(AᵀA) to first order. For iLoRA's ratio that is LoRA+ with η_A/η_B = a/r.",
    kind="correction",
    family=TWO_RATES,
    sides=("‖d(BBᵀ) − μ·d(AᵀA)‖²", "0"),
)
def two_rates_keep_proportion(x: FloatPair) -> Comparison:
    """Proof: d(AᵀA) = −η_A(K + Kᵀ) and d(BBᵀ) = −η_B(K + Kᵀ) with K = AᵀGBᵀ (`ilora-gd-proportion`)."""
    for_B, for_A, size = _two_rates(x)
    return vanishes(for_B - float(x.extras["μ"][0, 0]) * for_A, size, x.shape)


@two_rates_keep_proportion.exact
def _(x: ExactPair) -> Comparison:
    for_B, for_A = _two_rates_exactly(x)
    return vanishes_exactly(for_B - for_A * x.extras["μ"][0, 0])


def _two_rates(x: FloatPair) -> tuple[Array, Array, float]:
    """(d(BBᵀ), d(AᵀA)) under GD with η_A = 1 and η_B = μ, and the size of what cancels in d(BBᵀ) − μd(AᵀA)."""
    G, mu = x.extras["gradient"], float(x.extras["μ"][0, 0])
    for_B, for_A = _gram_changes(x, -G @ x.B.T, -mu * x.A.T @ G)
    return for_B, for_A, 4 * mu * float(np.linalg.norm(x.A) * np.linalg.norm(G) * np.linalg.norm(x.B))


def _two_rates_exactly(x: ExactPair) -> tuple[flint.fmpq_mat, flint.fmpq_mat]:
    """(d(BBᵀ), d(AᵀA)) under GD with η_A = 1 and η_B = μ."""
    G, mu = x.extras["gradient"], x.extras["μ"][0, 0]
    return _gram_changes_exactly(x, -G * x.B.transpose(), x.A.transpose() * G * -mu)


@algebraic_claim(
    "ilora-scaled-gd-trace",
    "Under scaled GD the traces keep the ratio to first order: tr d(BBᵀ) = μ·tr d(AᵀA) where BBᵀ = μAᵀA.",
    kind="correction",
    family=PROPORTIONAL,
    sides=("tr d(BBᵀ) − μ·tr d(AᵀA)", "0"),
)
def scaled_gd_trace(x: FloatPair) -> Comparison:
    """Proof: both traces are −2 tr(M⁻¹K), M = AᵀA and K = AᵀGBᵀ. So ‖B‖² = μ‖A‖² is kept."""
    defect, _, size = _scaled_defect(x, x.extras["gradient"])
    return equal(float(np.trace(defect)) / (size or 1.0), 0.0, claim_rtol(1.0, x.shape.d))


@scaled_gd_trace.exact
def _(x: ExactPair) -> Comparison:
    defect, _ = _scaled_defect_exactly(x, x.extras["gradient"])
    return equal(sum((defect[i, i] for i in range(x.shape.r)), flint.fmpq(0)), flint.fmpq(0))


@algebraic_claim(
    "ilora-scaled-gd-diagonal",
    "In the common eigenbasis of AᵀA and BBᵀ = μAᵀA the diagonals of d(BBᵀ) and μ·d(AᵀA) under scaled GD agree.",
    kind="correction",
    family=PROPORTIONAL,
    sides=("‖diagonal of d(BBᵀ) − μ·d(AᵀA)‖²", "0"),
)
def scaled_gd_diagonal(x: FloatPair) -> Comparison:
    """Proof: the diagonal of a commutator with a diagonal matrix is 0 (`ilora-scaled-gd-defect`). So, to first order,
    the eigenvalues keep the ratio where they are distinct, and only the eigenvectors of the Gram matrices part.
    """
    defect, _, size = _scaled_defect(
        x, x.extras["gradient"]
    )  # instances have the gauge tI: AᵀA = t²S is diagonal in every outer frame
    return vanishes(np.diag(defect), size, x.shape)


@scaled_gd_diagonal.exact
def _(x: ExactPair) -> Comparison:
    r, (defect, _) = x.shape.r, _scaled_defect_exactly(x, x.extras["gradient"])
    return vanishes_exactly(diagonal(r, r, [defect[i, i] for i in range(r)]))


@algebraic_claim(
    "ilora-scaled-gd-defect",
    "What scaled GD adds to the ratio to first order is a commutator: where BBᵀ = μAᵀA, d(BBᵀ) − μ·d(AᵀA) = "
    "(K − Kᵀ)M⁻¹ − M⁻¹(K − Kᵀ) with K = AᵀGBᵀ and M = AᵀA.",
    kind="correction",
    family=PROPORTIONAL,
    sides=("‖d(BBᵀ) − μ·d(AᵀA) − (K − Kᵀ)M⁻¹ + M⁻¹(K − Kᵀ)‖²", "0"),
)
def scaled_gd_defect(x: FloatPair) -> Comparison:
    """Proof: μ(BBᵀ)⁻¹ = M⁻¹, so d(BBᵀ) = −(M⁻¹K + KᵀM⁻¹) and μ·d(AᵀA) = −(KM⁻¹ + M⁻¹Kᵀ)."""
    defect, K, size = _scaled_defect(x, x.extras["gradient"])
    inverse, skew = np.linalg.inv(x.A.T @ x.A), K - K.T
    return vanishes(defect - skew @ inverse + inverse @ skew, size, x.shape)


@scaled_gd_defect.exact
def _(x: ExactPair) -> Comparison:
    defect, K = _scaled_defect_exactly(x, x.extras["gradient"])
    inverse, skew = (x.A.transpose() * x.A).inv(), K - K.transpose()
    return vanishes_exactly(defect - skew * inverse + inverse * skew)


CLAIMS = (
    gd_proportion,
    scaled_gd_proportion,
    scaling_needed,
    two_rates_keep_proportion,
    scaled_gd_trace,
    scaled_gd_diagonal,
    scaled_gd_defect,
)
