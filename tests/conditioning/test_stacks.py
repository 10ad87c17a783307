"""Leading batch dimensions: what a stack gives is what a loop over its problems gives, errors included."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakappa.conditioning import (
    DegenerateTargetError,
    NotAMinimizerError,
    OutOfRangeError,
    condition_number,
    extreme_eigenvalues,
    kappa_bounds,
    minimizer,
    spectrum,
    stacks,
)
from tests.conditioning.test_recognition import near_minimizers, outcome

FUNCTIONS = {
    "κ": condition_number,
    "extremes": extreme_eigenvalues,
    "paper": kappa_bounds,
    "corrected": lambda *problem, **options: kappa_bounds(*problem, form="corrected", **options),
    "spectrum": spectrum,
}
BY_VALUES = {name: function for name, function in FUNCTIONS.items() if name != "spectrum"}


def drawn(lead, a, b, r, seed=0):
    """Targets and gauges."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((*lead, a, b)), np.eye(r) + 0.4 * rng.standard_normal((*lead, r, r))


def looped(function, lead, *arrays):
    """The function for each problem, stacked as it stacks itself."""
    found = [function(*(M[place] for M in arrays)) for place in np.ndindex(lead)]
    if isinstance(found[0], tuple):
        return [np.reshape([x[i] for x in found], (*lead, *np.shape(found[0][i]))) for i in range(len(found[0]))]
    return np.reshape(found, (*lead, *np.shape(found[0])))


def as_list(result):
    return list(result) if isinstance(result, tuple | list) else [result]


