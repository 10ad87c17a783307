"""The gauge that gradients ask for: balance as a loss sees it, from r×r second moments of the gradients.

Let H_A = E g_Aᵀg_A and H_B = E g_B g_Bᵀ be second moments of gradients by A and by B: the partial traces of E ggᵀ, g
being both as one vector, which is the empirical Fisher matrix where gradients are those of single examples. A gauge
takes (A, B) to (AT, T⁻¹B), the gradients to (g_A T⁻ᵀ, Tᵀg_B) and the moments to (T⁻¹H_A T⁻ᵀ, TᵀH_B T). Everything is
derived here.

*What is made smallest*, over all gauges with N = TTᵀ and for a damping δ ≥ 0, is

    (E‖g_A‖² + E‖g_B‖²)/f + δ(‖A‖² + ‖B‖²)/g  =  tr N⁻¹M_A + tr N M_B,   M_A = H_A/f + δBBᵀ/g,  M_B = H_B/f + δAᵀA/g,

on the left at (AT, T⁻¹B), with f and g the values of both sums at the balanced pair. Hence (`gauge_certificate`)
N = M_B⁻¹ # M_A, and both damped moments are equal there. In words: the trace of the Fisher matrix is made small, and
factors may grow for it, but not at any price.

*Why this damping.* δ = 0 gives the smallest trace (`optimal_gauge_from_traces`), δ → ∞ the balanced pair, whose
‖A‖² + ‖B‖² is smallest: without knowledge of the loss, balance is what is left. f and g do not depend on the pair's
gauge, so neither does the result, and doing it again changes nothing. Multiples of I as damping would do neither: they
are equal in both moments in any gauge, and done again and again they end where no damping does. The gauge does not
change with the size of the loss, nor with that of A or of B. The sum is 1 + δ at the balanced pair, and so

    E‖g_A‖² + E‖g_B‖² ≤ f,    ‖A‖² + ‖B‖² ≤ (1 + 1/δ) g    at (AT, T⁻¹B),

the first because the second sum is smallest at balance. So moments that are 0 or of low rank do no harm. LoRA starts
with one: g_B = AᵀG = 0 at A = 0, while H_A is not 0.

*Null directions.* Where AB has rank < r, directions that it does not see are carried over as P does it
(`projection_by_qr`), and N is found for the others. A pair with AB = 0 stays as it is.

*How it is computed.* In the coordinates of P's hyperbalanced pair (X, Y), by the square-root method of balanced
truncation, which never forms M_A or M_B: with M_A = R_AᵀR_A from the QR factorization of the root of H_A beside Y, M_B
likewise, and R_A R_Bᵀ = UsVᵀ, it is T = R_AᵀUs^{-1/2} and T⁻¹ = s^{-1/2}VᵀR_B. An error E of the SVD is
XR_B⁻¹EᵀR_A⁻ᵀY in the product XY, and ‖XR_B⁻¹‖² and ‖R_A⁻ᵀY‖² are at most g/δ: so AB is kept to rounding times 1 + 1/δ.
"""

import math
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lorakappa.conditioning.checks import as_number, check_plain, eye_like, factor_namespace
from lorakappa.conditioning.gauge_optimization import NoOptimalGaugeError
from lorakappa.conditioning.projection_by_qr import (
    Hyperbalanced,
    from_core,
    hyperbalanced,
    inverse_gauge,
    normalized,
    refined,
    turn,
)
from lorakappa.conditioning.projection_gauges import Gauge, check_gauge
from lorakappa.conditioning.tolerances import EPS, gram_rtol, psd_rtol

DAMPING = 0.1
"""Default δ: the factors' norms may grow by √11 over those at balance at most, in exchange for a smaller trace."""

ArrayT = TypeVar("ArrayT", bound=Any)


class FisherBalanced(NamedTuple):
    """A pair, and the second moments of its gradients, in the gauge that they ask for.

    Attributes:
        A: (…, a, r).
        B: (…, r, b).
        H_A: (…, r, r).
        H_B: (…, r, r).
    """

    A: Any
    B: Any
    H_A: Any
    H_B: Any


