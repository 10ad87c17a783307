"""What may be passed as a matrix: everything that holds plain real numbers; the rest is told what to do instead."""

import subprocess
import sys
import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

from lorakappa.conditioning import (
    GAUGES,
    OutOfRangeError,
    balance,
    balanced_condition_number,
    condition_number,
    gd_rate,
    imbalance,
    imbalance_penalty,
    imbalanced_condition_number,
    is_balanced,
    kappa_bounds,
    minimizer,
    model2_condition_number,
    model2_hessian,
    model2_jacobian,
    paper_ratio,
    penalty_gradient,
    penalty_step,
    scaled_gradient,
    sharp_sign_gd_rate,
    sign_gd_rate,
    tangent_basis,
    trained_penalty_step,
)

Z = np.diag([3.0, 2, 1, 0.5])
A, B = minimizer(Z, 2, [[2.0, 1], [0, 1]])
KAPPA = condition_number(A, B, Z)
tensor = torch.from_numpy


def masked(M):
    return np.ma.masked_array(M, M > 1)


def quantized(M):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor(M).float(), 0.1, 0, torch.qint8)


def csr(M):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tensor(M).to_sparse_csr()


ACCEPTED = {
    "list": np.ndarray.tolist,
    "fortran order": np.asfortranarray,
    "not contiguous": lambda M: np.repeat(np.repeat(M, 2, 0), 3, 1)[::2, ::3],
    "reversed": lambda M: M[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": lambda M: np.broadcast_to(M, M.shape),
    "big-endian": lambda M: M.astype(">f8"),
    "long double": lambda M: M.astype(np.longdouble),
    "np.matrix": lambda M: matrix(M),
    "DataFrame": pd.DataFrame,
    "tensor": tensor,
    "transposed tensor": lambda M: tensor(M.T.copy()).T,
    "negative view": lambda M: torch._neg_view(tensor(-M)),
    "inference tensor": lambda M: _inference(M),
}


def matrix(M):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asmatrix(M)


def _inference(M):
    with torch.inference_mode():
        return tensor(M) * 1


@pytest.mark.parametrize("kind", ACCEPTED)
def test_kappa_of_any_container_of_real_numbers(kind):
    pass_on = ACCEPTED[kind]
    assert condition_number(pass_on(A), pass_on(B), pass_on(Z)) == pytest.approx(KAPPA, rel=1e-14)
    assert kappa_bounds(pass_on(A), pass_on(B), pass_on(Z)) == pytest.approx(kappa_bounds(A, B, Z), rel=1e-14)
    assert not is_balanced(pass_on(A), pass_on(B))


@pytest.mark.parametrize(
    ("narrow", "rtol"),
    [
        (lambda M: M.astype(np.float16), 1e-2),
        (lambda M: M.astype(np.float32), 1e-6),
        (lambda M: tensor(M).half(), 1e-2),
        (lambda M: tensor(M).bfloat16(), 3e-2),
        (lambda M: tensor(M).float(), 1e-6),
    ],
)
def test_kappa_of_factors_in_low_precision(narrow, rtol):
    assert condition_number(narrow(A), narrow(B), Z, rtol=rtol) == pytest.approx(KAPPA, rel=20 * rtol)
    X, Y = balance(narrow(A), narrow(B))
    assert X.dtype == narrow(A).dtype
    assert is_balanced(X, Y)


def test_kappa_of_integers():
    left, right = np.eye(4, 2, dtype=int) * 3, np.eye(2, 4, dtype=np.uint8)
    assert condition_number(left, right, np.diag([3, 3, 0, 0])) == pytest.approx(10)
    assert condition_number(tensor(left), tensor(right), np.diag([3, 3, 0, 0])) == pytest.approx(10)


REFUSED = {
    "requires grad": (lambda M: tensor(M).requires_grad_(), TypeError, r"requires grad.*pass {}\.detach\(\)"),
    "parameter": (lambda M: torch.nn.Parameter(tensor(M)), TypeError, r"requires grad.*pass {}\.detach\(\)"),
    "sparse tensor": (lambda M: tensor(M).to_sparse(), TypeError, r"{} is sparse; pass {}\.to_dense\(\)"),
    "CSR tensor": (csr, TypeError, r"{} is sparse; pass {}\.to_dense\(\)"),
    "meta tensor": (lambda M: tensor(M).to("meta"), TypeError, "{} is on the meta device and has no values"),
    "quantized": (quantized, TypeError, "{} must be a real matrix, but has dtype torch.qint8"),
    "sparse matrix": (scipy.sparse.csr_matrix, TypeError, r"{} is sparse; pass {}\.toarray\(\)"),
    "masked": (masked, TypeError, r"{} is a masked array; .* {}\.filled"),
    "complex": (lambda M: M + 0j, TypeError, "{} must be a real matrix, but has dtype complex128"),
    "complex tensor": (lambda M: tensor(M) + 0j, TypeError, "{} must be a real matrix, but has dtype torch.complex128"),
    "bool": (lambda M: M > 0, TypeError, "{} must be a real matrix, but has dtype bool"),
    "bool tensor": (lambda M: tensor(M) > 0, TypeError, "{} must be a real matrix, but has dtype torch.bool"),
    "object": (lambda M: M.astype(object), TypeError, "{} must be a real matrix, but has dtype object"),
    "strings": (lambda M: M.astype(str), TypeError, "{} must be a real matrix, but has dtype <U"),
    "dates": (lambda M: M.astype("M8[s]"), TypeError, "{} must be a real matrix, but has dtype datetime64"),
    "records": (lambda M: np.zeros(M.shape, "f8,f8"), TypeError, "{} must be a real matrix"),
    "nothing": (lambda M: None, TypeError, "{} must be a real matrix, but has dtype object"),
    "ragged": (lambda M: [[1.0, 2], [3]], ValueError, "{} must be a real matrix, but its rows do not form one"),
    "number": (lambda M: 3.0, ValueError, r"{} must be a matrix \(2 dimensions\), but has shape \(\)"),
    "0-d": (lambda M: tensor(M).sum(), ValueError, r"{} must be a matrix \(2 dimensions\), but has shape \(\)"),
    "1-d": (lambda M: M[0], ValueError, r"{} must be a matrix \(2 dimensions\), but has shape \(\d,\)"),
    "empty": (lambda M: M[:, :0], ValueError, r"{} must not be empty, but has shape \(\d, 0\)"),
    "NaN": (lambda M: M * np.nan, ValueError, "{} contains NaN or infinity"),
    "infinity": (lambda M: M + np.inf, ValueError, "{} contains NaN or infinity"),
    "too large": (lambda M: M.astype(np.longdouble) * np.longdouble("1e400"), OutOfRangeError, "float64 does not hold"),
    "too small": (
        lambda M: M.astype(np.longdouble) * np.longdouble("1e-400"),
        OutOfRangeError,
        "float64 does not hold",
    ),
}
LONG_DOUBLE = np.finfo(np.longdouble).max > np.finfo(np.float64).max


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("which", range(3))
def test_what_is_no_matrix_of_real_numbers_is_refused_in_one_line(kind, which):
    if kind.startswith("too") and not LONG_DOUBLE:
        pytest.skip("long double is float64 here")
    spoil, error, message = REFUSED[kind]
    arguments = [A, B, Z]
    arguments[which] = spoil(arguments[which])
    if arguments[2] is None:
        return  # no target is another matter: `singular_values` may be given
    with pytest.raises(error, match=message.replace("{}", "ABZ"[which])) as caught:
        condition_number(*arguments)
    assert "\n" not in str(caught.value)


def test_a_foreign_array_that_refuses_conversion_is_named():
    class Elsewhere:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("on another device")

    with pytest.raises(
        TypeError, match="A must be a real matrix, but Elsewhere does not become one: on another device"
    ):
        condition_number(Elsewhere(), B, Z)


PAIRS_REFUSED = {
    "lists": (np.ndarray.tolist, TypeError, "must both be NumPy arrays or both torch tensors, not list and list"),
    "None": (lambda M: None, TypeError, "must both be NumPy arrays or both torch tensors, not NoneType and NoneType"),
    "numbers": (lambda M: 1.0, TypeError, "must both be NumPy arrays or both torch tensors, not float and float"),
    "masked": (masked, TypeError, r"A is a MaskedArray; pass a plain array"),
    "np.matrix": (lambda M: matrix(M), TypeError, r"A is a matrix; pass a plain array, e\.g\. np\.asarray\(A\)"),
    "sparse": (lambda M: tensor(M).to_sparse(), TypeError, r"A is sparse; pass A\.to_dense\(\)"),
    "CSR": (csr, TypeError, r"A is sparse; pass A\.to_dense\(\)"),
    "meta": (lambda M: tensor(M).to("meta"), TypeError, "A is on the meta device and has no values"),
    "integers": (lambda M: M.astype(int), TypeError, "one real floating dtype, but have int64 and int64"),
    "complex": (lambda M: M + 0j, TypeError, "one real floating dtype, but have complex128"),
    "bool": (lambda M: M > 0, TypeError, "one real floating dtype, but have bool"),
    "object": (lambda M: M.astype(object), TypeError, "one real floating dtype, but have object"),
    "0-d": (lambda M: np.array(1.0), ValueError, r"must be matrices or stacks of them, but have shapes \(\) and \(\)"),
    "1-d": (lambda M: tensor(M[0].copy()), ValueError, r"must be matrices .* have shapes \(\d,\) and \(\d,\)"),
    "empty": (lambda M: M[:0, :0], ValueError, "must not be empty"),
}
if LONG_DOUBLE:
    PAIRS_REFUSED["long double"] = (
        lambda M: M.astype(np.longdouble),
        TypeError,
        r"beyond float64; pass A\.astype\(float\)",
    )


@pytest.mark.parametrize("kind", PAIRS_REFUSED)
def test_pairs_that_are_no_plain_arrays_are_refused_in_one_line(kind):
    spoil, error, message = PAIRS_REFUSED[kind]
    left, right = spoil(A), spoil(B)
    for function in (
        balance,
        imbalance,
        imbalance_penalty,
        penalty_gradient,
        lambda X, Y: penalty_step(X, Y, step=0.1),
        lambda X, Y: trained_penalty_step(X, Y, step=0.1, log_ratio=0.0),
        lambda X, Y: scaled_gradient(X, Y, X, Y),
    ):
        with pytest.raises(error, match=message) as caught:
            function(left, right)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_pairs_are_refused_without_a_warning(value):
    spoiled = A.copy()
    spoiled[1, 1] = value
    for function in (balance, imbalance, imbalance_penalty, penalty_gradient):
        for convert in (np.asarray, tensor):
            with pytest.raises(ValueError, match="A or B contains NaN or infinity"):
                function(convert(spoiled), convert(B))


@pytest.mark.parametrize("kind", ["fortran order", "not contiguous", "reversed", "read-only", "big-endian"])
def test_balance_of_arrays_of_any_layout(kind):
    expected = balance(A, B)
    found = balance(ACCEPTED[kind](A), ACCEPTED[kind](B))
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14, atol=1e-15)
        assert x.flags.writeable


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_balance_in_eight_bits_is_finite(name):
    left, right = (tensor(M).to(getattr(torch, name)) for M in (A * 100, B / 100))
    for M in balance(left, right):
        assert M.dtype == left.dtype
        assert M.to(torch.float64).isfinite().all()


