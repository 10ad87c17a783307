"""Powers of two, taken out of the arguments once, where they come in, so that nothing over- or underflows on the way.

A power of two changes no digit. What the formulas need of a matrix of extreme size is the matrix divided by one
(`unit`, `unit_pair`) and the exponent; what they make of it is a number with an exponent of its own (`Wide`), which
becomes a float64 at the end or an error that names it (`Wide.fit`, `fit_array`). Matrices of moderate size are left
as they are: their squares, products and quotients are nowhere near the limits of float64.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.checks import Array, OutOfRangeError

MODERATE = 128
"""Matrices whose largest entry lies between 2^-128 and 2^128 are not scaled."""

LARGEST = float(np.finfo(np.float64).max)
SMALLEST = float(np.finfo(np.float64).tiny)
"""Smallest number with all 53 digits; below it float64 loses them, and then the number."""

_TOP = 2.0**256
_BOTTOM = 2.0**-256


def even_exponent(*matrices: Array) -> int:
    """The even e for which the largest entry of all lies in [2^(e−2), 2^e); 0 if they are 0 or moderate."""
    return _even(max(float(np.abs(M).max(initial=0.0)) for M in matrices))


def layer_exponent(A: Array, B: Array, W: Array) -> int:
    """The h for which A·2^−h, B·2^−h and W·2^−2h, which scale with AB, have entries up to order 1."""
    return _even(max(*(float(np.abs(M).max(initial=0.0)) for M in (A, B)), float(np.abs(W).max(initial=0.0)) ** 0.5))


def _even(largest: float) -> int:
    e = math.frexp(largest)[1]
    return 0 if abs(e) <= MODERATE else e + e % 2


def unit(M: Array) -> tuple[Array, int]:
    """(M·2^−e, e) with entries of M·2^−e of order 1, e even; (M, 0) where M is of moderate size."""
    e = even_exponent(M)
    return shifted(M, -e), e


def unit_pair(A: Array, B: Array) -> tuple[Array, Array, int]:
    """Both divided by one 2^e, where their relative size matters."""
    e = even_exponent(A, B)
    return shifted(A, -e), shifted(B, -e), e


def shifted(M: Array, e: int) -> Array:
    """M·2^e; what it makes too small or too large becomes 0 or infinite."""
    if e == 0:
        return M
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.ldexp(M, e))


def common_exponent(*scaled: tuple[Array, int]) -> int:
    """The largest e of matrices M·2^e, given as (M, e), that are not 0."""
    return max((e for M, e in scaled if M.any()), default=0)


def exponents(xp: Any, M: Any) -> Any:
    """(…, 1, 1) whole numbers p with the largest entry of the (…, ·, ·) array M about 2^p; 0 where M is 0.

    They are cut where 2^p or 2^−p would leave the dtype. NaN and infinity come out as NaN or infinity.
    """
    M = M.detach() if hasattr(M, "detach") else M
    largest = xp.max(xp.abs(M), axis=(-2, -1), keepdims=True)
    safe = xp.where(largest == 0, xp.ones_like(largest), largest)
    limit = math.floor(math.log2(float(xp.finfo(M.dtype).max))) - 24.0
    p = xp.round(xp.log2(safe))
    return xp.where(xp.isfinite(largest), xp.clip(p, -limit, limit), largest)


@dataclass(frozen=True, slots=True)
class Wide:
    """The number value·2^exponent, rounded like float64 but with an exponent of any size.

    Moderate values are kept as they are, so that there every operation is float64's, digit by digit.
    """

    value: float
    exponent: int = 0

    @classmethod
    def of(cls, value: float, exponent: int = 0) -> Self:
        """value·2^exponent."""
        value = float(value)
        if _BOTTOM < abs(value) < _TOP or value == 0:
            return cls(value, exponent if value else 0)
        mantissa, e = math.frexp(value)
        return cls(mantissa, e + exponent)

    def _aligned(self, other: "Wide") -> tuple[float, float, int]:
        """Both values with one exponent, at which the smaller one may become 0."""
        if self.exponent == other.exponent:
            return self.value, other.value, self.exponent
        top = max(w.exponent + math.frexp(w.value)[1] for w in (self, other) if w.value)
        return math.ldexp(self.value, self.exponent - top), math.ldexp(other.value, other.exponent - top), top

    def __add__(self, other: "Wide") -> "Wide":
        x, y, e = self._aligned(other)
        return Wide.of(x + y, e)

    def __sub__(self, other: "Wide") -> "Wide":
        x, y, e = self._aligned(other)
        return Wide.of(x - y, e)

    def __mul__(self, other: "Wide") -> "Wide":
        return Wide.of(self.value * other.value, self.exponent + other.exponent)

    def __truediv__(self, other: "Wide") -> "Wide":
        return Wide.of(self.value / other.value if other.value else math.inf, self.exponent - other.exponent)

    def __rtruediv__(self, other: float) -> "Wide":
        return Wide.of(other) / self

    def __lt__(self, other: "Wide") -> bool:
        x, y, _ = self._aligned(other)
        return x < y

    def squared(self) -> "Wide":
        """Its square."""
        return Wide.of(self.value**2, 2 * self.exponent)

    def hypot(self, other: "Wide") -> "Wide":
        """√(self² + other²)."""
        x, y, e = self._aligned(other)
        return Wide.of(np.hypot(x, y), e)

    @property
    def nearest(self) -> float:
        """The nearest float64: 0 or ±inf where there is none."""
        try:
            return math.ldexp(self.value, self.exponent)
        except OverflowError:
            return math.copysign(math.inf, self.value)

    def fit(self, name: str) -> float:
        """The number as float64.

        Args:
            name: what it is called in the error.

        Raises:
            OutOfRangeError: if it is not 0 and does not fit.
        """
        if self.value and not SMALLEST <= abs(self.nearest) <= LARGEST:
            raise _out_of_range(f"{name} = {self}")
        return self.nearest

    def __str__(self) -> str:
        if not math.isfinite(self.value) or self.value == 0 or SMALLEST <= abs(self.nearest) <= LARGEST:
            return f"{self.nearest:.3g}"
        decades = math.log10(abs(self.value)) + self.exponent * math.log10(2)
        return f"{'-' * (self.value < 0)}{10 ** (decades % 1):.2f}e{math.floor(decades):+d}"


@dataclass(frozen=True, slots=True)
class WideArray:
    """Positive numbers values·2^exponents, as `Wide` is one number."""

    values: Array
    exponents: NDArray[np.int32]

    @classmethod
    def of(cls, values: Array, exponent: int = 0) -> Self:
        """values·2^exponent, a vector."""
        mantissas, exponents = np.frexp(values.ravel())
        return cls(mantissas, exponents + np.int32(exponent))

    def squared(self) -> "WideArray":
        """Their squares."""
        return WideArray(self.values**2, 2 * self.exponents)

    def halved(self) -> "WideArray":
        """Their halves."""
        return WideArray(self.values, self.exponents - 1)

    def plus_each(self, other: "WideArray") -> "WideArray":
        """All sums of a number here and one there."""
        top = np.maximum(self.exponents[:, None], other.exponents)
        here = np.ldexp(self.values[:, None], self.exponents[:, None] - top)
        return WideArray((here + np.ldexp(other.values, other.exponents - top)).ravel(), top.ravel())

    def repeated(self, times: int) -> "WideArray":
        """Each number `times` times."""
        return WideArray(np.repeat(self.values, times), np.repeat(self.exponents, times))

    def joined(self, other: "WideArray") -> "WideArray":
        """These and those."""
        return WideArray(np.append(self.values, other.values), np.append(self.exponents, other.exponents))

    def fit(self, name: str) -> Array:
        """The numbers as float64; OutOfRangeError with the name if one of them is 0, not finite or does not fit."""
        with np.errstate(over="ignore", under="ignore"):
            numbers = np.asarray(np.ldexp(self.values, self.exponents))
        lost = ~((numbers >= SMALLEST) & (numbers <= LARGEST))
        if lost.any():
            first = int(np.argmax(lost))
            raise _out_of_range(f"{name} = {Wide.of(float(self.values[first]), int(self.exponents[first]))}")
        return numbers


def squared(x: Any) -> Any:
    """The square of a `Wide`, a float or an array; so are the following, for formulas written once for all of these."""
    return x.squared() if isinstance(x, Wide) else x * x


def hypotenuse(x: Any, y: Any) -> Any:
    """√(x² + y²)."""
    return x.hypot(y) if isinstance(x, Wide) else np.hypot(x, y)


def smaller(x: Any, y: Any) -> Any:
    """The smaller one of x and y."""
    return min(x, y) if isinstance(x, Wide) else np.minimum(x, y)


def larger(x: Any, y: Any) -> Any:
    """The larger one of x and y."""
    return max(x, y) if isinstance(x, Wide) else np.maximum(x, y)


def nearest(x: Any) -> Any:
    """As float64: 0 or ±inf where a `Wide` does not fit."""
    return x.nearest if isinstance(x, Wide) else x


def quotient_or_infinity(x: Any, y: Any) -> Any:
    """The float64 x/y where y > 0, else inf."""
    if isinstance(y, Wide):
        return (x / y).nearest if y.value > 0 else math.inf
    positive = np.asarray(y) > 0
    return np.where(positive, x / np.where(positive, y, 1.0), math.inf)


def wide_norm(M: Array, e: int = 0, ord: int | None = None) -> Wide:
    """Norm of M·2^e: Frobenius, or the largest singular value for `ord` 2; infinite or NaN if M has such entries."""
    if not np.isfinite(M).all():
        return Wide(math.inf)
    reduced, own = unit(M)
    return Wide.of(float(np.linalg.norm(reduced, ord)), own + e)


def fit_array(name: str, M: Array, e: int = 0, *, size: Wide | None = None) -> Array:
    """M·2^e as float64.

    What is small beside the largest entry may be rounded to less than 53 digits, or to 0.

    Args:
        name: what it is called in the error.
        M: the array.
        e: exponent.
        size: of what it was calculated from; None is its largest entry.

    Raises:
        OutOfRangeError: if an entry is too large or not finite, or `size` too small.
    """
    result = shifted(M, e)
    largest = float(np.abs(M).max(initial=0.0))
    (Wide.of(largest, e) if size is None else max(Wide.of(largest, e), size)).fit(f"the largest entry of {name}")
    return result


def _out_of_range(what: str) -> OutOfRangeError:
    return OutOfRangeError(
        f"{what} does not fit into float64, which ranges from {SMALLEST:.3g} to {LARGEST:.3g}; "
        "rescale the arguments, or balance(A, B) a pair that is that far from balance"
    )
