"""The verifier itself: planted falsehoods are refuted, truths are not, doubt stays doubt."""

import dataclasses
import itertools
import json
from fractions import Fraction
from typing import get_type_hints

import flint
import numpy as np
import pytest

from lorakappa.conditioning.instances import CanonicalMinimizers
from lorakappa.conditioning.verification import (
    Claim,
    ClaimOptions,
    Comparison,
    Shape,
    algebraic_claim,
    all_shapes,
    at_least,
    at_most,
    equal,
    exact,
    more_than,
    registry,
)

FAMILY = CanonicalMinimizers(largest=3)
INTERIOR = CanonicalMinimizers("r < min(a, b)", where=lambda s: s.r < s.k, largest=3)


def plant(compare, exactly=None, *, family=FAMILY, recorded="refuted", **options):
    claim = algebraic_claim("planted", "planted", family=family, recorded=recorded, **options)(compare)
    if exactly is not None:
        claim.exact(exactly)
    return claim


# --- the search ----------------------------------------------------------------------------------


def test_a_plainly_false_claim_is_refuted_by_its_smallest_instance():
    verdict = plant(lambda x: at_least(x.kappa, 2, x.rounding)).examine(trials=200, seed=0)
    assert verdict.verdict == "refuted"
    assert verdict.certified
    assert verdict.counterexample.shape == {"a": 1, "b": 1, "r": 1}
    assert (verdict.counterexample.left, verdict.counterexample.right) == ("1", "2")
    assert verdict.evidence["optimizer_evaluations"] == 0  # found by drawing, in the first shape


def test_a_false_claim_that_random_draws_miss_is_found_by_the_optimizer():
    # σ₁(A)² + σ₁(B)² ≥ 2.0001·s₁ fails only within 1 % of scalar balance, at which draws never land
    generic = CanonicalMinimizers(
        where=lambda s: s.r == 1, largest=2, gauge=lambda r, rng: np.array([[rng.uniform(1.5, 3)]])
    )

    def compare(x):
        factor = x.number(Fraction(20001, 10000))
        return at_least(x.gram_A[0] + x.gram_B[0], factor * x.s[0], x.rounding)

    verdict = plant(compare, family=generic).examine(trials=60, seed=0)
    assert verdict.verdict == "refuted"
    assert verdict.evidence["optimizer_evaluations"] > 0


def test_a_strict_claim_that_fails_by_equality_only_is_refuted():
    claim = plant(lambda x: more_than(x.gram_A[0] + x.gram_B[0], 2 * x.s[0], x.rounding), family=INTERIOR)
    verdict = claim.examine(trials=300, seed=1)
    assert verdict.verdict == "refuted"
    assert verdict.counterexample.left == verdict.counterexample.right


@pytest.mark.parametrize("seed", range(3))
def test_a_true_claim_is_not_refuted_although_it_is_tight(seed):
    claim = plant(lambda x: at_least(x.gram_A[0] + x.gram_B[0], 2 * x.s[0], x.rounding), recorded="holds")
    verdict = claim.examine(trials=200, seed=seed)
    assert verdict.verdict == "holds"
    assert verdict.as_recorded
    assert not verdict.certified
    assert verdict.counterexample is None
    assert abs(verdict.worst_margin) < 1e-6  # the optimizer came close to equality
    assert abs(verdict.trials - 200) <= len(FAMILY.shapes)
    assert verdict.evidence["exact_instances"] == len(FAMILY.shapes)


def test_a_float_bug_does_not_refute_a_true_claim():
    def wrong(x):
        return at_least(x.kappa * 0.5, 1, x.rounding)

    verdict = plant(wrong, lambda x: at_least(x.kappa, 1), recorded="holds").examine(trials=60, seed=0)
    assert verdict.verdict == "holds"
    assert verdict.evidence["cleared_exactly"] > 0
    assert "cleared exactly" in verdict.note


def test_a_claim_wrong_only_exactly_is_still_refuted():
    claim = plant(lambda x: at_least(x.kappa, 1), lambda x: at_least(x.kappa, 10**9))
    assert claim.examine(trials=60, seed=0).verdict == "refuted"


