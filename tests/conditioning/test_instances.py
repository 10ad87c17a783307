"""Instances: floating and exact ones say the same, and the exact bounds are a second source for the library's."""

import inspect
from fractions import Fraction

import flint
import numpy as np
import pytest

from lorakappa.conditioning import kappa_bounds
from lorakappa.conditioning.instances import FloatPair, Pair, exact_bounds
from lorakappa.conditioning.instances.canonical import CanonicalMinimizers
from lorakappa.conditioning.instances.interpolating import INJECTIVE, InterpolatingPair
from lorakappa.conditioning.verification import Shape, exact

FAMILY = CanonicalMinimizers()
SEPARATED = CanonicalMinimizers(min_root_gap=0.01)  # inside equal singular values the test vector Gᵀe_r is arbitrary


def drawn(family, shape, rng):
    """A valid rational instance with small denominators: floating in its canonical frame, and exact."""
    while True:
        rationals = tuple(Fraction(round(8 * x), 8) for x in family.draw(shape, rng))
        if family.valid(shape, rationals):
            return family.floating(shape, np.array([float(x) for x in rationals])), family.exact(shape, rationals)


def public(protocol):
    return {name for base in protocol.__mro__ for name in vars(base) if not name.startswith("_")}


@pytest.mark.parametrize("shape", [Shape(3, 2, 1), Shape(3, 3, 2), Shape(2, 2, 2)])
def test_both_kinds_of_instances_offer_what_the_protocol_lists(shape):
    for family, protocol in ((FAMILY, Pair), (INJECTIVE, InterpolatingPair)):
        floating, exactly = drawn(family, shape, np.random.default_rng(3))
        compared = 0
        for name in public(protocol):
            left, right = getattr(floating, name), getattr(exactly, name)
            if inspect.ismethod(left) or inspect.isfunction(left):
                assert inspect.signature(left).parameters.keys() == inspect.signature(right).parameters.keys()
            elif name == "shape":
                assert left == right
            elif name not in ("rounding", "extras") and (family is FAMILY or name in ("kappa", "gram_A", "G")):
                tolerance = 1e-9 * max(1.0, float(np.max(np.abs(left), initial=0.0)))
                np.testing.assert_allclose(left, to_array(right), rtol=1e-9, atol=tolerance)
                compared += 1
        assert compared >= (15 if family is FAMILY else 3)


def to_array(value):
    if isinstance(value, flint.fmpq_mat):
        return np.array([[exact.to_float(x) for x in row] for row in value.tolist()])
    return np.array([exact.to_float(x) for x in value]) if isinstance(value, list) else exact.to_float(value)


@pytest.mark.parametrize("shape", [s for s in FAMILY.shapes if s.d <= 24], ids=str)
def test_the_exact_bounds_agree_with_the_library(shape):
    rng = np.random.default_rng(5)
    for _ in range(3):
        floating, exactly = drawn(SEPARATED, shape, rng)
        for form in ("paper", "corrected"):
            found = kappa_bounds(floating.A, floating.B, floating.Z, form=form, rtol=max(floating.rounding, 1e-8))
            for left, right in zip(found, exactly.bounds(form), strict=True):
                assert left == pytest.approx(exact.to_float(right), rel=floating.rounding)


def test_ingredients_of_the_exact_bounds_by_hand():
    # G = diag(1, 2), S = diag(4, 1), s_3 = 1/2: σ_r(A)² = 4, σ_r(B)² = 1/4, so det of the 2×2 matrix is 3/4
    x = FAMILY.exact(Shape(3, 3, 2), FAMILY.parameters([2, 1], [Fraction(1, 2)], [[1, 0], [0, 2]]))
    trace, determinant = Fraction(17, 4), Fraction(3, 4)
    smallest = (trace - (trace**2 - 4 * determinant) ** 0.5) / 2
    assert exact.to_float(exact_bounds._pencil(x)) == pytest.approx(float(smallest), rel=1e-14)
    assert exact_bounds._ostrowski(x) == flint.fmpq(1, 8)  # gap 1/2 over ‖G‖² = 4
    assert exact_bounds._rayleigh_quotient(x) == flint.fmpq(4, 17)  # 2·gap over 2² + 2⁻²


def test_a_new_gauge_keeps_the_kind_of_instance_and_draws_a_new_frame():
    rng = np.random.default_rng(0)
    shape = Shape(2, 2, 1)
    for family in (FAMILY, INJECTIVE):
        parameters = family.draw(shape, rng)
        x = family.floating(shape, parameters, rng)
        balanced = x.balanced()
        assert type(balanced) is type(x)
        assert isinstance(balanced, FloatPair)
        assert not np.allclose(balanced.A, x.balanced().A)
        y = family.exact(shape, tuple(map(Fraction, parameters.tolist())))
        assert type(y.balanced()) is type(y)
