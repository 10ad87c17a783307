"""The static claims of the theory, by id: one file per topic, proofs or counterexamples in the docstrings.

A claim is a function that compares two sides at an instance; its docstring is the proof, or says where it fails. Where
both sides are quantities that every instance offers (`conditioning.instances.Pair`), one function serves floating and
exact instances:

    @algebraic_claim(
        "norm-product",
        "σ₁(A)²·σ₁(B)² ≥ s₁² at every minimizer.",
        family=MINIMIZERS,
        sides=("σ₁(A)²·σ₁(B)²", "s₁²"),
    )
    def norm_product(x: Pair) -> Comparison:
        \"\"\"Proof: ‖AB‖₂ ≤ ‖A‖₂‖B‖₂.\"\"\"
        return at_least(x.gram_A[0] * x.gram_B[0], x.s[0] ** 2, x.rounding)

Where the two kinds of matrices are computed with differently, the decorated function is for floats, with a tolerance
that rounding explains, and a second one, registered right below it, decides exactly:

    def product(x: FloatPair) -> Comparison:
        \"\"\"Proof: diag(q)·G·G⁻¹·diag(q).\"\"\"
        return vanishes(x.A @ x.B - rank_r_part(x), size, x.shape)

    @product.exact
    def _(x: ExactPair) -> Comparison:
        return vanishes_exactly(x.A * x.B - diagonal(x.shape.a, x.shape.b, x.s[: x.shape.r]))

With `has_exact=False` a claim is compared in floats only, and can then not be refuted. Adding a claim means writing it
in the file of its topic and naming it in that file's CLAIMS; `verify` and the tests find it there.
"""

from lorakappa.conditioning.claims import (
    ilora_proportion,
    ilora_ratio,
    ilora_update,
    ilora_variances,
    model1_bounds,
    model1_optimality,
    model1_spectrum,
    model2,
    nearest_balanced_pair,
    preconditioning,
    projected_training,
    projection,
)
from lorakappa.conditioning.verification import registry

CLAIMS = registry(
    model1_spectrum.CLAIMS,
    model1_bounds.CLAIMS,
    model1_optimality.CLAIMS,
    model2.CLAIMS,
    projection.CLAIMS,
    nearest_balanced_pair.CLAIMS,
    projected_training.CLAIMS,
    ilora_variances.CLAIMS,
    ilora_proportion.CLAIMS,
    ilora_update.CLAIMS,
    ilora_ratio.CLAIMS,
    preconditioning.CLAIMS,
)
