"""Exact theory of LoRA's conditioning: Hessians, spectra, κ and its bounds, the balanced manifold and P.

Arrays are NumPy float64 unless a function says otherwise: A (a, r), B (r, b), Z (a, b), d = r(a + b).
"""

from conditioning.bounds import KappaBounds, kappa_bounds, model2_kappa_bound, tangent_basis
from conditioning.checks import DegenerateTargetError, NotAMinimizerError
from conditioning.factors import change_gauge, jacobian, loss, minimizer
from conditioning.hessians import hessian, model2_hessian, model2_jacobian, two_layer_hessian
from conditioning.imbalance import (
    imbalance,
    imbalance_penalty,
    paper_ratio,
    penalty_gradient,
    penalty_step,
    stable_penalty_step,
    trained_penalty_step,
)
from conditioning.manifold import balancing_gap, is_balanced, is_hyperbalanced, tangent_projection
from conditioning.preconditioning import (
    preconditioned_extremes,
    preconditioned_hessian,
    preconditioned_spectrum,
    scaled_gradient,
)
from conditioning.projection import GAUGES, balance
from conditioning.rates import SharpSignRate, gd_rate, sharp_sign_gd_rate, sign_gd_rate
from conditioning.spectra import (
    ExtremeEigenvalues,
    balanced_condition_number,
    condition_number,
    extreme_eigenvalues,
    imbalanced_condition_number,
    model2_condition_number,
    spectrum,
)

__all__ = [
    # errors
    "DegenerateTargetError",
    "NotAMinimizerError",
    # factors
    "change_gauge",
    "jacobian",
    "loss",
    "minimizer",
    # Hessians and spectra
    "ExtremeEigenvalues",
    "balanced_condition_number",
    "condition_number",
    "extreme_eigenvalues",
    "hessian",
    "imbalanced_condition_number",
    "model2_condition_number",
    "model2_hessian",
    "model2_jacobian",
    "spectrum",
    "two_layer_hessian",
    # bounds and rates
    "KappaBounds",
    "SharpSignRate",
    "gd_rate",
    "kappa_bounds",
    "model2_kappa_bound",
    "sharp_sign_gd_rate",
    "sign_gd_rate",
    "tangent_basis",
    # the manifold and P
    "GAUGES",
    "balance",
    "balancing_gap",
    "is_balanced",
    "is_hyperbalanced",
    "tangent_projection",
    # the rivals: imbalance-regularized LoRA and scaled gradients
    "imbalance",
    "imbalance_penalty",
    "paper_ratio",
    "penalty_gradient",
    "penalty_step",
    "stable_penalty_step",
    "trained_penalty_step",
    "preconditioned_extremes",
    "preconditioned_hessian",
    "preconditioned_spectrum",
    "scaled_gradient",
]
