"""Which instances a claim is about: the thresholds of the domain, how it is drawn, and instances by hand."""

from fractions import Fraction

import numpy as np
import pytest

from lorakappa.conditioning.instances.canonical import (
    GRADIENT_STEP,
    BALANCED_3x2_RANK_1,
    BALANCED_3x3_RANK_2,
    CanonicalMinimizers,
    gaussian,
)
from lorakappa.conditioning.instances.float_pair import FloatPair
from lorakappa.conditioning.instances.interpolating import INTERPOLATING, draw_jacobian
from lorakappa.conditioning.instances.lora_starts import LoraStarts
from lorakappa.conditioning.instances.sampling import (
    draw_confined_gauge,
    draw_gauge,
    draw_spectrum,
    random_orthogonal,
)
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Shape, exact

FAMILY = CanonicalMinimizers()


def valid(q, tail, G=None, shape=None, family=FAMILY, **extras):
    r = len(q)
    shape = shape or Shape(r + len(tail), r + len(tail), r)
    G = np.eye(r) if G is None else np.asarray(G, dtype=float)
    parts = [*q, *tail, *G.ravel()] + [x for extra in extras.values() for x in np.ravel(extra)]
    return family.valid(shape, np.array(parts, dtype=float))


@pytest.mark.parametrize(
    ("q", "tail", "expected"),
    [
        ([2, 1], [0.5], True),
        ([2, 1], [0.0], True),
        ([2, 1], [-0.1], False),
        ([1, 1], [0.5], True),  # equal singular values are allowed
        ([1, 2], [0.5], False),  # descending
        ([1, 0], [], False),
        ([2, -1], [], False),
        ([2, 1], [0.2, 0.5], False),
        ([2, 1], [0.5, 0.5], True),
        ([1, 1], [1 - 2e-6], True),
        ([1, 1], [1 - 0.5e-6], False),
        ([10, 1], [1 - 0.5e-4], False),  # relative to s₁ = 100
        ([10, 1], [1 - 2e-4], True),
        ([1, 1], [2.0], False),
        ([1000, 1.1], [], True),  # s₂/s₁ against 1e-6
        ([1000, 0.9], [], False),
        ([1000, 1.1], [0.0], True),
        ([1000, 0.9], [0.0], False),
    ],
)
def test_spectra_of_the_domain(q, tail, expected):
    assert valid(q, tail) == expected


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        ([1, 1], True),
        ([0.99e4 * 0.05, 0.05], True),
        ([1.01e4 * 0.05, 0.05], False),
        ([0.99e3, 0.5], True),
        ([1.01e3, 0.5], False),
        ([1.01e-3, 1e-3], True),
        ([0.99e-3, 0.9e-3], False),
        ([1, 0], False),
    ],
)
def test_gauges_of_the_domain(sigma, expected):
    assert valid([2, 1], [0.5], np.diag(sigma)) == expected
    turn = random_orthogonal(2, np.random.default_rng(0))
    assert valid([2, 1], [0.5], turn @ np.diag(sigma) @ turn) == expected


def test_root_gaps_are_relative_to_the_largest_root():
    family = CanonicalMinimizers(min_root_gap=0.1)
    assert valid([2, 1.79], [], family=family)
    assert not valid([2, 1.81], [], family=family)
    assert not valid([4, 1.3, 1.0], [], family=family)  # a gap of 0.3 against 0.4
    assert valid([4, 1.5, 1.0], [], family=family)
    assert not valid([4, 3.9, 1.0], [], family=family)  # every gap, not the last one only
    assert valid([0.1], [], family=family)


def test_imbalance_is_relative_to_the_size_of_both_factors():
    family = CanonicalMinimizers(min_imbalance=0.5)
    # r = 1, G = t: ‖AᵀA − BBᵀ‖ = s(t² − t⁻²) against s(t² + t⁻²): 0.5 at t⁴ = 3
    for t, expected in ((3.1**0.25, True), (2.9**0.25, False), (3.1**-0.25, True), (2.9**-0.25, False)):
        assert valid([3.0], [1.0], [[t]], family=family) == expected
    # a shear: A = diag(2, 1)G, B = G⁻¹diag(2, 1)
    for x in (0.1, 0.5, 2.0, 5.0):
        G = np.array([[1.0, x], [0.0, 1.0]])
        A, B = np.diag([2.0, 1.0]) @ G, np.linalg.inv(G) @ np.diag([2.0, 1.0])
        share = np.linalg.norm(A.T @ A - B @ B.T) / (np.linalg.norm(A) ** 2 + np.linalg.norm(B) ** 2)
        for limit, expected in ((share * 0.999, True), (share * 1.001, False)):
            assert valid([2, 1], [], G, family=CanonicalMinimizers(min_imbalance=limit)) == expected


