"""Claims on what the variances of the factors' entries decide: the theorem of iLoRA's paper taken at its word.

In this project's letters the adapted matrix is AB with A (a, r), B (r, b); the paper's B is A, its A is B, its m is a,
its n is b. `claims.ilora_variances` measures the theorem as it is meant, with σ_A² = 1/r and σ_B² = 1/b.
"""

from fractions import Fraction

import flint
import numpy as np

from lorakappa.conditioning.instances import ANY_PAIR, CanonicalMinimizers, ExactPair, FloatPair, Pair
from lorakappa.conditioning.instances.entry_variances import BoundedVariances, EntryVariances
from lorakappa.conditioning.sources import ILORA
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, Shape, algebraic_claim, at_least, at_most, equal
from lorakappa.conditioning.verification import exact as exactly

ABOVE = BoundedVariances()
BETWEEN = BoundedVariances(floored=True)
UNPENALIZED = CanonicalMinimizers("BBᵀ = μAᵀA for any μ", ANY_PAIR, scalar_gauge=True)


@algebraic_claim(
    "ilora-forward-variance-upper-only",
    "With σ_A² = O(1/r) and σ_B² = O(1/b) the variance of ABx is of constant order, whatever the dimensions: at "
    "constant 1 in both, at least a tenth of that of x.",
    source=ILORA.at("Theorem 1"),
    family=ABOVE,
    sides=("10 times the variance of (ABx)_i", "that of x_i"),
    recorded="refuted",
    corrected_by="ilora-forward-variance-order",
)
def upper_only(x: EntryVariances) -> Comparison:
    """Fails: O bounds from above only. σ_B² = 1/b² is O(1/b), and the signal dies like 1/b; the same for any fraction
    in place of a tenth.
    """
    return at_least(10 * x.after_AB, 1, claim_rtol(1.0, 1))


@algebraic_claim(
    "ilora-forward-variance-order",
    "With c/r ≤ σ_A² ≤ 1/r and c/b ≤ σ_B² ≤ 1/b, Θ in place of O, the variance of ABx is at least c² that of x, "
    "whatever the dimensions.",
    kind="correction",
    family=BETWEEN,
    sides=("variance of (ABx)_i over that of x_i", "c²"),
    tight_at=(Shape(3, 2, 2), (Fraction(1, 2), Fraction(1, 2), Fraction(1, 2))),
)
def forward_order(x: EntryVariances) -> Comparison:
    """Proof: it is rσ_A²·bσ_B² (`ilora-forward-variance`); in the same way it is at most 1."""
    return at_least(x.after_AB, x.floor**2, claim_rtol(1.0, 1))


@algebraic_claim(
    "ilora-gram-ratio-upper-only",
    "With σ_A² = O(1/r) and σ_B² = O(1/b), E BBᵀ = μ·E AᵀA with μ = O(r/a): at constant 1 in both, μ ≤ 4r/a.",
    source=ILORA.at("Corollary 1"),
    family=ABOVE,
    sides=("μ·a/r", "4"),
    recorded="refuted",
    corrected_by="ilora-gram-ratio-order",
)
def ratio_upper_only(x: EntryVariances) -> Comparison:
    """Fails: μ = (r/a)·bσ_B²/(rσ_A²) has σ_A² in its denominator, which nothing bounds from below. σ_A² = 1/(ra) is
    O(1/r) and gives μ = r at σ_B² = 1/b; the same for any constant in place of 4.
    """
    return at_most(x.gram_ratio * x.shape.a / x.shape.r, 4, claim_rtol(1.0, 1))


@algebraic_claim(
    "ilora-gram-ratio-order",
    "With c/r ≤ σ_A² ≤ 1/r and c/b ≤ σ_B² ≤ 1/b, Θ in place of O, E BBᵀ = μ·E AᵀA with μ ≤ (1/c)·r/a.",
    kind="correction",
    family=BETWEEN,
    sides=("μ·a/r", "1/c"),
    tight_at=(Shape(3, 2, 2), (Fraction(1, 2), Fraction(1), Fraction(1, 2))),
)
def ratio_order(x: EntryVariances) -> Comparison:
    """Proof: bσ_B² ≤ 1 and rσ_A² ≥ c; in the same way μ ≥ c·r/a. So r/a is the ratio's order, its constant is free."""
    return at_most(x.gram_ratio * x.shape.a / x.shape.r, 1 / x.floor, claim_rtol(1.0, 1))


@algebraic_claim(
    "ilora-entry-variances-suffice",
    "During training it is enough to control the variances of the entries: they decide the variance of ABx, "
    "rσ_A²·bσ_B² that of x.",
    source=ILORA.at("Section 4.1, sufficient"),
    family=ABOVE,
    sides=("variance of (ABx)_i for A = σ_A·uvᵀ, B = σ_B·vwᵀ, random signs", "rσ_A²·bσ_B²"),
    recorded="refuted",
    corrected_by="ilora-forward-variance",
)
def entry_variances_suffice(x: EntryVariances) -> Comparison:
    """Fails for r ≥ 2: factors that were trained together are not independent. Aligned as here, with the same variances
    of the entries, they have r times the signal; with independent entries it is true.
    """
    return equal(x.after_aligned_AB, x.after_AB, claim_rtol(1.0, 1))


@algebraic_claim(
    "ilora-penalty-fixes-variance",
    "The regularizer keeps the variance of the activations stable: where it vanishes, BBᵀ = μAᵀA, that of ABx, "
    "averaged over its entries, is at most 10 times that of x.",
    source=ILORA.at("Abstract, activation variance"),
    family=UNPENALIZED,
    sides=("‖AB‖²/a", "10"),
    recorded="refuted",
    corrected_by="ilora-penalty-leaves-scale",
)
def penalty_fixes_variance(x: Pair) -> Comparison:
    """Fails: (cA, cB) has no penalty either, and c⁴ times the variance. It is the ratio of the two factors that the
    regularizer knows, not their size; the same for any bound in place of 10, and from below.
    """
    return at_most(sum(s**2 for s in x.s[: x.shape.r]) / x.shape.a, 10, x.rounding)


@algebraic_claim(
    "ilora-penalty-leaves-scale",
    "Where the regularizer vanishes, BBᵀ = μAᵀA, the variance of ABx follows the fourth power of A's size: "
    "‖AB‖² = μ‖AᵀA‖².",
    kind="correction",
    family=UNPENALIZED,
    sides=("‖AB‖²", "μ‖AᵀA‖²"),
)
def penalty_leaves_scale(x: FloatPair) -> Comparison:
    """Proof: ‖AB‖² = tr(AᵀA·BBᵀ) = μ tr (AᵀA)². For entries of x of variance 1, ‖AB‖²/a is the mean of the variances
    of (ABx)_i.
    """
    gram = x.A.T @ x.A
    return equal(float(np.linalg.norm(x.A @ x.B) ** 2), float(np.sum(gram**2)) / x.G[0, 0] ** 4, x.rounding)


@penalty_leaves_scale.exact
def _(x: ExactPair) -> Comparison:
    gram: flint.fmpq_mat = x.A.transpose() * x.A
    return equal(2 * exactly.half_square(x.A * x.B), 2 * exactly.half_square(gram) / x.G[0, 0] ** 4)


CLAIMS = (
    upper_only,
    forward_order,
    ratio_upper_only,
    ratio_order,
    entry_variances_suffice,
    penalty_fixes_variance,
    penalty_leaves_scale,
)
