"""The machinery of claims and verdicts, which serves all packages; it knows no particular claim."""

from lorakappa.conditioning.verification.algebraic import AlgebraicClaim, algebraic_claim
from lorakappa.conditioning.verification.claim import (
    DERIVED,
    Claim,
    ClaimOptions,
    Comparison,
    Instance,
    Verdict,
    at_least,
    at_most,
    equal,
    more_than,
    registry,
)
from lorakappa.conditioning.verification.family import Family, Shape, all_shapes
from lorakappa.conditioning.verification.measured import (
    MeasuredClaim,
    MeasuredName,
    Measurement,
    all_of,
    decide,
    measured_claim,
)

__all__ = [
    "DERIVED",
    "AlgebraicClaim",
    "Claim",
    "ClaimOptions",
    "Comparison",
    "Family",
    "Instance",
    "MeasuredClaim",
    "MeasuredName",
    "Measurement",
    "Shape",
    "Verdict",
    "algebraic_claim",
    "all_of",
    "all_shapes",
    "at_least",
    "at_most",
    "decide",
    "equal",
    "measured_claim",
    "more_than",
    "registry",
]