def test_further_matrices_have_their_own_domain():
    family = CanonicalMinimizers(extras=(gaussian("R", lambda s: (s.r, s.r), max_condition=10),))
    assert valid([2, 1], [], family=family, R=np.diag([9.9, 1]))
    assert not valid([2, 1], [], family=family, R=np.diag([10.1, 1]))
    assert valid([2, 1], [], family=CanonicalMinimizers(extras=(gaussian("R", lambda s: (s.r, s.r)),)), R=np.eye(2) * 0)


def test_parameters_are_read_in_their_order():
    family = CanonicalMinimizers(extras=GRADIENT_STEP)
    shape = Shape(3, 4, 2)
    G, gradient = [[1, 2], [3, 4]], np.arange(12).reshape(3, 4).tolist()
    flat = family.parameters([3, 2], [1], G, gradient=gradient, step=[[7]])
    assert flat == tuple(map(Fraction, [3, 2, 1, 1, 2, 3, 4, *range(12), 7]))
    x, y = family.floating(shape, np.array(flat, dtype=float)), family.exact(shape, flat)
    np.testing.assert_array_equal(x.G, G)
    np.testing.assert_array_equal(x.extras["gradient"], gradient)
    assert x.extras["step"].item() == 7
    np.testing.assert_array_equal(x.s, [9, 4, 1])
    np.testing.assert_array_equal(x.A, np.eye(3, 2) * [3, 2] @ G)
    np.testing.assert_allclose(x.B, np.linalg.inv(G) @ np.diag([3, 2]) @ np.eye(2, 4))
    np.testing.assert_array_equal(x.Z, np.eye(3, 4) * [9, 4, 1, 0])
    assert y.extras["gradient"].tolist()[1] == [4, 5, 6, 7]
    assert [exact.to_float(s) for s in y.s] == [9, 4, 1]
    assert family.describe(shape, flat)["A"] == [["3", "6"], ["6", "8"], ["0", "0"]]


def test_scalar_gauges_and_exact_rank_have_fewer_parameters():
    scalar = CanonicalMinimizers(scalar_gauge=True, extras=GRADIENT_STEP[1:])
    x = scalar.floating(Shape(2, 3, 1), np.array([2.0, 0.5, 3.0, 0.25]))
    assert (x.G.item(), x.tail.item(), x.extras["step"].item()) == (3.0, 0.5, 0.25)
    np.testing.assert_array_equal(scalar.floating(Shape(2, 2, 2), np.array([2.0, 1, 3, 0.25])).G, 3 * np.eye(2))
    low = CanonicalMinimizers(exact_rank=True)
    x = low.floating(Shape(3, 3, 1), np.array([2.0, 5.0]))
    np.testing.assert_array_equal(x.tail, [0, 0])
    assert x.G.item() == 5.0
    assert len(low.draw(Shape(3, 3, 1), np.random.default_rng(0))) == 2


@pytest.mark.parametrize("family", [FAMILY, INTERPOLATING, LoraStarts()], ids=lambda f: type(f).__name__)
def test_most_draws_are_instances(family):
    rng = np.random.default_rng(0)
    for shape in family.shapes:
        drawn = [family.valid(shape, family.draw(shape, rng)) for _ in range(20)]
        assert sum(drawn) >= 14


