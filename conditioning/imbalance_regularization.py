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
in float32; torch differentiates through them. What does not fit into the dtype because it is too large is an error
(`OutOfRangeError`), but in training with `trained_penalty_step`; what is too small is rounded, in the end to 0.
"""

import math
from typing import Any, TypeVar

import array_api_compat
import numpy as np

from lorakappa.conditioning.checks import OutOfRangeError, as_number, check_integer, factor_namespace
from lorakappa.conditioning.scaling import exponents

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
        OutOfRangeError: if an entry of D is too large for the dtype.
        TypeError: if A and B are of different libraries or dtypes, or not real floating point.
        ValueError: on mismatched shapes, an empty array, a bad ratio, NaN or infinity.
    """
    xp, ratio = _check(A, B, ratio)
    with np.errstate(over="ignore", invalid="ignore"):
        D = xp.astype(_difference(*_upcast(xp, A, B), ratio), A.dtype)
    return _fitting(xp, "the imbalance", (A, B), D)[0]


def imbalance_penalty(A: ArrayT, B: ArrayT, ratio: float = 1.0) -> ArrayT:
    """The regularizer of iLoRA without its weight λ, R = ‖BBᵀ − ratio·AᵀA‖_F².

    Arguments and errors are those of `imbalance`.

    Returns:
        (…,) penalties, in the dtype of the factors.
    """
    xp, ratio = _check(A, B, ratio)
    with np.errstate(over="ignore", invalid="ignore"):
        difference = _difference(*_upcast(xp, A, B), ratio)
        penalty = xp.astype(xp.sum(difference * difference, axis=(-2, -1)), A.dtype)
    return _fitting(xp, "the penalty", (A, B), penalty)[0]


def penalty_gradient(A: ArrayT, B: ArrayT, ratio: float = 1.0) -> tuple[ArrayT, ArrayT]:
    """The exact gradient of `imbalance_penalty`: (−4·ratio·A·D, 4·D·B), D = BBᵀ − ratio·AᵀA.

    Derived here: dR = 2⟨D, dD⟩ with dD = dB·Bᵀ + B·dBᵀ − ratio·(dAᵀA + AᵀdA) and D symmetric. Arguments and errors are
    those of `imbalance`.

    Returns:
        Gradients by A (…, a, r) and by B (…, r, b), in the dtype of the factors.
    """
    xp, ratio = _check(A, B, ratio)
    left, right = _upcast(xp, A, B)
    with np.errstate(over="ignore", invalid="ignore"):
        difference = _difference(left, right, ratio)
        by_A = -4 * ratio * (left @ difference)
        if not bool(xp.all(xp.isfinite(by_A))):  # AD may be too large where the gradient is not
            by_A = (-4 * ratio * left) @ difference
        gradient = xp.astype(by_A, A.dtype), xp.astype(4 * (difference @ right), B.dtype)
    by_A, by_B = _fitting(xp, "the gradient of the penalty", (A, B), *gradient)
    return by_A, by_B


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
    xp, ratio = _check(A, B, ratio)
    left, right = _upcast(xp, A, B)
    with np.errstate(over="ignore", invalid="ignore"):
        steps = _steps(xp, step, left)
        if not bool(xp.all(xp.isfinite(steps) & (steps >= 0))):
            raise ValueError(f"step = {step} must be finite and not negative")
        new_A, new_B = _moved(xp, left, right, steps, ratio)
        # D may be too large, or AD too small, where the new pair is neither
        long = bool(xp.any(steps > float(xp.finfo(steps.dtype).max) ** 0.5))
        if long or not bool(xp.all(xp.isfinite(new_A))) or not bool(xp.all(xp.isfinite(new_B))):
            unit = 2.0 ** xp.maximum(exponents(xp, left), exponents(xp, right))
            new_A, new_B = (unit * M for M in _moved(xp, left / unit, right / unit, steps * unit * unit, ratio))
        new_A, new_B = xp.astype(new_A, A.dtype), xp.astype(new_B, B.dtype)
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
    step, log_ratio = (x if hasattr(x, "dtype") else _steps(xp, x, left)[..., 0, 0] for x in (step, log_ratio))
    with np.errstate(over="ignore", invalid="ignore"):
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
        (…,) steps, in at least float32; infinity at (0, 0), and the largest number where that is smaller than the step.
    """
    xp, ratio = _check(A, B, ratio)
    left, right = _upcast(xp, A, B)
    if not bool(xp.all(xp.isfinite(left))) or not bool(xp.all(xp.isfinite(right))):
        raise ValueError("A or B contains NaN or infinity; no step is stable there")
    # √M = u·top with u a power of two, so that no square over- or underflows
    u = 2.0 ** xp.maximum(exponents(xp, left), exponents(xp, right))
    top_A, top_B = (xp.max(xp.linalg.svdvals(M / u), axis=-1) for M in (left, right))
    u, limits = u[..., 0, 0], xp.finfo(left.dtype)
    something = xp.any(left != 0, axis=(-2, -1)) | xp.any(right != 0, axis=(-2, -1))  # M > 0, though it may underflow
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        top = xp.maximum(top_B, ratio**0.5 * top_A)
        positive = xp.where(something, top, xp.ones_like(top))
        steps = 1 / (3 * max(1.0, ratio)) / positive / positive / u / u
    if bool(xp.any(steps < float(limits.smallest_normal))):
        raise OutOfRangeError(f"the stable step is too small for {left.dtype}: the pair is too large")
    steps = xp.where(steps > float(limits.max), float(limits.max) * xp.ones_like(steps), steps)
    return xp.where(something, steps, xp.full_like(steps, math.inf))


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
        OutOfRangeError: if ρ does not fit into float64.
        TypeError: if a or r is no integer, or factor or power no real number.
        ValueError: on a bad rank, factor or power.
    """
    check_integer("a", a)
    check_integer("rank r", r)
    factor, power = as_number("factor", factor), as_number("power", power)
    if not 1 <= r <= a:
        raise ValueError(f"rank r = {r} must lie between 1 and a = {a}")
    if not 0 < factor < math.inf:
        raise ValueError(f"factor = {factor} must be positive and finite")
    if not math.isfinite(power):
        raise ValueError(f"power = {power} must be finite")
    try:
        ratio = float(factor * (r / a) ** power)
    except OverflowError:
        ratio = math.inf
    if not 0 < ratio < math.inf:
        raise OutOfRangeError(f"ρ = {factor:g}·({r}/{a})^{power:g} does not fit into float64; choose a smaller power")
    return ratio


