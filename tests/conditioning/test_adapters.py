"""Two adapters: κ by dense algebra, the bound and what balancing leaves."""

from fractions import Fraction

import numpy as np
import pytest

from lorakappa.conditioning import jacobian
from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.claims.adapters import SCALED
from lorakappa.conditioning.instances import adapters
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Shape, exact
from tests.conditioning.test_claim_sides import instances

CLAIM = CLAIMS["adapters-upper-bound"]


def dense(x):
    """κ, κ on the tangent spaces, (L_l, m_l) and (s₁, s_r) of both layers, from the matrices alone."""
    layers, J = adapters.pairs(x), x.extras["J"]
    n = x.shape.a * x.shape.b
    blocks = [jacobian(A, B) for A, B in layers]
    M = np.block([[blocks[0], np.zeros((n, x.shape.d))], [np.zeros((n, x.shape.d)), blocks[1]]])
    Q, s, _ = np.linalg.svd(M)
    squares = [(np.linalg.svd(A)[1] ** 2, np.linalg.svd(B)[1] ** 2) for A, B in layers]
    numbers = [(of_A[0] + of_B[0], min(of_A[-1], of_B[-1])) for of_A, of_B in squares]
    spectra = [np.linalg.svd(A @ B)[1][[0, x.shape.r - 1]] for A, B in layers]
    return spread(J @ M), spread(J @ Q[:, : (s > 1e-9 * s[0]).sum()]), numbers, spectra


def spread(K):
    sigma = np.linalg.svd(K)[1]
    return (sigma[0] / sigma[sigma > 1e-9 * sigma[0]][-1]) ** 2


def test_both_sides_by_dense_algebra():
    checked = 0
    for shape, parameters, _ in instances(CLAIM, 40, 8, seed=5):
        x = CLAIM.family.floating(shape, parameters)
        if adapters.rounding(x) > 1e-9:
            continue
        checked += 1
        kappa, tangent, numbers, spectra = dense(x)
        ratio = max(L for L, _ in numbers) / min(m for _, m in numbers)
        first, last, scales = [s[0] for s in spectra], [s[-1] for s in spectra], x.extras["c"][0]
        together, alone = 2 * max(first) / min(last), 2 * max(np.divide(first, last))
        scaled = 2 * max(scales * first) / min(scales * last)
        for id, sides in {
            "adapters-upper-bound": (kappa, tangent * ratio),
            "adapters-balanced-bound": (ratio, together),
            "adapters-balance-is-all": (together, alone),
            "adapters-scales": (scaled, alone),
        }.items():
            found = CLAIMS[id].compare(x)
            assert [found.left, found.right] == pytest.approx(sides, rel=1e-6), id
    assert checked > 15


def test_floats_and_rationals_agree_with_a_kernel_of_j():
    J = [[int(i == j and i in (1, 4, 6)) * (i + 1) for j in range(8)] for i in range(8)]
    flat = CLAIM.family.parameters([2], [0], [[3]], q2=[[1]], G2=[[Fraction(1, 2)]], c=[[1, 2]], J=J)
    shape = Shape(2, 2, 1)
    assert CLAIM.family.valid(shape, flat)
    x, y = CLAIM.family.floating(shape, np.array(flat, dtype=float)), CLAIM.family.exact(shape, flat)
    for quantity in (adapters.condition_number, adapters.tangent_condition):
        assert quantity(x) == pytest.approx(exact.to_float(quantity(y)))
    assert exact.to_float(adapters.tangent_condition(y)) == pytest.approx((7 / 2) ** 2)


def test_outside_the_domain():
    def valid(**changed):
        named = {"q2": [[1]], "G2": [[1]], "c": [[1, 1]], "J": np.eye(8, dtype=int).tolist()} | changed
        return CLAIM.family.valid(Shape(2, 2, 1), CLAIM.family.parameters([1], [0], [[1]], **named))

    assert valid()
    assert not valid(q2=[[0]])
    assert not valid(c=[[1, 101]])
    assert valid(c=[[100, 1]])
    assert not valid(J=[[0] * 8] * 8)
    only_normal = [[int(i == j and i in (3, 7)) for j in range(8)] for i in range(8)]
    assert not valid(J=only_normal)
    assert not valid(J=np.diag([1, 1, 1, 1, 1, Fraction(1, 2000), 1, 1]).tolist())


def test_scales_attain_the_worst_layer():
    _, comparison = CLAIMS["adapters-scales"].evaluate(*SCALED)
    assert comparison.left == comparison.right == 2
    _, unscaled = CLAIMS["adapters-balance-is-all"].evaluate(*SCALED)
    assert (unscaled.left, unscaled.right) == (8, 2)


def test_rounding_is_that_of_the_factors_and_of_j():
    J = np.diag([3, 1, 1, 5, 1, 1, 1, 1]).tolist()
    flat = CLAIM.family.parameters([2], [0], [[1]], q2=[[1]], G2=[[Fraction(1, 4)]], c=[[1, 1]], J=J)
    x = CLAIM.family.floating(Shape(2, 2, 1), np.array(flat, dtype=float))
    # norms of the factors 2, 2, 1/4, 4; J is 5 as a whole and at least 1 on the tangent spaces; 8 parameters
    assert adapters.rounding(x) == pytest.approx(claim_rtol((4 / 0.25 * 5) ** 2, 8))
    assert adapters.rounding(CLAIM.family.exact(Shape(2, 2, 1), flat)) == 0


def test_drawn_jacobians_lose_any_number_of_rows_but_all():
    rng, shape = np.random.default_rng(0), Shape(2, 1, 1)
    drawn = [adapters._draw_jacobian(shape, rng) for _ in range(200)]
    assert {int(J.any(axis=1).sum()) for J in drawn} == {1, 2, 3, 4}
    diagonal = [np.diag(J) for J in drawn if not (J - np.diag(np.diag(J))).any()]
    sizes = np.concatenate([entries[entries > 0] for entries in diagonal])
    assert 0.1 <= sizes.min() < 0.2
    assert 5 < sizes.max() <= 10
