"""Matrices known by products against the same matrices known whole, in several gauges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorakappa.conditioning import optimal_gauge, partial_traces
from lorakappa.llm.curvature import best_gauges as module
from lorakappa.llm.curvature.best_gauges import best_gauges, ilora_gauge
from lorakappa.llm.curvature.gauges import Gauge, symmetric_gauge
from lorakappa.llm.curvature.matrices import DenseMatrix, ImplicitMatrix

EPS = np.finfo(np.float64).eps
SHAPE = (30, 20, 2)
D = 100


def semidefinite(seed, decay=0.8):
    """A GGN-like matrix whose eigenvalues fall, and whose directions weigh unevenly."""
    rng = np.random.default_rng(seed)
    F = rng.standard_normal((D, D)) * decay ** np.arange(D) * 10 ** rng.uniform(-1, 1, (D, 1))
    return F @ F.T


def indefinite(seed):
    rng = np.random.default_rng(seed)
    H = semidefinite(seed) - 0.3 * semidefinite(seed + 1)
    return H + 1e-3 * np.diag(rng.standard_normal(D))


def gauge(seed, a=SHAPE[0], r=SHAPE[2]):
    T = np.eye(r) + 0.5 * np.random.default_rng(seed).standard_normal((r, r))
    return Gauge(T, np.linalg.inv(T), a)


IDENTITY = Gauge(np.eye(2), np.eye(2), SHAPE[0])


def implicit(H, *, positive=True, seed=0):
    made = []

    def products(V):
        made.append(len(V))
        return V @ H

    return ImplicitMatrix(products, SHAPE, 1e-10, noise=EPS, semidefinite=positive, seed=seed), made


@given(seed=st.integers(0, 200), positive=st.booleans())
def test_products_made_in_any_gauge_give_the_spectrum_in_every_one(seed, positive):
    H = semidefinite(seed) if positive else indefinite(seed)
    dense = DenseMatrix(H, SHAPE, 1e-10, semidefinite=False)
    sparse, _ = implicit(H, positive=positive, seed=seed)
    p = {"r": 2, "2r": 4}
    for there in (IDENTITY, gauge(seed), gauge(seed + 1)):
        found, exact = sparse.spectrum(there, p, leading=True), dense.spectrum(there, p, leading=True)
        np.testing.assert_allclose(found.leading, exact.leading[:4], rtol=2e-5)
        assert found.kappa["2r"] == pytest.approx(exact.kappa["2r"], rel=4e-5)
        assert found.lambda_min == pytest.approx(0 if positive else exact.lambda_min, abs=1e-3 * exact.lambda_max)
        assert abs(found.trace - exact.trace) < 12 * found.trace_error
        assert found.trace_error < 0.2 * np.linalg.norm(there.congruence(H))
        assert (found.rank, found.negative) == (None, None)
        assert sparse.spectrum(there, {}).lambda_max == pytest.approx(exact.lambda_max, rel=2e-5)


def test_a_semidefinite_matrix_has_one_spectrum_by_its_columns_and_whole():
    H, there = semidefinite(9), gauge(9)
    by_columns, whole = (
        DenseMatrix(H, SHAPE, 1e-10, semidefinite=kind).spectrum(there, {"r": 2, "rank": 40}, leading=True)
        for kind in (True, False)
    )
    np.testing.assert_allclose(by_columns.leading, whole.leading, atol=1e-13 * whole.lambda_max)
    np.testing.assert_allclose(
        by_columns.leading, np.linalg.eigvalsh(there.congruence(H))[::-1], atol=1e-13 * whole.lambda_max
    )
    assert by_columns.rank == whole.rank
    assert by_columns.trace == pytest.approx(whole.trace, rel=1e-12)


def test_a_further_gauge_costs_fewer_products_than_the_first():
    sparse, made = implicit(semidefinite(0))
    p = {"r": 2}
    sparse.spectrum(IDENTITY, p)
    first = sum(made)
    sparse.spectrum(gauge(3), p)
    assert sum(made) - first < 0.7 * first


def test_what_the_products_know_lies_below_the_matrix_and_what_they_miss_is_not_seen():
    H = semidefinite(1)
    sparse, _ = implicit(H)
    sparse.spectrum(IDENTITY, {"r": 2})
    sparse.spectrum(gauge(5), {"r": 2})
    F = sparse.factor(IDENTITY, D)
    assert sparse.factor(IDENTITY, 5).shape == (D, 5)
    rest = np.linalg.eigvalsh(H - F @ F.T)
    assert rest[0] > -1e-10 * np.linalg.norm(H)
    assert rest[-1] < 0.1 * np.linalg.norm(H, 2)
    Q, Y = sparse._basis()
    np.testing.assert_allclose(Q @ Q.T, np.eye(len(Q)), atol=1e-10)
    np.testing.assert_allclose(Y, Q @ H, atol=1e-9 * np.linalg.norm(H))


def test_partial_traces_are_exact_where_the_products_know_all():
    H = semidefinite(2, decay=0.3)  # of numerical rank 15 or so
    sparse, _ = implicit(H)
    sparse.spectrum(IDENTITY, {"r": 24})
    for found, exact in zip(sparse.traces(), partial_traces(H, SHAPE), strict=True):
        np.testing.assert_allclose(found, exact, rtol=1e-9)
    H_A, H_B = DenseMatrix(H, SHAPE, 0.0, semidefinite=True).traces()
    np.testing.assert_allclose(H_A, partial_traces(H, SHAPE)[0])
    np.testing.assert_allclose(H_B, partial_traces(H, SHAPE)[1])


def test_the_leading_part_of_a_whole_matrix_is_that_of_the_gauge():
    H, there = semidefinite(3), gauge(4)
    F = DenseMatrix(H, SHAPE, 1e-10, semidefinite=True).factor(there, 7)
    assert F.shape == (D, 7)
    values, vectors = np.linalg.eigh(there.congruence(H))
    expected = vectors[:, -7:] * values[-7:] @ vectors[:, -7:].T
    np.testing.assert_allclose(there.congruence(F @ F.T), expected, atol=1e-10 * values[-1])


@pytest.mark.parametrize("kind", ["dense", "products"])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_gauges_are_those_of_the_whole_matrix(kind, seed):
    H = semidefinite(seed)
    matrix = DenseMatrix(H, SHAPE, 1e-10, semidefinite=True) if kind == "dense" else implicit(H, seed=seed)[0]
    matrix.spectrum(IDENTITY, {"r": 2})
    found = best_gauges(matrix, lambda there: matrix.spectrum(there, {}).lambda_max)
    exact = optimal_gauge(H, SHAPE, criterion="lambda_max")
    smallest = np.linalg.eigvalsh(found.smallest_lambda_max.congruence(H))[-1]
    assert (1 - 2e-3) * exact.value <= found.lower_bound <= (1 + 1e-9) * exact.value
    assert (1 - 1e-9) * exact.value <= smallest <= (1 + 2e-3) * exact.value
    trace = np.trace(found.smallest_trace.congruence(H))
    least = optimal_gauge(H, SHAPE).value
    assert least * (1 - 1e-9) <= trace <= least * (1 + (1e-9 if kind == "dense" else 1e-2))
    np.testing.assert_allclose(found.smallest_trace.T @ found.smallest_trace.T_inv, np.eye(2), atol=1e-12)


def test_more_columns_are_tried_until_the_gap_is_closed(monkeypatch):
    H = semidefinite(7, decay=0.99)
    matrix, columns = DenseMatrix(H, SHAPE, 1e-10, semidefinite=True), []
    factor = matrix.factor
    monkeypatch.setattr(module, "COLUMNS", 4)
    monkeypatch.setattr(matrix, "factor", lambda there, count: (columns.append(count), factor(there, count))[1])
    found = best_gauges(matrix, lambda there: matrix.spectrum(there, {}).lambda_max)
    assert len(columns) > 1
    assert columns == [4 * 2**n for n in range(len(columns))]
    monkeypatch.setattr(module, "ROUNDS", 1)
    assert best_gauges(matrix, lambda there: matrix.spectrum(there, {}).lambda_max).lower_bound < found.lower_bound


def test_where_a_direction_costs_nothing_no_gauge_is_best():
    H = semidefinite(0)
    H[: SHAPE[0] * SHAPE[2]] = H[:, : SHAPE[0] * SHAPE[2]] = 0
    assert best_gauges(DenseMatrix(H, SHAPE, 1e-10, semidefinite=True), lambda there: 1.0) is None


def test_iloras_gauge_has_iloras_ratio():
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((18, 3)), rng.standard_normal((3, 7))
    T = symmetric_gauge(A, B)
    there = ilora_gauge(Gauge(T, np.linalg.inv(T), 18), 3)
    A, B = A @ there.T, there.T_inv @ B
    np.testing.assert_allclose(B @ B.T, 3 / 18 * A.T @ A, rtol=1e-10)
