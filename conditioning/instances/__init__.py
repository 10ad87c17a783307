"""The instances at which claims are compared: minimizers of Model 1 in canonical form, in floats and exactly.

By the SVD every minimizer is orthogonally equivalent to A = [diag(q) G; 0], B = [G⁻¹ diag(q), 0],
Z = diag(q₁², …, q_r², s_{r+1}, …, s_k) with q > 0 and G invertible, and every side of the claims is invariant
under orthogonal changes of frame. With rational q, s and G all of it is rational, and so is the
hyperbalanced pair diag(q), diag(q) with the same product.

`pair` lists what an instance offers. A `FloatPair` asks the library for it; an `ExactPair` knows nothing of the
library: its Hessian is a second difference of the loss. `canonical` holds the families of such instances, `sampling`
draws them; `interpolating` has both for Model 2, and `lora_starts` for starts with one factor 0.
"""

from lorakappa.conditioning.instances.canonical import (
    ANY_PAIR,
    FULL_RANK,
    GRADIENT_STEP,
    INTERIOR,
    MINIMIZERS,
    BALANCED_3x2_RANK_1,
    BALANCED_3x3_RANK_2,
    CanonicalMinimizers,
    Extra,
    gaussian,
    hyperbalanced,
)
from lorakappa.conditioning.instances.exact_pair import ExactPair, diagonal
from lorakappa.conditioning.instances.float_pair import FloatPair
from lorakappa.conditioning.instances.pair import Number, Pair

__all__ = [
    "ANY_PAIR",
    "BALANCED_3x2_RANK_1",
    "BALANCED_3x3_RANK_2",
    "FULL_RANK",
    "GRADIENT_STEP",
    "INTERIOR",
    "MINIMIZERS",
    "CanonicalMinimizers",
    "ExactPair",
    "Extra",
    "FloatPair",
    "Number",
    "Pair",
    "diagonal",
    "gaussian",
    "hyperbalanced",
]