@pytest.mark.parametrize(("a", "b", "r"), [(5, 4, 2), (4, 6, 3), (3, 3, 1), (4, 4, 4), (5, 3, 3), (3, 5, 3), (1, 1, 1)])
@pytest.mark.parametrize("lead", [(7,), (2, 3), (1, 1, 2)])
def test_a_stack_gives_what_a_loop_gives(a, b, r, lead):
    Z, G = drawn(lead, a, b, r)
    A, B = minimizer(Z, r, G)
    for one, other in zip((A, B), looped(lambda z, g: minimizer(z, r, g), lead, Z, G), strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    for function in FUNCTIONS.values():
        expected = as_list(looped(function, lead, A, B, Z))
        for x, y in zip(as_list(function(A, B, Z)), expected, strict=True):
            assert x.shape[: len(lead)] == lead
            assert x.dtype == np.float64
            np.testing.assert_allclose(x, y, rtol=1e-9)
    s = np.linalg.svd(Z, compute_uv=False)
    for function in BY_VALUES.values():
        expected = as_list(function(A, B, Z))
        for values in (s, s[..., : r + 1]):
            for x, y in zip(as_list(function(A, B, singular_values=values)), expected, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-9)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_one_problem_gives_plain_floats_and_types_stay(function):
    Z, G = drawn((), 4, 3, 2)
    A, B = minimizer(Z, 2, G)
    alone, stacked = as_list(function(A, B, Z)), as_list(function(A[None], B[None], Z[None]))
    if function is not spectrum:
        assert all(type(x) is float for x in alone)
        assert all(type(x) is float for x in as_list(function(A.tolist(), B.tolist(), torch.from_numpy(Z))))
    assert all(x.shape == (1, *np.shape(y)) for x, y in zip(stacked, alone, strict=True))
    assert type(function(A, B, Z)) is type(function(A[None], B[None], Z[None])) or len(alone) == 1


def test_leading_dimensions_are_broadcast():
    Z, _ = drawn((3, 1), 4, 5, 2)
    G = drawn((2,), 4, 5, 2)[1]
    A, B = minimizer(Z, 2, G)
    assert (A.shape, B.shape) == ((3, 2, 4, 2), (3, 2, 2, 5))
    kappa = condition_number(A, B, Z)
    assert kappa.shape == (3, 2)
    for i, j in np.ndindex(3, 2):
        one = minimizer(Z[i, 0], 2, G[j])
        np.testing.assert_allclose(A[i, j], one[0], rtol=1e-12)
        assert kappa[i, j] == pytest.approx(condition_number(*one, Z[i, 0]), rel=1e-10)
    s = np.linalg.svd(Z, compute_uv=False)
    np.testing.assert_allclose(condition_number(A, B, singular_values=s), kappa, rtol=1e-9)
    np.testing.assert_allclose(spectrum(A, B, Z)[..., -1] / spectrum(A, B, Z)[..., 4], kappa, rtol=1e-9)
    # one pair at several targets that share its product, and several pairs at one target
    U, values, Vt = np.linalg.svd(Z[0, 0])
    targets = np.stack([U @ np.pad(np.diag([*values[:2], x, 0.0]), ((0, 0), (0, 1))) @ Vt for x in (0.0, 0.1, 0.2)])
    pair = minimizer(targets[0], 2)
    np.testing.assert_allclose(
        condition_number(*pair, targets), [2 * values[0] / (values[1] - x) for x in (0.0, 0.1, 0.2)], rtol=1e-12
    )
    np.testing.assert_allclose(
        condition_number(*pair, singular_values=[[*values[:2], x] for x in (0.0, 0.1, 0.2)]),
        condition_number(*pair, targets),
        rtol=1e-12,
    )
    assert condition_number(A[0], B[0], Z[0, 0]).shape == (2,)
    assert minimizer(Z[0, 0], 2, G)[0].shape == (2, 4, 2)
    assert minimizer(Z, 2, G[0])[1].shape == (3, 1, 2, 5)


def test_leading_dimensions_that_do_not_fit_are_named():
    Z, G = drawn((3,), 4, 5, 2)
    A, B = minimizer(Z, 2)
    for call in (
        lambda: condition_number(A[:2], B, Z),
        lambda: kappa_bounds(A[:2], B, singular_values=np.ones((3, 3))),
        lambda: spectrum(A[:2], B, Z),
    ):
        with pytest.raises(ValueError, match=r"the leading dimensions \(2,\), \(3,\), \(3,\) cannot be broadcast"):
            call()
    with pytest.raises(ValueError, match=r"the leading dimensions \(3,\), \(2,\) cannot be broadcast to one shape"):
        minimizer(Z, 2, G[:2])
    with pytest.raises(ValueError, match=r"Z has shape \(3, 4, 4\), but AB has shape \(4, 5\)"):
        condition_number(A, B, Z[..., :4])
    with pytest.raises(
        ValueError, match=r"G must be \(2, 2\) to act on the inner dimension, but has shape \(3, 1, 1\)"
    ):
        minimizer(Z, 2, G[:, :1, :1])
    with pytest.raises(ValueError, match="do not share an inner dimension"):
        condition_number(A, B[:, :1], Z)
    with pytest.raises(ValueError, match=r"rank r = 5 must lie between 1 and min\(a, b\) = 4"):
        minimizer(Z, 5)
    with pytest.raises(ValueError, match="not both and not neither"):
        condition_number(A, B)
    with pytest.raises(TypeError, match="spectrum needs the target Z"):
        spectrum(A, B, None)
    for function in FUNCTIONS.values():
        with pytest.raises(ValueError, match=r"rtol = -1\.0 must be a number ≥ 0"):
            function(A, B, Z, rtol=-1.0)


def test_stacks_of_nothing():
    Z, G = drawn((0, 2), 4, 5, 2)
    A, B = minimizer(Z, 2, G)
    assert (A.shape, B.shape) == ((0, 2, 4, 2), (0, 2, 2, 5))
    assert condition_number(A, B, Z).shape == (0, 2)
    assert condition_number(A, B, singular_values=np.ones((0, 2, 3))).shape == (0, 2)
    assert kappa_bounds(A, B, Z).upper.shape == (0, 2)
    assert spectrum(A, B, Z).shape == (0, 2, 18)
    with pytest.raises(ValueError, match=r"Z must not be empty, but has shape \(3, 0, 2\)"):
        minimizer(np.ones((3, 0, 2)), 1)


@pytest.mark.parametrize("entries", [1, 40, 41, 10**6])
def test_how_a_stack_is_cut_into_chunks_does_not_matter(monkeypatch, entries):
    Z, G = drawn((11,), 5, 4, 2)
    A, B = minimizer(Z, 2, G)
    kappa, upper = condition_number(A, B, Z), kappa_bounds(A, B, Z, form="corrected").upper
    monkeypatch.setattr(stacks, "CHUNK", entries)
    cut = list(stacks.chunks(11, 20))
    assert [i for part in cut for i in range(11)[part]] == list(range(11))
    assert all(part.stop - part.start == min(11, max(1, entries // 20)) for part in cut[:-1])
    for one, other in zip(minimizer(Z, 2, G), (A, B), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    np.testing.assert_allclose(condition_number(A, B, Z), kappa, rtol=1e-12)
    np.testing.assert_allclose(kappa_bounds(A, B, Z, form="corrected").upper, upper, rtol=1e-12)


# --- each problem as if it were alone --------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(near_minimizers(4), min_size=1, max_size=6), st.sampled_from([1.5e-8, 1e-4, 0.5]))
def test_every_problem_of_a_stack_is_accepted_or_refused_as_it_is_alone(cases, rtol):
    # of the problems drawn, those of the shape of the first, spoiled or not, between others that are fine
    shapes = [(A.shape, B.shape) for A, B, *_ in cases]
    alike = [case for case, shape in zip(cases, shapes, strict=True) if shape == shapes[0]]
    A, B, Z = (np.stack([case[i] for case in alike]) for i in range(3))
    s = np.linalg.svd(Z, compute_uv=False)
    for function in BY_VALUES.values():
        for options in ({}, {"singular_values": s}):
            alone = []
            for i in range(len(A)):
                own = {name: values[i] for name, values in options.items()}
                problem = (A[i], B[i]) if options else (A[i], B[i], Z[i])
                alone.append(outcome(lambda p=problem, o=own, f=function: as_list(f(*p, rtol=rtol, **o))))
            problem = (A, B) if options else (A, B, Z)
            found = outcome(lambda p=problem, o=options, f=function: as_list(f(*p, rtol=rtol, **o)))
            refused = [i for i, result in enumerate(alone) if isinstance(result, tuple)]
            if refused:
                kind, text = alone[refused[0]]
                assert found == (kind, f"problem [{refused[0]}] of the stack: {text}")
            else:
                assert isinstance(found, list)
                np.testing.assert_allclose(found, np.transpose(alone), rtol=1e-7)


@pytest.mark.parametrize("e", [1e-300, 1e-160, 1e-60, 1e60, 1e160, 1e300])
def test_extreme_sizes_beside_moderate_ones(e):
    Z, G = drawn((5,), 4, 3, 2)
    Z[1:3] *= e
    A, B = minimizer(Z, 2, G)
    expected = looped(lambda z, g: minimizer(z, 2, g), (5,), Z, G)
    np.testing.assert_allclose(A, expected[0], rtol=1e-10)
    np.testing.assert_allclose(B, expected[1], rtol=1e-10)
    A[2], B[2] = A[2] * 1e3, B[2] / 1e3  # p ≠ q
    for function in FUNCTIONS.values():
        for x, y in zip(as_list(function(A, B, Z)), as_list(looped(function, (5,), A, B, Z)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-7)
    gauges = G * np.array([1, e, 1, 1, 1 / e])[:, None, None] ** 0.25
    for one, other in zip(
        minimizer(Z, 2, gauges), looped(lambda z, g: minimizer(z, 2, g), (5,), Z, gauges), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_errors_name_the_place_in_one_line(function):
    Z, G = drawn((2, 3), 4, 5, 2)
    A, B = minimizer(Z, 2, G)

    def spoiled(M, place, value):
        M = M.copy()
        M[place] = value
        return M

    for problem, error, message in (
        (
            (spoiled(A, (1, 2), 1.0), B, Z),
            NotAMinimizerError,
            r"problem \[1, 2\] of the stack: AB is not the best rank-2",
        ),
        ((spoiled(A, (0, 1, 0, 0), np.nan), B, Z), ValueError, r"problem \[0, 1\] of the stack: A contains NaN"),
        ((A, spoiled(B, (1, 0, 0, 0), np.inf), Z), ValueError, r"problem \[1, 0\] of the stack: B contains NaN"),
        ((A, B, spoiled(Z, (0, 2, 0, 0), np.nan)), ValueError, r"problem \[0, 2\] of the stack: Z contains NaN"),
        ((A, B, spoiled(Z, (1, 1), 0.0)), DegenerateTargetError, r"problem \[1, 1\] of the stack: rank Z < r: s_2 = 0"),
        ((A * 1e160, B / 1e160, Z), OutOfRangeError, r"problem \[0, 0\] of the stack: .* does not fit"),
        (
            (A.tolist(), B, spoiled(Z, (0, 2, 0, 0), np.nan).tolist()),
            ValueError,
            r"problem \[0, 2\] of the stack: Z con",
        ),
    ):
        with pytest.raises(error, match=message) as caught:
            function(*problem)
        assert "\n" not in str(caught.value)


def test_refused_singular_values_name_their_place():
    Z, _ = drawn((3,), 4, 5, 2)
    A, B = minimizer(Z, 2)
    s = np.linalg.svd(Z, compute_uv=False)
    for column, value, message in (
        (0, s[1, 1] / 2, r"problem \[1\] of the stack: singular values must be in descending order"),
        (3, -1.0, r"problem \[1\] of the stack: singular values must not be negative"),
        (3, np.nan, r"problem \[1\] of the stack: singular values contains NaN or infinity"),
        (0, np.inf, r"problem \[1\] of the stack: singular values contains NaN or infinity"),
        (1, s[1, 2], r"problem \[1\] of the stack: s_2 = s_3 = "),
        (0, 2 * s[1, 0], r"problem \[1\] of the stack: AB is not the best rank-2 approximation of Z"),
    ):
        spoiled = s.copy()
        spoiled[1, column] = value
        with pytest.raises(ValueError, match=message):
            condition_number(A, B, singular_values=spoiled)
    with pytest.raises(
        ValueError, match=r"problem \[0\] of the stack: 2 singular values given, but s_1 … s_3 are needed"
    ):
        condition_number(A, B, singular_values=s[:, :2])
    with pytest.raises(TypeError, match="singular values must be a vector of real numbers"):
        condition_number(A, B, singular_values=s > 1)


def test_targets_and_gauges_without_a_minimizer_name_their_place():
    Z, G = drawn((3,), 3, 3, 2)
    for place, value, message in (
        (0, np.diag([2.0, 1, 1]), r"problem \[0\] of the stack: s_2 = s_3 = 1 to working precision"),
        (2, np.diag([2.0, 0, 0]), r"problem \[2\] of the stack: rank Z < r: s_2 = 0 is zero to .* \(s_1 = 2\)"),
        (1, np.full((3, 3), np.nan), r"problem \[1\] of the stack: Z contains NaN"),
    ):
        spoiled = Z.copy()
        spoiled[place] = value
        with pytest.raises(ValueError, match=message):
            minimizer(spoiled, 2)
        with pytest.raises(ValueError, match=message):
            minimizer(spoiled, 2, G)
    for value, message in ((np.ones((2, 2)), "G is singular"), (np.full((2, 2), np.inf), "G contains NaN")):
        spoiled = G.copy()
        spoiled[1] = value
        with pytest.raises(ValueError, match=rf"problem \[1\] of the stack: {message}"):
            minimizer(Z, 2, spoiled)
    with pytest.raises(TypeError, match="rank r must be an integer"):
        minimizer(Z, 2.0)
    assert minimizer(np.diag([2.0, 1, 1])[None], 3)[0].shape == (1, 3, 3)  # r = k: no gap is asked for
