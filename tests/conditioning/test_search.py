"""The search for counterexamples, piece by piece: on a family so plain that every number can be told beforehand."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from lorakappa.conditioning.verification import Shape, algebraic, algebraic_claim, at_least, at_most, exact

SMALL, LARGE = Shape(1, 1, 1), Shape(2, 2, 1)


class Numbers:
    """Instances are vectors of d numbers in [0, 1), or others that are given; exact ones are rationals of flint."""

    description = "numbers"

    def __init__(self, shapes=(SMALL, LARGE), given=None, valid=lambda parameters: True):
        self.shapes, self.given, self._valid = shapes, given, valid
        self.drawn, self.frames = Counter(), 0

    def draw(self, shape, rng):
        self.drawn[shape] += 1
        return rng.random(shape.d) if self.given is None else np.array(self.given)

    def valid(self, shape, parameters):
        return self._valid(parameters)

    def floating(self, shape, parameters, frame=None):
        self.frames += frame is not None
        return parameters

    def exact(self, shape, parameters):
        return [exact.rational(x) for x in parameters]

    def describe(self, shape, parameters):
        return {}


def claimed(compare, family, **options):
    return algebraic_claim("planted", "planted", family=family, **options)(compare)


def search(compare, family, trials=10, **options):
    return algebraic._Search(claimed(compare, family, **options), trials, np.random.default_rng(0))


# --- drawing ------------------------------------------------------------------------------------


def test_draws_are_shared_out_by_the_number_of_parameters():
    family = Numbers((SMALL, LARGE, Shape(3, 3, 2)))  # d = 2, 4, 12
    verdict = claimed(lambda x: at_most(0, 1), family).examine(trials=36)
    assert family.drawn == {SMALL: 4, LARGE: 8, Shape(3, 3, 2): 24}
    assert family.frames == 36  # each in a random frame; what the optimizer looks at is in none
    assert verdict.trials == 36


def test_what_is_not_of_the_domain_is_drawn_again_up_to_a_hundred_times():
    family = Numbers((SMALL,), valid=lambda parameters: parameters[0] < 0.5)
    verdict = claimed(lambda x: at_most(x[0], 0.5), family, has_exact=False).examine(trials=20)
    assert verdict.trials == 20
    assert family.drawn[SMALL] > 25
    never = Numbers((SMALL,), valid=lambda parameters: False)
    with pytest.raises(RuntimeError, match=r"planted: no valid instance of shape .* in 100 draws"):
        claimed(lambda x: at_most(0, 1), never).examine(trials=20)
    assert never.drawn[SMALL] == 100


def test_the_worst_instance_is_the_one_of_least_margin():
    looked_at = []

    def compare(x):
        looked_at.append(at_most(float(x[0]), 2.0, 1e-9 * len(x)))
        return looked_at[-1]

    verdict = claimed(compare, Numbers(), has_exact=False).examine(trials=30)
    worst = min(looked_at, key=lambda found: found.margin)
    assert verdict.worst_margin == worst.margin
    assert verdict.evidence["rounding_tolerance"] == worst.tolerance
    assert verdict.evidence["worst_shape"] == {2e-9: SMALL, 4e-9: LARGE}[worst.tolerance].as_dict()
    assert len(looked_at) == verdict.trials + verdict.evidence["optimizer_evaluations"]


# --- the optimizer ------------------------------------------------------------------------------


def test_the_optimizer_starts_from_the_worst_instance_of_each_of_the_six_worst_shapes(monkeypatch):
    shapes = tuple(Shape(a, a, 1) for a in range(1, 9))
    best, starts = {}, []

    def compare(x):
        found = at_most(float(x[0]), 2.0)
        best[len(x)] = max(best.get(len(x), (0.0, None)), (float(x[0]), tuple(x)))
        return found

    def three_steps(objective, start, **_):
        starts.append(tuple(start))
        for _ in range(3):
            objective(start)

    monkeypatch.setattr(algebraic.optimize, "minimize", three_steps)
    verdict = claimed(compare, Numbers(shapes), has_exact=False).examine(trials=200)
    assert starts == [parameters for _, parameters in sorted(best.values(), reverse=True)[:6]]
    assert verdict.evidence["optimizer_evaluations"] == 18


def test_the_optimizer_sees_slack_and_a_wall_around_the_domain(monkeypatch):
    seen = []

    def steps(objective, start, **_):
        seen.extend(objective(np.array([x])) for x in (0.25, 0.5, 2.0))

    monkeypatch.setattr(algebraic.optimize, "minimize", steps)
    family = Numbers((SMALL,), given=[0.0], valid=lambda parameters: parameters[0] <= 1)
    compare = lambda x: at_most(float(x[0]), 1.0, 0.125)  # noqa: E731
    found = search(compare, family, has_exact=False, trials=1)
    assert found.run() is None
    assert seen == [0.75 + 0.125, 0.5 + 0.125, algebraic.OUTSIDE]
    assert found.evaluations == 3
    assert found.worst.parameters.tolist() == [0.5]


def test_a_margin_without_bottom_does_not_stop_the_optimizer(monkeypatch):
    seen = []
    monkeypatch.setattr(
        algebraic.optimize, "minimize", lambda objective, start, **_: seen.append(objective(np.array([0.5])))
    )
    search(lambda x: at_most(np.nan, 1.0), Numbers((SMALL,), given=[0.0]), has_exact=False, trials=1).run()
    assert seen == [-algebraic.OUTSIDE]


# --- rationals ----------------------------------------------------------------------------------


def test_parameters_are_rounded_coarse_to_fine_and_only_valid_roundings_count():
    point = algebraic._Point(SMALL, np.array([0.3, 0.1]), at_most(0, 1))
    found = list(search(lambda x: at_most(0, 1), Numbers())._rationals(point))
    # 0.3·q and 0.1·q rounded: q = 1, 2, 3, 4, 6, 8, 12, 16, 64, 1024, 2²⁰
    over = [(0, 0, 1), (1, 0, 2), (1, 0, 3), (1, 0, 4), (2, 1, 6), (2, 1, 8), (4, 1, 12), (5, 2, 16), (19, 6, 64)]
    over += [(307, 102, 1024), (314573, 104858, 2**20)]
    assert found == [(Fraction(p, q), Fraction(s, q)) for p, s, q in over]
    positive = Numbers(valid=lambda parameters: parameters[1] > 0)
    assert list(search(lambda x: at_most(0, 1), positive)._rationals(point)) == found[4:]


def test_only_a_rounding_to_a_hundred_thousandth_is_close():
    for x, by, expected in (
        (1.0, 0.9e-5, True), (1.0, 1.1e-5, False), (0.0, 0.9e-5, True), (0.0, 1.1e-5, False),
        (1000.0, 0.9e-2, True), (-1000.0, 1.1e-2, False),
    ):  # fmt: skip
        rationals = (Fraction(0), Fraction(x) + Fraction(by))
        assert algebraic._close(rationals, np.array([0.0, x])) is expected


def test_simple_numbers_are_those_of_small_numerator_and_denominator_the_simplest_first():
    half = Fraction(1, 2)
    assert algebraic.SIMPLE[:7] == [0, 1, -1, 2, half, -half, -2]
    assert set(algebraic.SIMPLE) == {s * Fraction(p, q) for p in range(7) for q in (1, 2, 3, 4) for s in (1, -1)}
    sizes = [algebraic._complexity(x) for x in algebraic.SIMPLE]
    assert sizes == sorted(sizes)
    assert algebraic._complexity(Fraction(-3, 4)) == 7


def test_a_counterexample_is_made_as_simple_as_it_can_be_and_stays_one():
    compare = lambda x: at_most(x[0] * x[1], 1.0 if isinstance(x, np.ndarray) else exact.rational(1))  # noqa: E731
    found = search(compare, Numbers((SMALL,)))._simplest(SMALL, (Fraction(7, 2), Fraction(17, 16)))
    # one number after the other: 1·17/16 > 1, and 2 is the simplest for which 1·x > 1
    assert found.instance.values["parameters"] == ["1", "2"]
    assert found.complexity == 2 + 3
    assert (found.instance.left, found.instance.right) == ("2", "1")


def test_of_several_counterexamples_the_simplest_is_kept():
    family = Numbers((SMALL,))
    verdict = claimed(
        lambda x: at_most(x[0] * x[1], -1.0 if isinstance(x, np.ndarray) else exact.rational(-1)), family
    ).examine(trials=10)
    assert verdict.counterexample.values["parameters"] == ["0", "0"]
    assert verdict.trials == 10
    assert verdict.evidence["optimizer_evaluations"] == 0


def test_a_smaller_shape_that_looked_sound_is_polished_before_a_larger_one_is_believed():
    def compare(x):
        limit = 1.5 if len(x) == 2 else 0.5  # within the smaller shape only the optimizer gets beyond 1
        return at_most(x[0], limit if isinstance(x, np.ndarray) else exact.rational(Fraction(limit)))

    verdict = claimed(compare, Numbers()).examine(trials=40)
    assert verdict.verdict == "refuted"
    assert verdict.counterexample.shape == SMALL.as_dict()
    assert verdict.evidence["optimizer_evaluations"] > 0


# --- exact instances ----------------------------------------------------------------------------


def test_the_worst_instance_of_every_small_shape_is_decided_exactly():
    shapes = (Shape(2, 8, 2), Shape(4, 3, 3))  # d = 20 and 21
    decided = []

    def compare(x):
        if not isinstance(x, np.ndarray):
            decided.append(len(x))
        return at_least(2, 1)

    verdict = claimed(compare, Numbers(shapes)).examine(trials=20)
    assert decided == [20]
    assert verdict.evidence["exact_instances"] == 1
    assert verdict.note.endswith("1 instances also checked exactly")


def test_without_number_of_trials_there_are_a_thousand():
    assert claimed(lambda x: at_most(0, 1), Numbers((SMALL,)), has_exact=False).examine().trials == 1000