def fisher_balance(
    A: ArrayT, B: ArrayT, H_A: ArrayT, H_B: ArrayT, *, damping: float = DAMPING, gauge: Gauge = "symmetric"
) -> FisherBalanced:
    """The pair with the same product whose damped second moments of gradients are equal (module docstring).

    All gauges agree up to an r×r rotation between the factors:

    - "symmetric": (AT, T⁻¹B) with T symmetric positive definite. Of all gauges with one TTᵀ it is the nearest to I, so
      that coordinates that an optimizer has moments for are mixed least, and it is I where nothing is to be done.
    - "hyperbalanced": the damped moments are one diagonal matrix, descending but for null directions, which come first.
      Signs as for `balance`; the pair does not depend on the gauge that it was given in.
    - "nearest": the nearest of these pairs to (A, B) in ‖·‖_F.

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type, on any device.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.
        H_A: (…, r, r) E g_Aᵀg_A, of any floating type of the same library.
        H_B: (…, r, r) E g_B g_Bᵀ.
        damping: δ ≥ 0, may be infinite, which is `balance`.
        gauge: which of the pairs.

    Returns:
        The pair and its moments, new arrays of the dtypes given. ‖A'B' − AB‖_F ≤ 16 ε max(‖A‖‖B‖, ‖A'‖‖B'‖) in exact
        evaluation of the products, ε the epsilon of the dtype. A pair with AB = 0, or one that its dtype cannot hold
        to its precision, is returned with its moments as it came.

    Raises:
        NoOptimalGaugeError: at damping 0, if a moment is singular to working precision.
        TypeError: if the arrays are of different libraries, or the factors of different dtypes, or not real floating
            point without a gradient.
        ValueError: on mismatched shapes, a bad damping or gauge, NaN or infinity, or moments that are not symmetric
            positive semidefinite.
    """
    found = _found(A, B, H_A, H_B, damping, gauge)
    xp, core = found.xp, found.core
    norm = xp.linalg.matrix_norm
    norms = xp.maximum(norm(core.R_A) * norm(core.R_B), norm(found.x) * norm(found.y))
    X, Y, done = from_core(xp, A, B, core, found.x, found.y, found.size, norms)
    moved = transport_second_moments(H_A, H_B, found.T, found.T_inv)
    done = done[..., None, None]
    return FisherBalanced(*(xp.where(done, *both) for both in zip((X, Y, *moved), (A, B, H_A, H_B), strict=True)))


def fisher_gauge(
    A: ArrayT, B: ArrayT, H_A: ArrayT, H_B: ArrayT, *, damping: float = DAMPING, gauge: Gauge = "symmetric"
) -> tuple[ArrayT, ArrayT]:
    """T and T⁻¹ of `fisher_balance`, whatever storing that pair would do to it.

    Args:
        A: as for `fisher_balance`, like the rest.
        B: (…, r, b).
        H_A: (…, r, r).
        H_B: (…, r, r).
        damping: δ.
        gauge: which of the pairs.

    Returns:
        Both (…, r, r) in float64; I where AB = 0. Errors as of `fisher_balance`.
    """
    found = _found(A, B, H_A, H_B, damping, gauge)
    return found.T, found.T_inv


def transport_second_moments(H_A: ArrayT, H_B: ArrayT, T: ArrayT, T_inv: ArrayT) -> tuple[ArrayT, ArrayT]:
    """The moments (T⁻¹H_A T⁻ᵀ, TᵀH_B T) of the gradients at (AT, T⁻¹B), exactly what they would have been there.

    Args:
        H_A: (…, r, r) E g_Aᵀg_A.
        H_B: (…, r, r) E g_B g_Bᵀ.
        T: (…, r, r).
        T_inv: (…, r, r) its inverse.

    Returns:
        Both, computed in the dtype of T and returned in their own.
    """
    xp = _namespace(T)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        left = T_inv @ xp.astype(H_A, T.dtype, copy=False) @ T_inv.mT
        right = T.mT @ xp.astype(H_B, T.dtype, copy=False) @ T
        return xp.astype(left, H_A.dtype, copy=False), xp.astype(right, H_B.dtype, copy=False)


def check_damping(damping: float) -> float:
    """The damping δ as a float; raises TypeError if it is no number and ValueError if it is NaN or negative."""
    damping = as_number("damping δ", damping)
    if not damping >= 0:
        raise ValueError(f"damping δ = {damping} must not be negative")
    return damping