def test_spectra_are_drawn_with_gaps_down_to_1e_4_and_up_to_the_whole():
    rng = np.random.default_rng(0)
    spectra = [draw_spectrum(Shape(4, 5, 2), rng) for _ in range(600)]
    gaps = np.array([1 - tail[0] / q[-1] ** 2 for q, tail in spectra])
    spreads = np.array([q[0] / q[-1] for q, _ in spectra])
    assert 0.15 < (gaps == 1).mean() < 0.25
    assert 0.9e-4 < gaps.min() < 1e-3
    assert (gaps < 0.01).mean() > 0.25
    assert 0.2 < (spreads == 1).mean() < 0.3
    assert 8 < spreads.max() < 10**1.5
    assert 0.1 * 10**-1.5 <= min(q[-1] for q, _ in spectra) < 0.1
    assert 3 < max(q[0] for q, _ in spectra) <= 10
    shares = np.array([tail[1] / tail[0] for _, tail in spectra if tail[0] > 0])
    assert shares.min() < 0.05
    assert 0.85 < shares.max() < 1
    for q, tail in spectra:
        assert q.shape == tail.shape == (2,)
        assert q[0] >= q[1] > 0
        assert tail[0] >= tail[1] >= 0
    for _ in range(20):
        q, tail = draw_spectrum(Shape(5, 5, 1), rng)
        assert (np.diff([*(q**2), *tail]) <= 0).all()


def test_gauges_are_drawn_of_every_kind():
    rng = np.random.default_rng(1)
    kinds = {"orthogonal": 0, "scalar": 0, "diagonal": 0, "general": 0}
    conditions = []
    for _ in range(600):
        G = draw_gauge(3, rng)
        sigma = np.linalg.svd(G, compute_uv=False)
        assert 0.9e-2 < sigma[-1] <= sigma[0] < 1.1e2
        conditions.append(sigma[0] / sigma[-1])
        is_diagonal = np.array_equal(G, np.diag(np.diag(G)))
        if is_diagonal:
            kinds["scalar" if np.ptp(np.diag(G)) == 0 else "diagonal"] += 1
        else:
            kinds["orthogonal" if conditions[-1] < 1 + 1e-9 else "general"] += 1
    assert 10 < kinds["orthogonal"] < 60
    assert 50 < kinds["scalar"] < 160
    assert 160 < kinds["diagonal"] < 320
    assert 180 < kinds["general"] < 300
    assert 1e3 < max(conditions) < 1e4


def test_confined_gauges_are_mostly_one_mild_imbalance():
    rng = np.random.default_rng(2)
    mild, where, largest = 0, set(), 0.0
    for _ in range(400):
        G = draw_confined_gauge(3, rng)
        entries = np.diag(G)
        if np.array_equal(G, np.diag(entries)) and (entries == 1).sum() == 2:
            (at,) = np.flatnonzero(entries != 1)
            if abs(np.log10(entries[at])) <= 0.3:
                mild += 1
                where.add(int(at))
                largest = max(largest, abs(np.log10(entries[at])))
    assert 250 < mild < 330
    assert where == {0, 1, 2}
    assert largest > 0.29


def test_jacobians_are_drawn_of_every_kind():
    rng = np.random.default_rng(3)
    kinds, stretches = {"diagonal": 0, "stretched": 0, "general": 0}, []
    for _ in range(150):
        J = draw_jacobian(Shape(2, 3, 1), rng)
        assert J.shape == (6, 6)
        entries = np.diag(J)
        if not np.array_equal(J, np.diag(entries)):
            kinds["general"] += 1
        else:
            assert (entries >= 0.1).all()
            assert (entries <= 10).all()
            stretched = (entries == 1).sum() == 5
            kinds["stretched" if stretched else "diagonal"] += 1
            stretches += entries[entries != 1].tolist() if stretched else []
    assert min(kinds.values()) > 30
    assert min(stretches) < 0.2
    assert max(stretches) > 5


def test_the_gradient_step_spans_four_decades():
    rng = np.random.default_rng(4)
    steps = np.array([GRADIENT_STEP[1].draw(None, rng).item() for _ in range(200)])
    assert 1e-3 <= steps.min() < 2e-3
    assert 5 < steps.max() <= 10
    assert GRADIENT_STEP[0].size(Shape(3, 2, 1)) == (3, 2)


