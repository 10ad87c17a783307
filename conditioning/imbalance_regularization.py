"""The imbalance that iLoRA regularizes: BBᵀ − ρAᵀA, its penalty, the paper's update and the ratio that it asks for.

The paper (Imbalance-Regularized LoRA) writes W + B_iA_i with B_i (m, r) and A_i (r, n): its B_i is A here, its A_i is
B, and m is a. With ρ = r/m unless told otherwise it penalizes R = ‖A_iA_iᵀ − ρB_iᵀB_i‖_F² and, after every step of the
optimizer, moves the factors against R's gradient without its factor 4 (Algorithms 1 and 2; `step` is the learning rate
times λ):

    A ← A(I + step·ρ·D),   B ← (I − step·D)B,   D = BBᵀ − ρAᵀA.

Here both factors are moved from the same old pair. The listing could also be read one after the other, B first and then
A with the new B: that changes A alone, by −step²·ρ·A(D·BBᵀ + BBᵀD) to lowest order.

The update moves the adapted matrix,

    AB ← AB − step·(1 − ρ)·A·D·B − step²·ρ·A·D²·B,

to first order unless ρ = 1, where A and B are scaled oppositely. (A penalty step that kept AB to first order at every
ρ would have to leave ρ out of A's part.)

All functions take NumPy arrays or torch tensors with any leading dimensions and calculate in their dtype, but at least
in float32.
"""

import math
from typing import Any, TypeVar

import array_api_compat

from lorakappa.conditioning.checks import factor_namespace

ArrayT = TypeVar("ArrayT", bound=Any)


def imbalance(A: ArrayT, B: ArrayT, ratio: float = 1.0) -> ArrayT:
    """D = BBᵀ − ratio·AᵀA; at ratio 1 it vanishes exactly on the balanced manifold.

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.
        ratio: ρ > 0.

    Returns:
        (…, r, r) symmetric, in the dtype of the factors.

    Raises:
        TypeError: if A and B are of different libraries or dtypes, or not real floating point.
        ValueError: on mismatched shapes, an empty array or a bad ratio.
    """
    xp = _check(A, B, ratio)
    return xp.astype(_difference(*_upcast(xp, A, B), ratio), A.dtype)


def imbalance_penalty(A: ArrayT, B: ArrayT, ratio: float = 1.0) -> ArrayT:
    """The regularizer of iLoRA without its weight λ, R = ‖BBᵀ − ratio·AᵀA‖_F².

    Arguments and errors are those of `imbalance`.

    Returns:
        (…,) penalties, in the dtype of the factors.
    """
    xp = _check(A, B, ratio)
    difference = _difference(*_upcast(xp, A, B), ratio)
    return xp.astype(xp.sum(difference * difference, axis=(-2, -1)), A.dtype)


def penalty_gradient(A: ArrayT, B: ArrayT, ratio: float = 1.0) -> tuple[ArrayT, ArrayT]:
    """The exact gradient of `imbalance_penalty`: (−4·ratio·A·D, 4·D·B), D = BBᵀ − ratio·AᵀA.

    Derived here: dR = 2⟨D, dD⟩ with dD = dB·Bᵀ + B·dBᵀ − ratio·(dAᵀA + AᵀdA) and D symmetric. Arguments and errors are
    those of `imbalance`.

    Returns:
        Gradients by A (…, a, r) and by B (…, r, b), in the dtype of the factors.
    """
    xp = _check(A, B, ratio)
    left, right = _upcast(xp, A, B)
    difference = _difference(left, right, ratio)
    return xp.astype(-4 * ratio * (left @ difference), A.dtype), xp.astype(4 * (difference @ right), B.dtype)


def penalty_step(A: ArrayT, B: ArrayT, *, step: Any, ratio: float = 1.0) -> tuple[ArrayT, ArrayT]:
    """The paper's update (module docstring), which is −(step/4) times the gradient of the penalty; it does not keep AB.

    A step that is too long makes this cubic map grow without bound; up to `stable_penalty_step` it cannot. Growth as
    such is no error here, only entries that are no longer finite are.

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.
        step: ηλ ≥ 0, a number, or an array that broadcasts against the leading dimensions.
        ratio: ρ > 0; the paper's default is `paper_ratio(a, r)`.

    Returns:
        The new pair, in the dtype of the factors.

    Raises:
        TypeError: if A and B are of different libraries or dtypes, or not real floating point.
        ValueError: on mismatched shapes, an empty array, a bad ratio or step, or a result that is not finite.
    """
    xp = _check(A, B, ratio)
    left, right = _upcast(xp, A, B)
    steps = xp.asarray(step, dtype=left.dtype, device=array_api_compat.device(left))[..., None, None]
    if not bool(xp.all(xp.isfinite(steps) & (steps >= 0))):
        raise ValueError(f"step = {step} must be finite and not negative")
    difference = _difference(left, right, ratio)
    new_A = xp.astype(left + ratio * steps * (left @ difference), A.dtype)
    new_B = xp.astype(right - steps * (difference @ right), B.dtype)
    if not bool(xp.all(xp.isfinite(new_A))) or not bool(xp.all(xp.isfinite(new_B))):
        raise ValueError(
            "the penalty's step gave NaN or infinity: A or B was not finite, or the step is far beyond "
            "stable_penalty_step(A, B, ratio)"
        )
    return new_A, new_B