def test_a_strict_claim_that_balls_cannot_decide_is_inconclusive():
    def compare(x):
        root = x.sqrt(x.number(2))
        return more_than(root * x.s[0], root * x.s[0], x.rounding)

    assert plant(compare).examine(trials=40, seed=0).verdict == "inconclusive"


def test_exact_arithmetic_far_from_the_instance_clears_nothing():
    def exactly(x):
        # true at coarse roundings only: at those whose denominators are small
        fine = max(int(entry.q) for entry in x.A.entries()) > 8
        return at_most(flint.arb("1 +/- 0.1"), 1) if fine else at_most(0, 1)

    claim = plant(lambda x: at_most(2.0, 1.0), exactly)
    assert claim.examine(trials=40, seed=0).verdict == "inconclusive"


def test_a_case_of_equality_that_is_none_is_noticed():
    compare = lambda x: at_least(x.gram_A[0] + x.gram_B[0], 2 * x.s[0], x.rounding)  # noqa: E731
    equality = (Shape(1, 1, 1), FAMILY.parameters([1], [], [[1]]))
    off = (Shape(1, 1, 1), FAMILY.parameters([1], [], [[2]]))
    assert plant(compare, tight_at=equality).examine(trials=40, seed=0).verdict == "holds"
    assert plant(compare, tight_at=off).examine(trials=40, seed=0).verdict == "inconclusive"


def test_violations_that_cannot_be_decided_are_inconclusive():
    verdict = plant(lambda x: at_least(x.kappa, 2.0, x.rounding), has_exact=False).examine(trials=60, seed=0)
    assert verdict.verdict == "inconclusive"
    assert not verdict.certified
    assert "could be decided exactly" in verdict.note
    assert not verdict.as_recorded


def test_nan_counts_as_a_violation():
    assert Comparison(np.nan, "<=", 1.0).suspicious
    assert plant(lambda x: at_most(np.nan, 1.0), has_exact=False).examine(trials=20, seed=0).verdict == "inconclusive"


def test_examination_is_deterministic_in_its_seed():
    claim = plant(lambda x: at_least(x.kappa, 2, x.rounding), family=INTERIOR, recorded="holds")
    first, again, other = (claim.examine(trials=100, seed=s).as_json() for s in (3, 3, 4))
    assert first == again
    assert first["worst_margin"] != other["worst_margin"]


def test_every_shape_is_searched_even_with_one_trial():
    seen = set()

    def compare(x):
        seen.add(x.shape)
        return at_most(0.0, 1.0)

    verdict = plant(compare, has_exact=False, recorded="holds").examine(trials=1, seed=0)
    assert seen == set(FAMILY.shapes)
    assert verdict.trials == len(FAMILY.shapes)


def test_counterexamples_are_simplified_and_self_contained():
    claim = plant(lambda x: at_most(x.kappa, 50, x.rounding), family=INTERIOR)
    verdict = claim.examine(trials=200, seed=0)
    found = verdict.counterexample.as_json()
    A, B, Z = (np.array([[float(Fraction(x)) for x in row] for row in found[name]]) for name in "ABZ")
    from lorakappa.conditioning import condition_number

    assert condition_number(A, B, Z) == pytest.approx(float(Fraction(found["left"])), rel=1e-9)
    assert max(abs(Fraction(x).numerator) + Fraction(x).denominator for x in found["parameters"]) < 20
    instance, comparison = claim.evaluate(Shape(**found["shape"]), tuple(map(Fraction, found["parameters"])))
    assert comparison.certainly_false
    assert instance.left == found["left"]
    json.dumps(verdict.as_json())


def test_evaluate_refuses_what_is_no_instance():
    claim = plant(lambda x: at_least(x.kappa, 2))
    with pytest.raises(ValueError, match="no instance of its domain"):
        claim.evaluate(Shape(1, 1, 1), (Fraction(-1), Fraction(1)))
    with pytest.raises(ValueError, match="floating point only"):
        plant(lambda x: at_least(1, 2), has_exact=False).evaluate(Shape(1, 1, 1), (Fraction(1), Fraction(1)))


def test_a_claim_compared_in_floats_only_takes_no_exact_comparison():
    with pytest.raises(ValueError, match="planted is compared in floating point only"):
        plant(lambda x: at_least(1, 2), lambda x: at_least(1, 2), has_exact=False)


