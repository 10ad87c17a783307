"""RefLoRA: the gradients g_A S⁻¹ and S g_B, whose step changes AB as BaLoRA's does while the pair keeps its gauge.

Source: RefLoRA (Zhang, Li & Giannakis 2025, arXiv 2505.18877) refactors (A, B) into the equivalent pair whose step has
the least upper bound on the loss; its public code multiplies the gradients instead, by S = (AᵀA)⁻¹ # (BBᵀ) and its
inverse, # being the geometric mean, or (RefLoRA-S) by the number ‖B‖_F/‖A‖_F and its inverse.

That the two are one, and BaLoRA, is derived here. Let (X, Y) = (AT, T⁻¹B) be balanced, XᵀX = YYᵀ. Then S = TTᵀ, for
TᵀAᵀAT = T⁻¹BBᵀT⁻ᵀ says S(AᵀA)S = BBᵀ, whose only positive definite solution is that mean; the gauge may be any
balanced one. Gradients of a loss of AB are g_X = g_A T⁻ᵀ and g_Y = Tᵀg_B, so the step from (X, Y), taken back to the
gauge of (A, B), is

    (X − γg_X)T⁻¹ = A − γ g_A T⁻ᵀT⁻¹ = A − γ g_A S⁻¹,  T(Y − γg_Y) = B − γ TTᵀ g_B = B − γ S g_B.

With gradients added up by a plain step this is BaLoRA, whose next projection does not see the gauge; an optimizer that
treats entries apart, such as Adam, sees it, and the two part.
"""

from typing import Any, Literal, TypeVar, get_args

import numpy as np

from lorakappa.conditioning.checks import check_fits, check_gradients, factor_namespace
from lorakappa.conditioning.projection_by_qr import gauge_by_qr

Mode = Literal["matrix", "scalar"]
MODES: tuple[Mode, ...] = get_args(Mode)

ArrayT = TypeVar("ArrayT", bound=Any)


def check_mode(mode: str) -> None:
    """Raises ValueError on an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")


def refactored_gradient(
    A: ArrayT, B: ArrayT, g_A: ArrayT, g_B: ArrayT, *, mode: Mode = "matrix"
) -> tuple[ArrayT, ArrayT]:
    """RefLoRA's gradient (g_A S⁻¹, S g_B), both from the same pair (module docstring).

    - "matrix": S = (AᵀA)⁻¹ # (BBᵀ), as TTᵀ with the gauge T of `balance`, which carries null directions of AB over.
    - "scalar" (RefLoRA-S): S = (‖B‖_F/‖A‖_F)·I, which makes the norms of the factors equal and no more.

    The only balanced pair with AB = 0 (LoRA's start) is (0, 0), where every gradient vanishes; there the gradient is
    returned as it is. So it is in scalar mode where a factor is 0. The algebra is in float64.

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type, on any device.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.
        g_A: (…, a, r) gradient by A.
        g_B: (…, r, b) gradient by B.
        mode: which S.

    Returns:
        New arrays of the gradients' shapes and dtype.

    Raises:
        OutOfRangeError: if a finite gradient becomes one that does not fit into the dtype.
        TypeError: if the arrays are of different libraries or dtypes, or not real floating point.
        ValueError: on mismatched shapes, an unknown mode, or factors that are not finite. A gradient that is not finite
            is not refused; nor is what comes of it.
    """
    check_mode(mode)
    xp = factor_namespace(A, B)
    check_gradients(A, B, g_A, g_B)
    left, right = xp.astype(g_A, xp.float64), xp.astype(g_B, xp.float64)
    with np.errstate(all="ignore"):
        if mode == "matrix":
            T, T_inv = gauge_by_qr(xp, A, B)
            left, right = left @ T_inv.mT @ T_inv, T @ (T.mT @ right)
        else:
            s = _ratio_of_norms(xp, A, B)
            left, right = left / s, right * s
        moved = xp.astype(left, A.dtype), xp.astype(right, B.dtype)
    for name, new, gradient in (("g_A S⁻¹", moved[0], g_A), ("S g_B", moved[1], g_B)):
        check_fits(xp, name, new, gradient, "the factors are of too different sizes; balance the pair first")
    return moved


def _ratio_of_norms(xp: Any, A: Any, B: Any) -> Any:
    """(…, 1, 1) ratios ‖B‖_F/‖A‖_F in float64; 1 where a factor is 0.

    Raises:
        ValueError: on NaN or infinity.
    """
    sizes, norms = [], []
    for M in (A, B):
        M = xp.astype(M, xp.float64)
        size = xp.max(xp.abs(M), axis=(-2, -1), keepdims=True)  # taken out, so that no square over- or underflows
        if not bool(xp.all(xp.isfinite(size))):
            raise ValueError("A or B contains NaN or infinity; nothing was refactored")
        size = xp.where(size > 0, size, xp.ones_like(size))
        sizes.append(size)
        norms.append(xp.linalg.matrix_norm(M / size, keepdims=True))
    both = (norms[0] > 0) & (norms[1] > 0)
    ratio = xp.where(both, norms[1], 1.0) / xp.where(both, norms[0], 1.0) * (sizes[1] / sizes[0])
    return xp.where(both, ratio, xp.ones_like(ratio))