class _Found(NamedTuple):
    """The new pair (Q_A x, y Q_Bᵀ)·size in r×r coordinates, with its gauge from the given pair."""

    xp: Any
    core: Hyperbalanced
    x: Any
    y: Any
    size: Any
    T: Any
    T_inv: Any


def _found(A: Any, B: Any, H_A: Any, H_B: Any, damping: float, gauge: Gauge) -> _Found:
    check_gauge(gauge)
    damping = check_damping(damping)
    xp = factor_namespace(A, B)
    for name, M in (("A", A), ("B", B), ("H_A", H_A), ("H_B", H_B)):
        if getattr(M, "requires_grad", False):
            raise TypeError(f"{name} requires grad, which does not flow through this function; pass {name}.detach()")
    root_A, singular_A = _root(xp, "H_A", H_A, A)
    root_B, singular_B = _root(xp, "H_B", H_B, A)
    left, right, weight_A, weight_B, size = normalized(xp, xp.astype(A, xp.float64), xp.astype(B, xp.float64))
    core = hyperbalanced(xp, left, right, float(xp.finfo(A.dtype).eps))
    some = xp.any(core.live, axis=-1)
    if damping == 0:
        _check_regular(xp, "H_A", ~singular_A | ~some)
        _check_regular(xp, "H_B", ~singular_B | ~some)
    # the normalized pair is (2^−p A, 2^−q B): its gradients are 2^p g_A and 2^q g_B
    T_inv = inverse_gauge(xp, core)
    T_new, T_new_inv = relative_gauge(
        xp, T_inv @ root_A * weight_A, core.T.mT @ root_B * weight_B, core.x, core.y, core.live, damping
    )
    overlap = weight_A * ((core.x @ T_new).mT @ core.R_A) + weight_B * (T_new_inv @ core.y @ core.R_B)
    O = turn(xp, gauge, overlap, core.T @ T_new)
    T_new, T_new_inv = T_new @ O, O.mT @ T_new_inv
    x, y = refined(xp, core, core.x @ T_new, T_new_inv @ core.y, T_new, T_new_inv)
    T, T_inv = core.T @ T_new, T_new_inv @ T_inv
    scale, I = xp.sqrt(weight_B / weight_A), eye_like(xp, T)
    some = some[..., None, None]
    return _Found(xp, core, x, y, size, xp.where(some, T * scale, I), xp.where(some, T_inv / scale, I))


def relative_gauge(xp: Any, F_A: Any, F_B: Any, x: Any, y: Any, live: Any, damping: float) -> tuple[Any, Any]:
    """T and T⁻¹ that lead from a balanced pair to the one that its gradients ask for (module docstring).

    At that one the damped moments are diagonal, descending behind those of null directions.

    Args:
        xp: array namespace.
        F_A: (…, r, r) root of the moment, H_A = F_A F_Aᵀ, at the balanced pair. Both in one unit of any size.
        F_B: (…, r, r) likewise.
        x: (…, n, r) with the Gram matrix of A.
        y: (…, r, n) with that of B.
        live: (…, r) bool, which directions are balanced; T is I in the others.
        damping: δ ≥ 0.

    Returns:
        Both (…, r, r).

    Raises:
        NoOptimalGaugeError: at damping 0, if both moments together are singular to working precision.
    """
    keep = xp.astype(live, F_A.dtype)[..., :, None]
    F_A, size_A = _unit(xp, keep * F_A)
    F_B, size_B = _unit(xp, keep * F_B)
    null = eye_like(xp, F_A) * (1 - keep)
    post = xp.ones_like(size_A)
    if damping == 0:
        post = xp.sqrt(size_A / size_B)
        parts_A, parts_B, least = [F_A, null], [F_B, null], 0.0
    else:
        share = 1 / (1 + damping)
        top = xp.maximum(size_A, size_B)
        F_A, F_B = F_A * (size_A / top), F_B * (size_B / top)
        f, g = _norm_of_both(xp, F_A, F_B), _norm_of_both(xp, keep * x.mT, keep * y)
        of_f, of_g = math.sqrt(share) / f, math.sqrt(1 - share) / g
        parts_A, parts_B = [of_f * F_A, of_g * keep * y, null], [of_f * F_B, of_g * keep * x.mT, null]
        # M_A ≥ S(1 − share)/g², and so is M_B: s is not less than the smallest entry of that
        squares = xp.sum(y * y, axis=-1)
        least = (1 - share) / (g * g)[..., 0] * xp.min(xp.where(live, squares, xp.max(squares)), axis=-1)[..., None]
    R_A, R_B = (xp.linalg.qr(xp.concat(parts, axis=-1).mT)[1] for parts in (parts_A, parts_B))
    U, s, Vt = xp.linalg.svd(R_A @ R_B.mT)
    if damping == 0:
        _check_regular(xp, "H_A or H_B, at balance,", s[..., -1] > gram_rtol(s.shape[-1]) * s[..., 0])
    root = xp.sqrt(xp.maximum(s, least * xp.ones_like(s)))
    rescaled = keep * post + (1 - keep)
    return rescaled * (R_A.mT @ U / root[..., None, :]), Vt @ R_B / root[..., :, None] / rescaled.mT