def test_evaluate_uses_the_exact_comparison():
    claim = plant(lambda x: at_least(1.0, 2.0), lambda x: at_least(x.s[0], x.s[0] + 1))
    instance, _ = claim.evaluate(Shape(1, 1, 1), (Fraction(2), Fraction(1)))
    assert (instance.left, instance.right) == ("4", "5")
    assert claim.compare(None).left == 1.0


# --- comparisons --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("comparison", "margin", "suspicious"),
    [
        (at_most(1.0, 2.0), 0.5, False),
        (at_most(2.0, 1.0), -0.5, True),
        (at_most(1.0 + 1e-12, 1.0, 1e-11), -1e-12, False),
        (at_least(3.0, 4.0), -0.25, True),
        (at_least(1.0, np.inf), -1.0, True),
        (at_most(1.0, np.inf), 1.0, False),
        (equal(1.0, 1.0), 0.0, False),
        (equal(1e-9, 0.0, 1e-8), -1e-9, False),
        (equal(1e-7, 0.0, 1e-8), -1e-7, True),
        (equal(2.0, 4.0), -0.5, True),
        (more_than(2.0, 1.0), 0.5, False),
        (more_than(1.0, 1.0), 0.0, True),
        (more_than(1.0 + 1e-12, 1.0, 1e-11), 1e-12, True),
        (more_than(1.0, 2.0), -0.5, True),
    ],
)
def test_margins(comparison, margin, suspicious):
    assert comparison.margin == pytest.approx(margin, rel=1e-3)
    assert comparison.suspicious is suspicious


def test_exact_comparisons_decide_only_what_is_certain():
    half, root = flint.fmpq(1, 2), flint.arb(2).sqrt()
    assert at_least(half, flint.fmpq(2, 3)).certainly_false
    assert at_least(half, half).certainly_true
    assert more_than(half, half).certainly_false
    assert equal(half, flint.fmpq(2, 3)).certainly_false
    assert equal(half, half).certainly_true
    assert at_most(root, flint.fmpq(141, 100)).certainly_false
    assert at_most(root, flint.fmpq(142, 100)).certainly_true
    overlapping = at_most(root * root, flint.fmpq(2))
    assert not overlapping.certainly_false
    assert not overlapping.certainly_true
    assert overlapping.indistinguishable
    assert overlapping.satisfied
    assert not more_than(root * root, flint.fmpq(2)).satisfied
    assert not at_most(root, flint.fmpq(142, 100)).indistinguishable
    just_above = at_most(flint.fmpq(10**20 + 1, 10**20), flint.fmpq(1))  # the same double, not the same number
    assert just_above.certainly_false
    assert not just_above.indistinguishable
    assert not just_above.satisfied


# --- exact arithmetic ---------------------------------------------------------------------------


def test_eigenvalues_are_rational_where_they_can_be_and_balls_elsewhere():
    M = exact.matrix([[2, 1, 0], [1, 2, 0], [0, 0, 3]])
    assert exact.eigenvalues(M) == [1, 3, 3]
    golden = exact.eigenvalues(exact.matrix([[1, 1], [1, 0]]))
    assert isinstance(golden[1], flint.arb)
    assert golden[1].overlaps((1 + flint.arb(5).sqrt()) / 2)
    assert float(golden[1].rad()) < 1e-60
    assert golden[0] < 0 < golden[1]


def test_eigenvalues_agree_with_lapack():
    rng = np.random.default_rng(0)
    M = rng.integers(-5, 6, (7, 7))
    M = M + M.T
    values = [exact.to_float(x) for x in exact.eigenvalues(exact.matrix(M.tolist()))]
    np.testing.assert_allclose(values, np.linalg.eigvalsh(M), atol=1e-13)


