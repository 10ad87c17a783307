"""Variances of entries: what they decide, by enumerating random signs, and the domain of the claims."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from lorakappa.conditioning.claims import CLAIMS
from lorakappa.conditioning.instances.entry_variances import BoundedVariances
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Shape

SHAPE = Shape(2, 3, 2)
LAW = BoundedVariances(floored=True).floating(SHAPE, np.array([0.5, 0.25, 0.125]))


def sign_vectors(n):
    return [np.array(signs) for signs in itertools.product((-1, 1), repeat=n)]


def test_the_law_of_the_parameters():
    assert (LAW.variance_A, LAW.variance_B, LAW.floor) == (0.25, 0.25 / 3, 0.125)
    assert LAW.gram_ratio == pytest.approx(0.25 / (2 * 0.25))


def test_independent_signs_have_the_variance_of_the_theorem():
    x = np.array([1.0, -2.0, 0.5])
    squares_B, squares_AB = [], []
    for entries in sign_vectors(6):
        signal = LAW.variance_B**0.5 * entries.reshape(2, 3) @ x
        squares_B.append(signal[0] ** 2)
        squares_AB += [(LAW.variance_A**0.5 * row @ signal) ** 2 for row in sign_vectors(2)]
    each = np.mean(x**2)
    assert np.mean(squares_B) == pytest.approx(LAW.after_B * each)
    assert np.mean(squares_AB) == pytest.approx(LAW.after_AB * each)


def test_aligned_signs_have_r_times_as_much():
    x = np.array([1.0, -2.0, 0.5])
    squares = [
        (LAW.variance_A**0.5 * u * v @ (LAW.variance_B**0.5 * np.outer(v, w) @ x)) ** 2
        for u in (-1, 1)
        for v in sign_vectors(2)
        for w in sign_vectors(3)
    ]
    assert np.mean(squares) == pytest.approx(LAW.after_aligned_AB * np.mean(x**2))
    assert LAW.after_aligned_AB == pytest.approx(2 * LAW.after_AB)


@pytest.mark.parametrize(
    ("floored", "parameters", "valid"),
    [
        (False, (1, 1), True),
        (False, (1, 1e-6), True),
        (False, (1, 1e-7), False),
        (False, (1.1, 1), False),
        (True, (1, 0.5, 0.5), True),
        (True, (0.4, 1, 0.5), False),
        (True, (1, 1, 0), False),
    ],
)
def test_the_domain(floored, parameters, valid):
    assert BoundedVariances(floored=floored).valid(SHAPE, parameters) == valid


def test_both_sides():
    half = Fraction(1, 2)
    for id, parameters, left, right in (
        ("ilora-forward-variance-upper-only", (half, half), Fraction(5, 2), 1),
        ("ilora-forward-variance-order", (1, half, half), half, Fraction(1, 4)),
        ("ilora-gram-ratio-upper-only", (half, 1), 2, 4),
        ("ilora-gram-ratio-order", (1, half, half), half, 2),
        ("ilora-entry-variances-suffice", (1, half), 1, half),
    ):
        claim = CLAIMS[id]
        found = claim.compare_exactly(claim.family.exact(SHAPE, parameters))
        assert (str(found.left), str(found.right)) == (str(left), str(right)), id
        floats = claim.compare(claim.family.floating(SHAPE, np.array(parameters, dtype=float)))
        assert (floats.left, floats.right) == pytest.approx((float(left), float(right))), id
        assert floats.tolerance == claim_rtol(1.0, 1)  # of a few products: no sum, nothing cancels


def test_where_the_penalty_vanishes_the_variance_by_hand():
    """A = [[2, 0], [0, 1], [0, 0]], B = [[2, 0], [0, 1]]: AB = diag(4, 1), and BBᵀ = 1·AᵀA = diag(4, 1)."""
    shape, scales, fixes = Shape(3, 2, 2), CLAIMS["ilora-penalty-leaves-scale"], CLAIMS["ilora-penalty-fixes-variance"]
    for t in (1, 2):  # A times t, B over t: μ = t⁻⁴, ‖AᵀA‖² = 17t⁴
        parameters = scales.family.parameters([2, 1], [], [[t]])
        for claim, sides in ((scales, (17, 17)), (fixes, (Fraction(17, 3), 10))):
            found = claim.compare_exactly(claim.family.exact(shape, parameters))
            assert (str(found.left), str(found.right)) == tuple(str(side) for side in sides)
            floats = claim.compare(claim.family.floating(shape, np.array(parameters, dtype=float)))
            assert (floats.left, floats.right) == pytest.approx(tuple(float(side) for side in sides))


def test_instances_are_described_by_their_variances():
    described = BoundedVariances(floored=True).describe(SHAPE, (Fraction(1), Fraction(1, 2), Fraction(1, 3)))
    assert described == {"variance_A": [["1/2"]], "variance_B": [["1/6"]], "c": [["1/3"]]}
    assert "c" not in BoundedVariances().describe(SHAPE, (Fraction(1), Fraction(1)))