def _check_regular(xp: Any, name: str, regular: Any) -> None:
    if not bool(xp.all(regular)):
        raise NoOptimalGaugeError(
            f"{name} is singular, and without damping the trace falls for ever as the gauge shrinks what the other "
            "factor has where it is 0; pass damping > 0"
        )


def _unit(xp: Any, F: Any) -> tuple[Any, Any]:
    """F with entries of order 1, and its (…, 1, 1) size; 1 where F is 0."""
    size = xp.max(xp.abs(F), axis=(-2, -1), keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    return F / size, size


def _norm_of_both(xp: Any, F: Any, G: Any) -> Any:
    """(…, 1, 1) norms ‖(F, G)‖_F; 1 where both are 0."""
    norm = xp.linalg.matrix_norm(xp.concat([F, G], axis=-1), keepdims=True)
    return xp.where(norm > 0, norm, xp.ones_like(norm))


def _root(xp: Any, name: str, H: Any, A: Any) -> tuple[Any, Any]:
    """F (…, r, r) in float64 with FFᵀ = H, exact to the size of each diagonal entry, and (…) whether it is singular.

    Raises:
        TypeError: if H is of another library than A, or not real floating point.
        ValueError: on a wrong shape, NaN or infinity, or H that is not symmetric positive semidefinite.
    """
    check_plain(name, H)
    try:
        same = _namespace(H) is xp
    except TypeError:
        same = False
    if not same or not xp.isdtype(H.dtype, "real floating"):
        raise TypeError(f"{name} must be of real floating type, and of the library of A and B, not {type(H).__name__}")
    r = A.shape[-1]
    if H.shape != (*A.shape[:-2], r, r):
        raise ValueError(
            f"{name} has shape {tuple(H.shape)}, but A {tuple(A.shape)} asks for (…, r, r) = (…, {r}, {r})"
        )
    eps = max(float(xp.finfo(H.dtype).eps), EPS)
    H = xp.astype(H, xp.float64)
    if not bool(xp.all(xp.isfinite(H))):
        raise ValueError(f"{name} contains NaN or infinity; nothing was moved")
    diagonal = xp.linalg.diagonal(H)
    scale = xp.sqrt(xp.where(diagonal > 0, diagonal, xp.ones_like(diagonal)))
    C = H / scale[..., :, None] / scale[..., None, :]
    tolerance = psd_rtol(r) * eps / EPS
    if bool(xp.any(xp.abs(C - C.mT) > 2 * tolerance)):
        raise ValueError(f"{name} is not symmetric; pass ({name} + {name}.mT)/2 if that is what you mean")
    eigenvalues, Q = xp.linalg.eigh(C / 2 + C.mT / 2)
    if bool(xp.any(eigenvalues[..., 0] < -tolerance * r)):
        raise ValueError(f"{name} is not positive semidefinite; second moments of gradients are")
    root = scale[..., :, None] * Q * xp.sqrt(xp.maximum(eigenvalues, xp.zeros_like(eigenvalues)))[..., None, :]
    singular = (xp.min(diagonal, axis=-1) <= 0) | (eigenvalues[..., 0] <= gram_rtol(r) * eps / EPS)
    return root, singular


def _namespace(M: Any) -> Any:
    from array_api_compat import array_namespace

    return array_namespace(M)