# --- gradients ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gauge", GAUGES)
def test_balance_is_differentiated_where_it_has_a_derivative(gauge):
    rng = np.random.default_rng(0)
    left, right = (tensor(rng.standard_normal(shape)).requires_grad_() for shape in ((5, 3), (3, 4)))
    assert torch.autograd.gradcheck(lambda X, Y: balance(X, Y, gauge=gauge), (left, right))
    for found, plain in zip(
        balance(left, right, gauge=gauge), balance(left.detach(), right.detach(), gauge=gauge), strict=True
    ):
        assert found.requires_grad
        assert not plain.requires_grad
        assert torch.equal(found.detach(), plain)
    with torch.no_grad():
        assert not balance(left, right, gauge=gauge)[0].requires_grad


def test_where_balance_has_no_derivative_the_backward_pass_says_so():
    equal = torch.eye(4, 2, dtype=torch.float64, requires_grad=True)
    X, Y = balance(equal, torch.eye(2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"balance has no derivative at this pair: .*torch\.no_grad"):
        (X.sum() + Y.square().sum()).backward()
    start = tensor(A).requires_grad_()
    X, Y = balance(start, torch.zeros(2, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="balance has no derivative at this pair"):
        X.sum().backward()


def test_the_penalty_is_differentiated():
    left, right = (tensor(M).requires_grad_() for M in (A, B))
    imbalance_penalty(left, right, 0.3).backward()
    for found, expected in zip((left.grad, right.grad), penalty_gradient(A, B, 0.3), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


# --- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "1", 1j, True, [1.0, 2.0], np.ones(2), object(), np.str_("2")])
def test_what_is_no_number_is_refused(value):
    for name, call in (
        ("κ", lambda: gd_rate(value)),
        ("κ", lambda: sign_gd_rate(value, 3)),
        ("rtol", lambda: condition_number(A, B, Z, rtol=value)),
        ("rtol", lambda: is_balanced(A, B, rtol=value) if value is not None else gd_rate(value)),
        ("ratio ρ", lambda: imbalanced_condition_number([2.0, 1.0], 1, value)),
        ("ratio ρ", lambda: imbalance(A, B, value)),
        ("damping δ", lambda: scaled_gradient(A, B, A, B, damping=value)),
        ("power", lambda: paper_ratio(8, 2, power=value)),
    ):
        with pytest.raises(TypeError, match=f"({name}|κ) must be a real number, not "):
            call()


def test_numbers_of_any_real_type_are_taken():
    for kappa in (3, Fraction(3), np.float32(3), np.int64(3), np.array(3.0), torch.tensor(3.0)):
        assert gd_rate(kappa) == 0.25
        assert sign_gd_rate(kappa, np.int64(5)) == 1 - 1 / 15
    assert gd_rate(1.7e308) == 1
    assert sign_gd_rate(1.7e308, 10**6) == 1
    with pytest.raises(ValueError, match="κ = inf is not a condition number"):
        gd_rate(10**400)
    with pytest.raises(TypeError, match=r"d must be an integer, not 2\.5"):
        sign_gd_rate(2.0, 2.5)
    with pytest.raises(TypeError, match="kernel_dimension must be an integer"):
        sharp_sign_gd_rate(np.eye(3), kernel_dimension=1.5)
    for shape in ((2.0, 3), (3,), 3, "ab"):
        with pytest.raises(TypeError, match="shape"):
            balanced_condition_number([2.0, 1.0, 0.5], 1, shape)
    with pytest.raises(ValueError, match="rtol = nan must be a number ≥ 0"):
        is_balanced(A, B, rtol=np.nan)


def test_singular_values_that_are_no_vector_of_numbers_are_refused():
    for s, error, message in (
        (torch.tensor([2.0, 1.0], requires_grad=True), TypeError, "singular values requires grad"),
        (["2", "1"], TypeError, "must be a vector of real numbers, but has dtype"),
        ([2.0 + 1j, 1], TypeError, "dtype complex128"),
        ([np.inf, 1.0], ValueError, "singular values contains NaN or infinity"),
    ):
        with pytest.raises(error, match=message):
            balanced_condition_number(s, 1)


def test_more_columns_than_a_product_can_use_are_refused():
    wide, flat = np.ones((1, 3)), np.ones((3, 1))
    for call in (lambda: tangent_basis(wide, flat), lambda: model2_condition_number(wide, flat, [[1.0]])):
        with pytest.raises(ValueError, match=r"rank r = 3 must lie between 1 and min\(a, b\) = 1"):
            call()


def test_functions_that_are_no_model_are_refused():
    for h, error, message in (
        (lambda W: W.numpy(), TypeError, "h must return a torch tensor of real numbers, not ndarray"),
        (lambda W: W + 0j, TypeError, "h must return a torch tensor of real numbers, not torch.complex128"),
        (lambda W: W / 0, ValueError, "contains NaN or infinity"),
        (lambda W: (W - W).abs().sqrt(), ValueError, "contains NaN or infinity"),
    ):
        with pytest.raises(error, match=message):
            model2_hessian(A, B, Z, h)
        with pytest.raises(error, match=message):
            model2_jacobian(A, B, h)
    with pytest.raises(ValueError, match="target contains NaN"):
        model2_hessian(A, B, Z * np.nan, lambda W: W)


# --- the command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "e", "expected"),
    [
        (1e155, 1, (2, "does not fit into float64")),
        (1e100, 1, (2, r"κ = 2.00e+400 does not fit into float64")),
        (1e77, 1, (2, r"κ = 2.00e+308 does not fit into float64")),
        (1e70, 1, (0, "2e+280")),
        (1, 1e-290, (0, "6")),
        (1, 1e290, (0, "6")),
    ],
)
def test_kappa_of_a_file_at_any_size(tmp_path, t, e, expected):
    file = tmp_path / "pair.npz"
    X, Y = minimizer(Z, 2)
    np.savez(file, A=X * t * e**0.5, B=Y / t * e**0.5, Z=Z * e)
    command = [sys.executable, "-W", "error", "-m", "conditioning", "kappa", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, fragment = expected
    assert done.returncode == code, done.stderr
    if code:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert fragment in done.stderr
    else:
        assert f"κ = L/μ                    {fragment} " in done.stdout.replace("\n", " \n"), done.stdout
        assert "inf" not in done.stdout or t > 1