def test_what_multiplies_the_rounding_of_an_instance():
    def condition(q, tail, G, shape):
        x = FloatPair(shape, np.array(q), np.array(tail), np.diag(G), {})
        assert x.rounding == claim_rtol(x.condition, shape.d)
        return x.condition

    assert condition([2.0, 1.0], [0.5], [1.0, 1.0], Shape(3, 3, 2)) == pytest.approx(8)  # s₁/(s₂ − s₃)
    assert condition([2.0, 1.0], [], [1.0, 1.0], Shape(2, 3, 2)) == pytest.approx(4)  # s₁/s₂
    assert condition([1.0, 1.0], [0.5], [3.0, 0.5], Shape(3, 3, 2)) == pytest.approx(9 * 4 * 2)
    assert condition([1.0, 1.0], [0.5], [0.5, 0.25], Shape(3, 3, 2)) == pytest.approx(16 * 2)
    assert condition([1.0, 1.0], [0.5], [3.0, 2.0], Shape(3, 3, 2)) == pytest.approx(9 * 2)


def test_a_frame_is_orthonormal_and_changes_nothing_but_the_frame():
    flat = np.array([3.0, 2, 1, 1, 0.5, 0, 2])
    plain = FAMILY.floating(Shape(3, 4, 2), flat)
    turned = FAMILY.floating(Shape(3, 4, 2), flat, np.random.default_rng(0))
    assert not np.allclose(plain.A, turned.A)
    np.testing.assert_allclose(turned.A.T @ turned.A, plain.A.T @ plain.A, atol=1e-12)
    np.testing.assert_allclose(turned.B @ turned.B.T, plain.B @ plain.B.T, atol=1e-12)
    np.testing.assert_allclose(np.linalg.svd(turned.Z, compute_uv=False), [9, 4, 1])
    np.testing.assert_allclose(turned.A @ turned.B, best(turned.Z, 2), atol=1e-12)
    assert turned.kernel_dimension == 4
    assert turned.kappa == pytest.approx(plain.kappa)


def best(Z, r):
    U, s, Vt = np.linalg.svd(Z, full_matrices=False)
    return U[:, :r] * s[:r] @ Vt[:r]


def test_starts_have_one_factor_zero_and_a_gradient():
    family, shape = LoraStarts(), Shape(3, 2, 1)
    flat = np.array([1.0, 2, 10, 20, 30, 40, 50, 60])
    A, B, Z = family.floating(shape, flat)
    np.testing.assert_array_equal(A, np.zeros((3, 1)))
    np.testing.assert_array_equal(B, [[1, 2]])
    np.testing.assert_array_equal(Z, [[10, 20], [30, 40], [50, 60]])
    for mine, theirs in zip(family.exact(shape, [Fraction(int(x)) for x in flat]), (A, B, Z), strict=True):
        np.testing.assert_array_equal([[exact.to_float(x) for x in row] for row in mine.tolist()], theirs)
    described = family.describe(shape, [Fraction(int(x), 2) for x in flat])
    assert described["A"] == [["0"], ["0"], ["0"]]
    assert described["B"] == [["1/2", "1"]]
    assert described["Z"] == [["5", "10"], ["15", "20"], ["25", "30"]]
    assert family.valid(shape, flat)
    one = Shape(1, 2, 1)
    # ZBᵀ against a thousandth of 1 + ‖B‖‖Z‖ = 2
    assert family.valid(one, [1.0, 0.0, 0.00201, 1.0])
    assert not family.valid(one, [1.0, 0.0, 0.00199, 1.0])
    # and of 1 + 100, whatever the sign
    assert family.valid(one, [10.0, 0.0, -0.0102, 10.0])
    assert not family.valid(one, [10.0, 0.0, 0.0100, 10.0])
    assert len(family.draw(shape, np.random.default_rng(0))) == 8


def test_conditions_of_interpolating_pairs_by_hand():
    J = np.diag([3.0, 1, 1, 0.5]).tolist()
    flat = INTERPOLATING.parameters([2], [0], [[1]], J=[[Fraction(x) for x in row] for row in J])
    for x in (
        INTERPOLATING.exact(Shape(2, 2, 1), flat),
        INTERPOLATING.floating(Shape(2, 2, 1), np.array(flat, dtype=float)),
    ):
        assert exact.to_float(x.outer_condition) == pytest.approx(36)
        assert exact.to_float(x.tangent_condition) == pytest.approx(9)  # without the entry (2, 2), which no step moves
        # MᵀJᵀJM: the entry (1, 1) is moved by both, 9·(4 + 4); the others by one factor, 4
        assert exact.to_float(x.kappa) == pytest.approx(18)
    # here the condition of JM squared is that of J on the tangent space: q and G have none
    assert x.rounding == claim_rtol(9.0, 4)
    G = np.array([[4.0, 0.0], [0.0, 2.0]])
    y = INTERPOLATING.floating(Shape(2, 2, 2), np.concatenate([[3.0, 1.0], G.ravel(), np.diag([1.0, 1, 1, 5]).ravel()]))
    assert y.rounding == pytest.approx(claim_rtol(4 * 9 * 25.0, 8))


