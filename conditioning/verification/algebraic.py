"""Algebraic claims: statements about single instances, searched in floats and certified exactly.

The search draws over all shapes, smallest first, then lets Nelder–Mead push the worst instances towards
violation. Whatever looks violated is made rational, simplified to small numbers, and decided in exact
arithmetic; only that makes a claim refuted.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar, Unpack

import numpy as np
from scipy import optimize

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.verification.claim import Claim, ClaimOptions, Comparison, Instance, Verdict, VerdictName
from lorakappa.conditioning.verification.exact import show
from lorakappa.conditioning.verification.family import Family, Shape
from lorakappa.conditioning.verification.levels import Ground, ground

Rationals = tuple[Fraction, ...]
Floating = TypeVar("Floating")
"""A family's instances in float64."""
Exact = TypeVar("Exact")
"""Its instances in exact arithmetic."""

DENOMINATORS = (1, 2, 3, 4, 6, 8, 12, 16, 64, 1024, 2**20)
SIMPLE = sorted(
    {Fraction(sign * p, q) for p in range(7) for q in range(1, 5) for sign in (1, -1)},
    key=lambda x: (abs(x.numerator) + x.denominator, -x),
)
DEFAULT_TRIALS = 1000
POLISHED = 6  # instances that the optimizer starts from
EVALUATIONS = 250  # of the margin, per start
CANDIDATES = 5  # certified counterexamples among which the simplest one is kept
EXACT_DIMENSION = 20  # largest d at which the worst instance of a shape is also decided exactly
OUTSIDE = 1e6  # what the optimizer sees outside the domain; margins lie in [−1, 1]


@dataclass(frozen=True, kw_only=True)
class AlgebraicClaim(Claim, Generic[Floating, Exact]):
    """A claim that compares two sides at each instance of a family.

    Attributes:
        family: the domain.
        compare: compares the two sides at an instance in float64.
        compare_exactly: compares them at an instance in exact arithmetic; without it nothing can be refuted.
        tight_at: shape and parameters at which both sides are equal, if the statement is sharp.
        certificates: folder with the claim's certificate; None is this project's.
    """

    family: Family[Floating, Exact]
    compare: Callable[[Floating], Comparison]
    compare_exactly: Callable[[Exact], Comparison] | None = None
    tight_at: tuple[Shape, Rationals] | None = None
    certificates: Path | None = None

    def exact(self, compare_exactly: Callable[[Exact], Comparison]) -> Callable[[Exact], Comparison]:
        """Decorator: registers another function as `compare_exactly`.

        Raises:
            ValueError: if the claim was declared to be compared in floating point only.
        """
        if self.compare_exactly is None:
            raise ValueError(f"{self.id} is compared in floating point only: leave out has_exact=False")
        object.__setattr__(self, "compare_exactly", compare_exactly)  # completes the definition of a frozen claim
        return compare_exactly

    def examine(self, *, trials: int | None = None, seed: int = 0) -> Verdict:
        """Searches for a counterexample (module docstring)."""
        search = _Search(self, trials or DEFAULT_TRIALS, np.random.default_rng(seed))
        counterexample = search.run()
        evidence: dict[str, Any] = {
            "optimizer_evaluations": search.evaluations,
            "exact_instances": search.exact_instances,
            "cleared_exactly": search.cleared,
        }
        if search.worst is not None:
            evidence["worst_shape"] = search.worst.shape.as_dict()
            evidence["rounding_tolerance"] = search.worst.comparison.tolerance
        verdict: VerdictName = "holds"
        note = f"no counterexample in {search.draws} draws and {search.evaluations} optimizer steps"
        if self.compare_exactly is not None:
            note += f"; {search.exact_instances} instances also checked exactly"
        if search.cleared:
            note += f"; {search.cleared} that looked violated in floats cleared exactly"
        if counterexample is not None:
            verdict, note = "refuted", "counterexample certified in exact arithmetic"
        elif search.undecided:
            verdict = "inconclusive"
            note = f"{search.undecided} instances look violated, but none could be decided exactly"
        if self.tight_at is not None:
            evidence["tight"] = self._tightness(*self.tight_at)
            if verdict == "holds" and not evidence["tight"]["equal"]:
                verdict, note = "inconclusive", "the case of equality on record is none"
        return Verdict(
            claim=self,
            verdict=verdict,
            trials=search.draws,
            seed=seed,
            worst_margin=None if search.worst is None else search.worst.comparison.margin,
            counterexample=counterexample,
            certified=counterexample is not None,
            evidence=evidence,
            note=note,
            ground=self.ground(search.exact_instances) if verdict == "holds" else None,
        )

    def ground(self, exact_instances: int = 0) -> Ground:
        """What the claim rests on, beside the instances of a search."""
        return ground(self.id, self.statement, exact_instances=exact_instances, certificate_folder=self.certificates)

    def evaluate(self, shape: Shape, parameters: Rationals) -> tuple[Instance, Comparison]:
        """The instance and its two sides in exact arithmetic.

        Raises:
            ValueError: if the parameters are not an instance of the domain, or the claim has no exact form.
        """
        if self.compare_exactly is None:
            raise ValueError(f"{self.id} is compared in floating point only")
        if not self.family.valid(shape, parameters):
            raise ValueError(f"{self.id}: these parameters are no instance of its domain")
        comparison = self.compare_exactly(self.family.exact(shape, parameters))
        values = self.family.describe(shape, parameters) | {"parameters": [str(x) for x in parameters]}
        return Instance(shape.as_dict(), values, show(comparison.left), show(comparison.right)), comparison

    def _tightness(self, shape: Shape, parameters: Rationals) -> dict[str, Any]:
        instance, comparison = self.evaluate(shape, parameters)
        return {"equal": comparison.indistinguishable, **instance.as_json()}


