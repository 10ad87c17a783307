"""Argument checks shared by the whole package: what is wrong, with which shape, and what to do about it."""

import math
import sys
from numbers import Real
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FLOAT64 = np.dtype(np.float64)


class DegenerateTargetError(ValueError):
    """The target Z does not determine an isolated GL(r) orbit of minimizers.

    Raised when rank Z < r or s_r = s_{r+1}: then the Hessian has more than r² zero modes and κ = L/μ has
    no meaning that a single number could carry.
    """


class NotAMinimizerError(ValueError):
    """The pair (A, B) is not a global minimizer of ½‖Z − AB‖², where the closed forms live."""


class OutOfRangeError(ValueError):
    """A result does not fit into the floating-point type that it is asked for in: it is too large or too small."""


def as_array(name: str, value: ArrayLike, *, what: str = "a real matrix", finite: bool = True) -> Array:
    """Returns `value` as a finite float64 array of its own, of any shape.

    Args:
        name: of the argument, for errors.
        value: anything that NumPy understands, or a torch tensor of any dtype and device.
        what: what is expected, for errors.
        finite: False lets NaN and infinity pass, for callers that look for them later.

    Raises:
        TypeError: on what holds no plain real numbers, or would lose what it knows besides (a gradient, a mask).
        ValueError: on NaN, infinity, or numbers that float64 does not hold.
    """
    if type(value) is np.ndarray and value.dtype == np.float64 and np.isfinite(value).all():
        return value.astype(np.float64)  # nothing to ask about
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        value = _numpy_of_tensor(name, value, what, torch)
    elif isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill or drop what is masked, e.g. {name}.filled(0.0)")
    elif hasattr(value, "toarray") and not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is sparse; pass {name}.toarray()")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} must be {what}, but its rows do not form one: {error}") from None
    except Exception as error:  # whatever a foreign array's __array__ raises
        raise TypeError(f"{name} must be {what}, but {type(value).__name__} does not become one: {error}") from None
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be {what}, but has dtype {array.dtype}")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        converted = array.astype(np.float64)
    if not np.isfinite(converted).all():
        if np.isfinite(array).all():
            raise OutOfRangeError(f"{name} has entries that float64 does not hold; rescale it first")
        if finite:
            raise ValueError(f"{name} contains NaN or infinity; clean it before asking for its conditioning")
    if array.dtype.itemsize > 8 and ((converted == 0) & (array != 0)).any():
        raise OutOfRangeError(f"{name} has entries that float64 does not hold; rescale it first")
    return converted


def _numpy_of_tensor(name: str, tensor: Any, what: str, torch: Any) -> Any:
    """A tensor's numbers as a NumPy array; only floating types below float64 are converted."""
    _check_tensor(name, tensor)
    if tensor.requires_grad:
        raise TypeError(f"{name} requires grad, which does not flow through this function; pass {name}.detach()")
    if tensor.is_complex() or tensor.dtype == torch.bool or tensor.is_quantized:
        raise TypeError(f"{name} must be {what}, but has dtype {tensor.dtype}")
    if tensor.is_floating_point():
        tensor = tensor.to(torch.float64)
    try:
        return tensor.cpu().resolve_neg().numpy()
    except (RuntimeError, TypeError) as error:
        raise TypeError(f"{name} must be {what}, but this tensor does not become one: {error}") from None


def _check_tensor(name: str, tensor: Any) -> None:
    """Raises TypeError for a torch tensor that has no dense values."""
    if tensor.device.type == "meta":
        raise TypeError(f"{name} is on the meta device and has no values; load or materialize it first")
    if "strided" not in str(tensor.layout):
        raise TypeError(f"{name} is sparse; pass {name}.to_dense()")