def trained_penalty_step(A: ArrayT, B: ArrayT, *, step: Any, log_ratio: Any) -> tuple[ArrayT, ArrayT, Any]:
    """The paper's update with a ratio of its own for every pair, which is trained along.

    The paper says no more of its trainable ratio than that there is one. Our reading is gradient descent on the same
    penalty, without its factor 4 and with the same step, in the logarithm, which keeps the ratio positive:
    log ρ ← log ρ + step·ρ·⟨BBᵀ − ρAᵀA, AᵀA⟩/2 (derived here: ∂(R/4)/∂ρ = −⟨D, AᵀA⟩/2).

    Args:
        A: (…, a, r) NumPy array or torch tensor of a real floating type.
        B: (…, r, b) of the same library, dtype, device and leading dimensions.
        step: (…) ηλ.
        log_ratio: (…) log ρ.

    Returns:
        The new pair, in the dtype of the factors, and (…) the new log ρ. What explodes becomes infinite or NaN.

    Raises:
        TypeError: if A and B are of different libraries or dtypes, or not real floating point.
        ValueError: on mismatched shapes or an empty array.
    """
    xp = factor_namespace(A, B)
    left, right = _upcast(xp, A, B)
    ratio, size = xp.exp(log_ratio)[..., None, None], step[..., None, None]
    gram = left.mT @ left
    D = right @ right.mT - ratio * gram
    slope = xp.sum(D * gram, axis=(-2, -1)) / 2
    new_A = xp.astype(left + size * ratio * (left @ D), A.dtype)
    new_B = xp.astype(right - size * (D @ right), B.dtype)
    return new_A, new_B, log_ratio + step * ratio[..., 0, 0] * slope


def stable_penalty_step(A: ArrayT, B: ArrayT, ratio: float = 1.0) -> ArrayT:
    """A step up to which the paper's update, repeated for ever, neither blows up nor raises the penalty.

    Derived here: 1/(3·max(1, ρ)·M), M = max(σ₁(B)², ρσ₁(A)²). Let h = step·M ≤ ⅓.

    - B₊ = (B − step·BBᵀB) + step·ρ·AᵀAB. The first term has singular values σ(1 − step·σ²), which increase up to
      σ² = M, so ‖B₊‖ ≤ √M(1 − h) + h√M = √M. Likewise √ρ‖A₊‖ ≤ √M, since step·ρ·M ≤ ⅓. So M never grows.
    - On that convex set of pairs R/4 has second derivatives up to Λ = (2(1 + ρ) + max(1, ρ))M ≤ 5·max(1, ρ)·M, and a
      gradient step of length < 2/Λ lowers R/4 wherever its gradient is not 0.

    It is not far from necessary: at a pair with D = 0 the step multiplies some small imbalance by 1 − 2·step·(1 + ρ)·M,
    which repels it for step > 1/((1 + ρ)M), at most three times as long.

    Arguments and errors are those of `imbalance`; a pair that is not finite is refused, too.

    Returns:
        (…,) steps, in at least float32; infinity at (0, 0).
    """
    xp = _check(A, B, ratio)
    left, right = _upcast(xp, A, B)
    if not bool(xp.all(xp.isfinite(left))) or not bool(xp.all(xp.isfinite(right))):
        raise ValueError("A or B contains NaN or infinity; no step is stable there")
    top_A, top_B = (xp.max(xp.linalg.svdvals(M), axis=-1) for M in (left, right))
    largest = xp.maximum(top_B**2, ratio * top_A**2)
    infinite = xp.full_like(largest, math.inf)
    positive = xp.where(largest > 0, largest, xp.ones_like(largest))
    return xp.where(largest > 0, 1 / (3 * max(1.0, ratio) * positive), infinite)


def paper_ratio(a: int, r: int, *, factor: float = 1.0, power: float = 1.0) -> float:
    """The ratio factor·(r/a)^power: r/m, m = a, is iLoRA's default, factor and power are its ablations.

    Args:
        a: rows of A (output features of the layer).
        r: rank, 1 ≤ r ≤ a.
        factor: c > 0.
        power: p; 0 with factor 1 is balance.

    Returns:
        The ratio ρ > 0.

    Raises:
        ValueError: on a bad rank, factor or power.
    """
    if not 1 <= r <= a:
        raise ValueError(f"rank r = {r} must lie between 1 and a = {a}")
    if not 0 < factor < math.inf:
        raise ValueError(f"factor = {factor} must be positive and finite")
    if not math.isfinite(power):
        raise ValueError(f"power = {power} must be finite")
    return float(factor * (r / a) ** power)


def _check(A: Any, B: Any, ratio: float) -> Any:
    """The arrays' namespace, after all checks that do not look at entries."""
    if not 0 < ratio < math.inf:
        raise ValueError(f"ratio ρ = {ratio} must be positive and finite")
    return factor_namespace(A, B)


def _upcast(xp: Any, A: Any, B: Any) -> tuple[Any, Any]:
    """The factors in their own dtype, or in float32 if that is less."""
    dtype = xp.result_type(A.dtype, xp.float32)
    return xp.astype(A, dtype), xp.astype(B, dtype)


def _difference(A: Any, B: Any, ratio: float) -> Any:
    """BBᵀ − ratio·AᵀA."""
    return B @ B.mT - ratio * (A.mT @ A)