@dataclass(frozen=True)
class _Point:
    """A searched instance: where, and what the comparison gave."""

    shape: Shape
    parameters: Array
    comparison: Comparison


@dataclass(frozen=True)
class _Found:
    """A certified counterexample and how complicated its numbers are."""

    instance: Instance
    complexity: int


class _Search:
    """One run over a family: keeps the worst instance and counts what was looked at."""

    def __init__(self, claim: AlgebraicClaim[Any, Any], trials: int, rng: np.random.Generator) -> None:
        self.claim, self.family, self.trials, self.rng = claim, claim.family, trials, rng
        self.draws = self.evaluations = self.exact_instances = self.undecided = self.cleared = 0
        self.worst: _Point | None = None

    def run(self) -> Instance | None:
        """The smallest counterexample found, or None."""
        worst_by_shape: dict[Shape, _Point] = {}
        total = sum(shape.d for shape in self.family.shapes)
        for shape in self.family.shapes:
            found: list[_Found] = []
            for point in self._draw(shape, max(1, round(self.trials * shape.d / total))):
                if shape not in worst_by_shape or _slack(point) < _slack(worst_by_shape[shape]):
                    worst_by_shape[shape] = point
                if len(found) < CANDIDATES and (candidate := self._certify(point)):
                    found.append(candidate)
            if found:
                smaller = [point for other, point in worst_by_shape.items() if other != shape]
                return self._polish(smaller) or min(found, key=lambda entry: entry.complexity).instance
        worst = sorted(worst_by_shape.values(), key=_slack)[:POLISHED]
        return self._polish(worst) or self._check_exactly(list(worst_by_shape.values()))

    def _draw(self, shape: Shape, number: int) -> Iterator[_Point]:
        """Draws valid instances of one shape and compares them, each in a random orthonormal frame."""
        for _ in range(number):
            for _attempt in range(100):
                parameters = self.family.draw(shape, self.rng)
                if self.family.valid(shape, parameters):
                    break
            else:
                raise RuntimeError(f"{self.claim.id}: no valid instance of shape {shape} in 100 draws")
            self.draws += 1
            yield self._compare(shape, parameters, self.rng)

    def _compare(self, shape: Shape, parameters: Array, frame: np.random.Generator | None = None) -> _Point:
        point = _Point(shape, parameters, self.claim.compare(self.family.floating(shape, parameters, frame)))
        if self.worst is None or point.comparison.margin < self.worst.comparison.margin:
            self.worst = point
        return point

    def _polish(self, points: Sequence[_Point]) -> Instance | None:
        """Minimizes the margin by Nelder–Mead from each point; certifies what comes out violated."""
        for start in points:
            best = start

            def objective(parameters: Array, shape: Shape = start.shape) -> float:
                nonlocal best
                self.evaluations += 1
                if not self.family.valid(shape, parameters):
                    return OUTSIDE
                point = self._compare(shape, parameters)
                if _slack(point) < _slack(best):
                    best = point
                return max(_slack(point), -OUTSIDE)

            options = {"maxfev": EVALUATIONS, "xatol": 1e-6, "fatol": 1e-12}
            optimize.minimize(objective, start.parameters, method="Nelder-Mead", options=options)
            if found := self._certify(best):
                return found.instance
        return None

    def _check_exactly(self, points: Sequence[_Point]) -> Instance | None:
        """Decides the worst instance of each small shape in exact arithmetic, whatever the floats said."""
        if self.claim.compare_exactly is None:
            return None
        for point in points:
            if point.shape.d <= EXACT_DIMENSION:
                rationals = next(self._rationals(point), None)
                if rationals is not None:
                    self.exact_instances += 1
                    if self._refutes(point.shape, rationals):
                        return self._simplest(point.shape, rationals).instance
        return None

    def _certify(self, point: _Point) -> _Found | None:
        """Turns a float instance that looks violated into a small rational one that certainly is."""
        if not point.comparison.suspicious:
            return None
        cleared = False
        if self.claim.compare_exactly is not None:
            for rationals in self._rationals(point):
                exact = self.claim.compare_exactly(self.family.exact(point.shape, rationals))
                if exact.certainly_false:
                    return self._simplest(point.shape, rationals)
                # only exact arithmetic right beside the instance shows that the floats had merely lost digits
                cleared = exact.satisfied and _close(rationals, point.parameters)
        self.cleared += cleared
        self.undecided += not cleared
        return None

    def _rationals(self, point: _Point) -> Iterator[Rationals]:
        """Valid roundings of the parameters, coarse to fine."""
        for denominator in DENOMINATORS:
            candidate = tuple(Fraction(round(x * denominator), denominator) for x in point.parameters.tolist())
            if self.family.valid(point.shape, candidate):
                yield candidate

    def _refutes(self, shape: Shape, parameters: Rationals) -> bool:
        compare = self.claim.compare_exactly
        return compare is not None and compare(self.family.exact(shape, parameters)).certainly_false

    def _simplest(self, shape: Shape, parameters: Rationals) -> _Found:
        """Greedily replaces parameters by simpler numbers while the instance stays a counterexample."""
        current = list(parameters)
        improved = True
        while improved:
            improved = False
            for index in range(len(current)):
                for simple in SIMPLE:
                    if _complexity(simple) >= _complexity(current[index]):
                        break
                    candidate = (*current[:index], simple, *current[index + 1 :])
                    if self._still_refutes(shape, candidate):
                        current[index], improved = simple, True
                        break
        instance, _ = self.claim.evaluate(shape, tuple(current))
        return _Found(instance, sum(map(_complexity, current)))

    def _still_refutes(self, shape: Shape, candidate: Rationals) -> bool:
        """Whether the instance is a counterexample; floats, which are cheap, are asked first."""
        if not self.family.valid(shape, candidate):
            return False
        floats = np.array([float(x) for x in candidate])
        looks_violated = self.claim.compare(self.family.floating(shape, floats)).suspicious
        return looks_violated and self._refutes(shape, candidate)


