"""The static claims of the theory, by id: one file per topic, proofs or counterexamples in the docstrings.

A claim is a function that compares two sides at an instance; the decorator says what it means, the docstring is the
proof or says where it fails. Where both sides are quantities that every instance offers (`instances.Pair` lists them),
one function serves floating and exact instances; `rounding` is the tolerance, which is 0 in exact arithmetic:

    @algebraic_claim("largest-product", "σ₁(A)²·σ₁(B)² ≥ s₁² at every minimizer.", family=MINIMIZERS)
    def largest_product(x: Pair) -> Comparison:
        "Proof: s₁ = ‖AB‖₂ ≤ ‖A‖₂‖B‖₂."
        return at_least(x.gram_A[0] * x.gram_B[0], x.s[0] ** 2, x.rounding)

Where matrices are multiplied, floats (NumPy) and rationals (python-flint) are written differently. Then the decorated
function is the one for floats, and a second one, registered right below, decides exactly:

    @algebraic_claim("gram-trace", "tr(AᵀA·BBᵀ) = s₁² + … + s_r² at every minimizer.", family=MINIMIZERS)
    def gram_trace(x: FloatPair) -> Comparison:
        "Proof: it is ‖AB‖²."
        return equal(np.trace(x.A.T @ x.A @ x.B @ x.B.T), sum(x.s[: x.shape.r] ** 2), x.rounding)

    @gram_trace.exact
    def _(x: ExactPair) -> Comparison:
        product = x.A.transpose() * x.A * x.B * x.B.transpose()
        return equal(sum(product[i, i] for i in range(x.shape.r)), sum(s**2 for s in x.s[: x.shape.r]))

With `has_exact=False` a claim is compared in floats only; then it cannot be refuted. To add a claim, write it in the
file of its topic and name it in that file's CLAIMS: `list`, `verify`, `replay` and the tests find it there.
"""

from lorakappa.conditioning.claims import (
    adapters,
    fisher_gauge,
    gauge_independence,
    ilora_entry_variances,
    ilora_freedom,
    ilora_other_tables,
    ilora_proportion,
    ilora_ratio,
    ilora_tables,
    ilora_update,
    ilora_variances,
    intrinsic_steps,
    model1_bounds,
    model1_optimality,
    model1_spectrum,
    model2,
    nearest_balanced_pair,
    optimal_gauge,
    preconditioning,
    projected_training,
    projection,
    projection_retraction,
    weighted,
)
from lorakappa.conditioning.verification import registry

CLAIMS = registry(
    model1_spectrum.CLAIMS,
    model1_bounds.CLAIMS,
    model1_optimality.CLAIMS,
    model2.CLAIMS,
    adapters.CLAIMS,
    projection.CLAIMS,
    projection_retraction.CLAIMS,
    nearest_balanced_pair.CLAIMS,
    projected_training.CLAIMS,
    intrinsic_steps.CLAIMS,
    gauge_independence.CLAIMS,
    ilora_variances.CLAIMS,
    ilora_entry_variances.CLAIMS,
    ilora_proportion.CLAIMS,
    ilora_update.CLAIMS,
    ilora_ratio.CLAIMS,
    ilora_tables.CLAIMS,
    ilora_other_tables.CLAIMS,
    ilora_freedom.CLAIMS,
    preconditioning.CLAIMS,
    optimal_gauge.CLAIMS,
    weighted.CLAIMS,
    fisher_gauge.CLAIMS,
)
