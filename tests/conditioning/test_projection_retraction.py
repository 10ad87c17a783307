"""How far P is from the identity along the manifold: the steps taken, what counts as rounding, one case by hand."""

from fractions import Fraction

import numpy as np
import pytest

from lorakappa.conditioning import balance
from lorakappa.conditioning.claims import CLAIMS, projection_retraction
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Shape
from tests.conditioning.test_claim_sides import ordinary


@pytest.mark.parametrize("id", ["projection-first-order", "balanced-gauges-first-order"])
def test_the_remainder_of_p_is_measured_over_steps_of_a_tenth_of_the_smallest_factor(monkeypatch, id):
    """‖dA‖ + ‖dB‖ is t times the smallest √s_i over ten, at t = 1/16 and at t = 1/64 for every gauge."""
    real, moved = balance, []
    monkeypatch.setattr(
        projection_retraction, "balance", lambda *pair, **options: moved.append(pair) or real(*pair, **options)
    )
    x = ordinary(CLAIMS[id])
    CLAIMS[id].compare(x)
    X, Y = real(x.A, x.B, gauge="hyperbalanced" if id == "projection-first-order" else "symmetric")
    lengths = [np.linalg.norm(A - X) + np.linalg.norm(B - Y) for A, B in moved[1:]]
    assert lengths == pytest.approx([1 / 160, 1 / 640] * (len(lengths) // 2))  # the smallest √s_i is 1
    assert len(lengths) == (2 if id == "projection-first-order" else 4)


@pytest.mark.parametrize(
    ("id", "condition"),
    [("projection-first-order", 1.5**2 / 0.8**2), ("balanced-gauges-first-order", (1.5 / 0.8) ** 4)],
)
def test_what_counts_as_no_remainder_is_a_hundred_times_the_rounding_of_p(monkeypatch, id, condition):
    """Errors just above the threshold are compared, errors just below are not. The pair has ‖X‖ = ‖Y‖ = √2.89."""
    x, real = ordinary(CLAIMS[id], q=(1.5, 0.8)), balance
    threshold = 100 * claim_rtol(condition, 14) * 2 * 1.7
    for factor, left in ((1.01, 16.0), (0.99, 1.0)):
        calls = []

        def off(A, B, factor=factor, calls=calls, **options):
            calls.append(A)
            if len(calls) == 1:  # the point itself
                return real(A, B, **options)
            return A + factor * threshold * np.eye(*A.shape)[:, :1] @ np.eye(1, A.shape[1]), B

        monkeypatch.setattr(projection_retraction, "balance", off)
        assert CLAIMS[id].compare(x).left == pytest.approx(left, rel=1e-3)


def test_what_p_moves_at_equal_singular_values_by_hand():
    """At q = (2, 2, 1), along dA = K·diag(q) + D, dB = diag(q)·M + D, K and M skew, D diagonal."""
    claim = CLAIMS["projection-retraction"]
    free_A, free_B = [[1, 2, 0], [0, 3, 1], [0, 0, 1]], [[0, 1, 2], [0, 0, 0], [0, 0, 0]]
    parameters = claim.family.parameters([2, 2, 1], [], np.eye(3, dtype=int).tolist(), dA=free_A, dB=free_B)
    # skew parts K = [[0, 2, 0], [−2, 0, 1], [0, −1, 0]], M = [[0, 1, 2], [−1, 0, 0], [−2, 0, 0]]; D = diag(1, 3, 1)
    dA = np.array([[1, 4, 0], [-4, 3, 1], [0, -2, 1]])
    dB = np.array([[1, 2, 4], [-2, 3, 0], [-2, 0, 1]])
    # columns 1 and 2 of dA: 4 − 12 = −8; rows 1 and 2 of dB: −2 + 6 = 4: together −4, twice
    size = (1 + 16 + 16 + 9 + 1 + 4 + 1) + (1 + 4 + 16 + 4 + 9 + 4 + 1)
    assert (np.square(dA).sum() + np.square(dB).sum(), (dA.T @ dA + dB @ dB.T)[0, 1]) == (size, -4)
    x = claim.family.exact(Shape(3, 3, 3), parameters)
    found = claim.compare_exactly(x)
    assert str(found.left) == str(Fraction(2 * 16, size**2))
    floats = claim.compare(claim.family.floating(Shape(3, 3, 3), np.array(parameters, dtype=float)))
    assert floats.left == pytest.approx(32 / size**2)
    assert floats.tolerance == claim_rtol(1.0, 18)