def test_square_roots_and_extrema():
    assert exact.sqrt(flint.fmpq(9, 4)) == flint.fmpq(3, 2)
    assert isinstance(exact.sqrt(flint.fmpq(2)), flint.arb)
    assert exact.sqrt(flint.arb(2)).overlaps(flint.arb(2).sqrt())
    one, root = flint.fmpq(1), flint.arb(2).sqrt()
    assert exact.maximum(one, root) is root
    assert exact.maximum(root, one) is root
    assert exact.minimum(one, root) is one
    assert exact.minimum(root, one) is one
    blurred = root * root
    assert exact.maximum(blurred, flint.fmpq(2)).overlaps(flint.arb(2))
    assert exact.minimum(blurred, flint.fmpq(2)).overlaps(flint.arb(2))
    assert exact.show(flint.fmpq(17, 16)) == "17/16"
    assert "+/-" in exact.show(root)


def test_second_differences_are_exact_for_a_biquadratic_polynomial():
    def f(theta):
        x, y, z = theta
        return 3 * x * x * y * y + 5 * x * y + z * z - 7 * y * z + 2 * x

    H = exact.hessian(f, [flint.fmpq(1), flint.fmpq(2), flint.fmpq(-1)])
    assert exact.matrix([[24, 29, 0], [29, 6, -7], [0, -7, 2]]) == H


# --- fields of claims ---------------------------------------------------------------------------


def test_decorators_take_every_field_of_a_claim_that_has_a_default():
    hints = get_type_hints(Claim)
    optional = [f.name for f in dataclasses.fields(Claim) if f.default is not dataclasses.MISSING]
    assert get_type_hints(ClaimOptions) == {name: hints[name] for name in optional if name != "argument"}


# --- domains and registries ---------------------------------------------------------------------


def test_all_shapes_are_there_smallest_first():
    shapes = all_shapes(4)
    expected = {(a, b, r) for a, b, r in itertools.product(range(1, 5), repeat=3) if r <= min(a, b)}
    assert {(s.a, s.b, s.r) for s in shapes} == expected
    sizes = [(s.d, s.a + s.b) for s in shapes]
    assert sizes == sorted(sizes)
    assert shapes[0] == Shape(1, 1, 1)


def test_the_canonical_family_draws_what_it_promises():
    rng = np.random.default_rng(0)
    ranks, square_roots = set(), 0
    for shape in FAMILY.shapes:
        for _ in range(40):
            parameters = FAMILY.draw(shape, rng)
            if not FAMILY.valid(shape, parameters):
                continue
            pair = FAMILY.floating(shape, parameters, rng)
            A, B, Z = pair.A, pair.B, pair.Z
            U, s, Vt = np.linalg.svd(Z)
            best = U[:, : shape.r] * s[: shape.r] @ Vt[: shape.r]
            np.testing.assert_allclose(A @ B, best, atol=1e-9 * s[0])
            np.testing.assert_allclose(s, pair.s, atol=1e-12 * s[0])
            ranks.add(int(np.linalg.matrix_rank(Z)) - shape.r)
            square_roots += 1
    assert ranks >= {0, 1}  # rank Z = r and rank Z > r both occur
    assert square_roots > 30 * len(FAMILY.shapes)


def test_float_and_exact_instances_agree():
    rng = np.random.default_rng(1)
    for shape in [s for s in FAMILY.shapes if s.d <= 12]:
        rationals = None
        while rationals is None or not FAMILY.valid(shape, rationals):
            rationals = tuple(Fraction(round(8 * x), 8) for x in FAMILY.draw(shape, rng))
        floating = FAMILY.floating(shape, np.array([float(x) for x in rationals]))
        exactly = FAMILY.exact(shape, rationals)
        for name in ("L", "mu", "kappa", "kappa_balanced"):
            assert getattr(floating, name) == pytest.approx(
                exact.to_float(getattr(exactly, name)), rel=floating.rounding
            )
        assert floating.kernel_dimension == exactly.kernel_dimension == shape.r**2
        for form in ("paper", "corrected"):
            for left, right in zip(floating.bounds(form), exactly.bounds(form), strict=True):
                assert left == pytest.approx(exact.to_float(right), rel=floating.rounding)


def test_a_registry_refuses_duplicates_and_dangling_corrections():
    claim = plant(lambda x: at_least(x.kappa, 2))
    with pytest.raises(ValueError, match="two claims are called planted"):
        registry([claim, claim])
    dangling = plant(lambda x: at_least(x.kappa, 2), corrected_by="nowhere")
    with pytest.raises(ValueError, match="corrected by nowhere, which is not a claim"):
        registry([dangling])