def _check(A: Any, B: Any, ratio: float) -> tuple[Any, float]:
    """The arrays' namespace and the ratio, after all checks that do not look at entries."""
    ratio = as_number("ratio ρ", ratio)
    if not 0 < ratio < math.inf:
        raise ValueError(f"ratio ρ = {ratio:g} must be positive and finite")
    return factor_namespace(A, B), ratio


def _fitting(xp: Any, name: str, factors: tuple[Any, Any], *results: Any) -> tuple[Any, ...]:
    """The results, or an error if they are not finite, which tells whether the factors were."""
    if not all(bool(xp.all(xp.isfinite(M))) for M in results):
        if not all(bool(xp.all(xp.isfinite(M))) for M in factors):
            raise ValueError(f"A or B contains NaN or infinity; {name} is not defined there")
        raise OutOfRangeError(f"{name} is too large for {factors[0].dtype}; rescale A and B")
    return results


def _steps(xp: Any, step: Any, like: Any) -> Any:
    """Step lengths as (…, 1, 1) array."""
    return xp.asarray(step, dtype=like.dtype, device=array_api_compat.device(like))[..., None, None]


def _moved(xp: Any, left: Any, right: Any, steps: Any, ratio: float) -> tuple[Any, Any]:
    """The paper's update (module docstring)."""
    difference = _difference(left, right, ratio)
    return left + ratio * steps * (left @ difference), right - steps * (difference @ right)


def _upcast(xp: Any, A: Any, B: Any) -> tuple[Any, Any]:
    """The factors in their own dtype, or in float32 if that is less."""
    dtype = xp.result_type(A.dtype, xp.float32)
    return xp.astype(A, dtype), xp.astype(B, dtype)


def _difference(A: Any, B: Any, ratio: float) -> Any:
    """BBᵀ − ratio·AᵀA."""
    e = math.frexp(ratio)[1] // 2
    if abs(e) > 32:  # AᵀA may over- or underflow where ratio·AᵀA does not
        A, ratio = A * 2.0**e, math.ldexp(ratio, -2 * e)
    return B @ B.mT - ratio * (A.mT @ A)