def test_the_balanced_minimizers_on_record_are_balanced():
    for (shape, parameters), q, tail in (
        (BALANCED_3x2_RANK_1, [2], [1]),
        (BALANCED_3x3_RANK_2, [2, 1], [0.5]),
    ):
        x = FAMILY.exact(shape, parameters)
        assert x.A.transpose() * x.A == x.B * x.B.transpose() == exact.matrix(np.diag([v * v for v in q]).tolist())
        assert [exact.to_float(value) for value in x.tail] == tail
    assert (BALANCED_3x2_RANK_1[0], BALANCED_3x3_RANK_2[0]) == (Shape(3, 2, 1), Shape(3, 3, 2))


def test_scalar_gauges_span_two_decades():
    rng = np.random.default_rng(5)
    family = CanonicalMinimizers(scalar_gauge=True)
    t = np.array([family.draw(Shape(2, 2, 2), rng)[-1] for _ in range(200)])
    assert 0.1 <= t.min() < 0.13
    assert 7.5 < t.max() <= 10


def test_a_jacobian_with_a_kernel_turns_with_its_frame():
    """κ and both conditions are those of the non-zero eigenvalues, the same in every frame and exactly."""
    J = [[0, Fraction(3, 5), 0, Fraction(4, 5)], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    shape, flat = Shape(2, 2, 1), INTERPOLATING.parameters([1], [0], [[1]], J=J)
    assert INTERPOLATING.valid(shape, flat)
    turned = INTERPOLATING.floating(shape, np.array(flat, dtype=float), np.random.default_rng(3))
    for x in (INTERPOLATING.exact(shape, flat), turned):
        assert exact.to_float(x.outer_condition) == pytest.approx(1)
        assert exact.to_float(x.tangent_condition) == pytest.approx(25 / 9)
        assert exact.to_float(x.kappa) == pytest.approx(25 / 9)
        assert exact.to_float(x.smoothness) == pytest.approx(1)
    assert np.abs(turned.J - turned.extras["J"]).max() > 0.01


def test_jacobians_outside_the_domain():
    shape = Shape(2, 2, 1)
    for diagonal, valid in (
        ([1, 0, 0, 0], True),
        ([0, 0, 0, 1], False),  # 0 on the tangent space
        ([1, 0.001, 1, 1], True),
        ([1, 0.0009, 1, 1], False),
        ([1, 1, 1, 0.0009], False),  # off the tangent space, too
    ):
        J = [[x if i == j else 0 for j in range(4)] for i, x in enumerate(diagonal)]
        assert INTERPOLATING.valid(shape, INTERPOLATING.parameters([1], [0], [[1]], J=J)) == valid, diagonal


def test_any_jacobian_keeps_a_row_and_loses_some():
    from lorakappa.conditioning.instances.interpolating import draw_any_jacobian

    rng, kept = np.random.default_rng(0), set()
    for _ in range(200):
        J = draw_any_jacobian(Shape(2, 2, 1), rng)
        assert J.shape == (4, 4)
        kept.add(int(J.any(axis=1).sum()))
    assert kept == {1, 2, 3, 4}


def test_a_positive_bound_is_m_beyond_the_next_singular_value():
    from lorakappa.conditioning.claims.model1_bounds import POSITIVE

    for gauge, valid in ((1, True), (Fraction(13, 10), True), (Fraction(3, 2), False), (Fraction(2, 3), False)):
        flat = POSITIVE.parameters([1], [Fraction(1, 2)], [[gauge]])  # m = min(gauge², 1/gauge²)
        assert POSITIVE.valid(Shape(2, 2, 1), flat) == valid
    assert POSITIVE.valid(Shape(1, 1, 1), POSITIVE.parameters([1], [], [[100]]))