def as_matrix(name: str, value: ArrayLike) -> Array:
    """Returns `value` as a finite float64 matrix, or raises ValueError/TypeError naming the argument."""
    array = as_array(name, value)
    if array.ndim != 2:
        raise ValueError(f"{name} must be a matrix (2 dimensions), but has shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"{name} must not be empty, but has shape {array.shape}")
    return array


def as_stack(name: str, value: ArrayLike) -> Array:
    """Returns `value` as float64 matrices (…, m, n), finite or not, and perhaps the caller's own array."""
    array = value if type(value) is np.ndarray and value.dtype is FLOAT64 else as_array(name, value, finite=False)
    if array.ndim < 2:
        raise ValueError(f"{name} must be a matrix (2 dimensions), but has shape {array.shape}")
    if 0 in array.shape[-2:]:
        raise ValueError(f"{name} must not be empty, but has shape {array.shape}")
    return array


def as_number(name: str, value: Any) -> float:
    """Returns a real number, or an array of no dimensions, as float; NaN and infinity are left to the caller."""
    plain = isinstance(value, Real) and not isinstance(value, bool)
    kind = getattr(getattr(value, "dtype", None), "kind", "f")  # of a NumPy scalar or array
    if not (plain or getattr(value, "ndim", None) == 0) or kind not in "fiu":
        raise TypeError(f"{name} must be a real number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a real number, not {value!r}") from None


def check_integer(name: str, value: Any) -> None:
    """Raises TypeError unless `value` is an integer."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, not {value!r}")


def storage_eps(value: ArrayLike) -> float:
    """Machine epsilon of the floating type of an array or tensor, at least float64's, which others get."""
    eps = float(np.finfo(np.float64).eps)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return max(float(torch.finfo(value.dtype).eps), eps) if value.is_floating_point() else eps
    dtype = np.asarray(value).dtype
    return max(float(np.finfo(dtype).eps), eps) if dtype.kind == "f" else eps


def check_inner_dimension(A: Any, B: Any) -> None:
    """Raises ValueError unless A is (…, a, r) and B is (…, r, b) with one r."""
    if A.ndim < 2 or B.ndim < 2:
        raise ValueError(
            f"A and B must be matrices or stacks of them, but have shapes {tuple(A.shape)} and {tuple(B.shape)}"
        )
    if A.shape[-1] != B.shape[-2]:
        raise ValueError(
            f"A {tuple(A.shape)} and B {tuple(B.shape)} do not share an inner dimension r: the product AB "
            "needs A (a, r) and B (r, b). PEFT stores them the other way round: its lora_B is A here"
        )


def factor_namespace(A: Any, B: Any) -> Any:
    """The array namespace of a pair A (…, a, r), B (…, r, b), after all checks that do not look at entries.

    Raises:
        TypeError: if A and B are of different libraries or dtypes, not real floating point of at most 64 bits, or
            without plain dense values (masked, sparse, `np.matrix`, on torch's meta device).
        ValueError: on mismatched shapes, different devices or an empty array.
    """
    check_plain("A", A)
    check_plain("B", B)
    try:
        if not (array_api_compat.is_array_api_obj(A) and array_api_compat.is_array_api_obj(B)):
            raise TypeError  # None and numbers are passed over by array_namespace
        xp = array_api_compat.array_namespace(A, B)
    except TypeError:
        raise TypeError(
            f"A and B must both be NumPy arrays or both torch tensors, not {type(A).__name__} and {type(B).__name__}"
        ) from None
    check_inner_dimension(A, B)
    if A.shape[:-2] != B.shape[:-2]:
        raise ValueError(f"A {tuple(A.shape)} and B {tuple(B.shape)} have different leading dimensions")
    if 0 in A.shape or 0 in B.shape:
        raise ValueError(f"A {tuple(A.shape)} and B {tuple(B.shape)} must not be empty")
    if A.dtype != B.dtype or not xp.isdtype(A.dtype, "real floating"):
        raise TypeError(f"A and B must share one real floating dtype, but have {A.dtype} and {B.dtype}")
    if A.dtype.itemsize > 8:
        raise TypeError(f"A and B have dtype {A.dtype}, beyond float64; pass A.astype(float) and B.astype(float)")
    if array_api_compat.device(A) != array_api_compat.device(B):
        raise ValueError(
            f"A is on {array_api_compat.device(A)}, B on {array_api_compat.device(B)}; move one to the other's device"
        )
    return xp


def check_gradients(A: Any, B: Any, g_A: Any, g_B: Any) -> None:
    """Checks the gradients by the factors of a pair that `factor_namespace` has accepted; entries are not looked at.

    Raises:
        TypeError: if they are of another library than the factors, or without plain dense values.
        ValueError: if one has not the shape and dtype of its factor.
    """
    try:
        array_api_compat.array_namespace(A, g_A, g_B)
    except TypeError:
        raise TypeError("g_A and g_B must be arrays of the library that A and B are of") from None
    for name, gradient, factor in (("g_A", g_A, A), ("g_B", g_B, B)):
        check_plain(name, gradient)
        if gradient.shape != factor.shape or gradient.dtype != factor.dtype:
            found, wanted = (f"{tuple(M.shape)} {M.dtype}" for M in (gradient, factor))
            raise ValueError(f"{name} is {found}, but its factor is {wanted}")


def check_fits(xp: Any, name: str, moved: Any, gradient: Any, advice: str) -> None:
    """Raises OutOfRangeError where a finite (…, m, n) gradient became one that its dtype does not hold."""
    if bool(xp.all(xp.isfinite(moved))):
        return
    lost = ~xp.all(xp.isfinite(moved), axis=(-2, -1))
    if bool(xp.any(lost & xp.all(xp.isfinite(gradient), axis=(-2, -1)))):
        raise OutOfRangeError(f"{name} does not fit into {gradient.dtype}; {advice}")


def check_plain(name: str, M: Any) -> None:
    """Raises TypeError for an array that has no plain dense values: masked, `np.matrix`, sparse, on the meta device."""
    if type(M) is np.ndarray:
        return
    if array_api_compat.is_torch_array(M):
        _check_tensor(name, M)
    elif isinstance(M, np.ma.MaskedArray | np.matrix):
        raise TypeError(f"{name} is a {type(M).__name__}; pass a plain array, e.g. np.asarray({name})")


def eye_like(xp: Any, M: Any) -> Any:
    """Identity of the size, dtype and device of the (…, r, r) array M."""
    return xp.eye(M.shape[-1], dtype=M.dtype, device=array_api_compat.device(M))


def as_pair(A: ArrayLike, B: ArrayLike) -> tuple[Array, Array]:
    """Returns A (a, r) and B (r, b) as finite float64 matrices with matching r."""
    left, right = as_matrix("A", A), as_matrix("B", B)
    check_inner_dimension(left, right)
    return left, right


def as_problem(A: ArrayLike, B: ArrayLike, Z: ArrayLike) -> tuple[Array, Array, Array]:
    """Returns A (a, r), B (r, b), Z (a, b) as finite float64 matrices with matching shapes."""
    left, right = as_pair(A, B)
    target = as_matrix("Z", Z)
    if target.shape != (left.shape[0], right.shape[1]):
        raise ValueError(f"Z has shape {target.shape}, but AB has shape {(left.shape[0], right.shape[1])}")
    return left, right, target


def as_singular_values(values: ArrayLike) -> Array:
    """Returns singular values as a finite, non-negative, descending float64 vector."""
    s = as_array("singular values", values, what="a vector of real numbers")
    if s.ndim != 1 or s.size == 0:
        raise ValueError(f"singular values must be a non-empty vector, but have shape {s.shape}")
    if (s < 0).any():
        raise ValueError(f"singular values must not be negative, but the smallest is {s.min():g}")
    if (np.diff(s) > 0).any():
        raise ValueError("singular values must be in descending order; sort them first")
    return s


def check_rank(r: int, a: int, b: int) -> None:
    """Raises ValueError unless 1 ≤ r ≤ min(a, b), and TypeError unless r is an integer."""
    check_integer("rank r", r)
    if not 1 <= r <= min(a, b):
        raise ValueError(f"rank r = {r} must lie between 1 and min(a, b) = {min(a, b)}")
