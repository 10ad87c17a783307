"""Claims on how much of the freedom (AR, R⁻¹B) the regularizer of Imbalance-Regularized LoRA takes away.

At a pair with D = BBᵀ − ρAᵀA = 0 the Hessian of R = ‖D‖² is 2KᵀK with K the Jacobian of D, whatever the loss.
"""

from itertools import product

import flint
import numpy as np

from lorakappa.conditioning import hessians as dense
from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.claims.ilora_ratio import RATIOS
from lorakappa.conditioning.instances import ExactPair, FloatPair
from lorakappa.conditioning.sources import ILORA
from lorakappa.conditioning.tolerances import psd_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, equal


@algebraic_claim(
    "ilora-restricts-freedom",
    "The regularizer restricts the degrees of freedom: at a minimizer of Model 1 with R = 0 the kernel of the Hessian "
    "of f + R, dimension r² without R, has dimension r(r − 1)/2.",
    source=ILORA.at("Section 4.1, degrees of freedom"),
    family=RATIOS,
    sides=("dim ker of the Hessian of f + ‖BBᵀ − ρAᵀA‖²", "r(r − 1)/2"),
)
def restricts_freedom(x: FloatPair) -> Comparison:
    """Proof: both Hessians are positive semidefinite, so the kernel consists of the (AΩ, −ΩB) of f's kernel
    (`minimizers-orbit`) that keep D. With N = BBᵀ = ρAᵀA these change it by −(Ω + Ωᵀ)N − N(Ω + Ωᵀ), which is 0 only for
    a skew Ω. So the scale (cA, B/c) and all stretches are fixed, rotations are not.
    """
    return equal(_kernel(x), x.shape.r * (x.shape.r - 1) // 2)


@restricts_freedom.exact
def _(x: ExactPair) -> Comparison:
    return equal(_kernel_exactly(x), x.shape.r * (x.shape.r - 1) // 2)


@algebraic_claim(
    "ilora-isolates-minimizers",
    "Does the regularizer end the freedom: is no direction left in which neither the product nor R changes?",
    kind="question",
    family=RATIOS,
    sides=("dim ker of the Hessian of f + ‖BBᵀ − ρAᵀA‖²", "0"),
    recorded="refuted",
    corrected_by="ilora-restricts-freedom",
)
def isolates_minimizers(x: FloatPair) -> Comparison:
    """Fails for r ≥ 2: (AO, OᵀB) has the same product and the same R for every rotation O. P, which makes AᵀA diagonal,
    leaves signs only.
    """
    return equal(_kernel(x), 0)


@isolates_minimizers.exact
def _(x: ExactPair) -> Comparison:
    return equal(_kernel_exactly(x), 0)


def _kernel(x: FloatPair) -> int:
    """Dimension of the kernel of H/L + 2KᵀK/‖K‖², which is that of H + 2KᵀK."""
    H, K = dense.hessian(x.A, x.B, x.Z), _jacobian(x)
    values = np.linalg.eigvalsh(H / x.L + K.T @ K / np.linalg.norm(K, 2) ** 2)
    return int((values <= psd_rtol(x.shape.d)).sum())


def _jacobian(x: FloatPair) -> Array:
    """(r², d) Jacobian of D = BBᵀ − ρAᵀA, ρ = tr BBᵀ/tr AᵀA; parameters (vec A, vec B), row-major."""
    ratio, columns = float(np.linalg.norm(x.B) ** 2 / np.linalg.norm(x.A) ** 2), []
    for i, j in product(range(x.shape.a), range(x.shape.r)):
        step = np.zeros_like(x.A)
        step[i, j] = -ratio
        columns.append(step.T @ x.A + x.A.T @ step)
    for i, j in product(range(x.shape.r), range(x.shape.b)):
        step = np.zeros_like(x.B)
        step[i, j] = 1.0
        columns.append(step @ x.B.T + x.B @ step.T)
    return np.array([column.ravel() for column in columns]).T


def _kernel_exactly(x: ExactPair) -> int:
    """Dimension of the kernel of H + 2KᵀK, from its rank."""
    ratio, rows = 1 / x.G[0, 0] ** 4, []
    for i, j in product(range(x.shape.a), range(x.shape.r)):
        step = flint.fmpq_mat(x.shape.a, x.shape.r)
        step[i, j] = -ratio
        rows.append((step.transpose() * x.A + x.A.transpose() * step).entries())
    for i, j in product(range(x.shape.r), range(x.shape.b)):
        step = flint.fmpq_mat(x.shape.r, x.shape.b)
        step[i, j] = 1
        rows.append((step * x.B.transpose() + x.B * step.transpose()).entries())
    K = flint.fmpq_mat(rows)  # the transpose of the Jacobian
    return x.shape.d - int((x.hessian + K * K.transpose() * 2).rank())


CLAIMS = (
    restricts_freedom,
    isolates_minimizers,
)