def _close(rationals: Rationals, parameters: Array) -> bool:
    """Whether a rounding moved no parameter by more than 1e-5, absolutely or relatively."""
    floats = np.array([float(x) for x in rationals])
    return bool((np.abs(floats - parameters) <= 1e-5 * np.maximum(1, np.abs(parameters))).all())


def _complexity(x: Fraction) -> int:
    return abs(x.numerator) + x.denominator


def _slack(point: _Point) -> float:
    """What the optimizer minimizes: the margin left after rounding is allowed for."""
    return point.comparison.margin + point.comparison.tolerance


def algebraic_claim(
    id: str,
    statement: str,
    *,
    family: Family[Floating, Exact],
    has_exact: bool = True,
    tight_at: tuple[Shape, Rationals] | None = None,
    certificates: Path | None = None,
    **options: Unpack[ClaimOptions],
) -> Callable[[Callable[[Floating], Comparison]], AlgebraicClaim[Floating, Exact]]:
    """Decorator: makes a comparison function, whose docstring is the argument, into a claim.

    The function serves floating and exact instances alike, unless the claim's `exact` registers another one for the
    latter (see the docstring of `conditioning.claims` for an example).

    Args:
        id: as in `Claim`, like all `options`.
        statement: as in `Claim`.
        family: the instances; its description is the claim's domain.
        has_exact: False if the two sides can be compared in floating point only.
        tight_at: as in `AlgebraicClaim`.
        certificates: as in `AlgebraicClaim`.
        options: further fields of `Claim`.

    Returns:
        The decorator.
    """

    def decorate(compare: Callable[[Floating], Comparison]) -> AlgebraicClaim[Floating, Exact]:
        serves_both: Any = compare  # or `exact` replaces it
        return AlgebraicClaim(
            id=id,
            statement=statement,
            domain=family.description,
            argument=inspect.getdoc(compare) or "",
            family=family,
            compare=compare,
            compare_exactly=serves_both if has_exact else None,
            tight_at=tight_at,
            certificates=certificates,
            **options,
        )

    return decorate
