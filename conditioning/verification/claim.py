"""What a claim is, what comparing its two sides yields, and what a verdict says.

The same types serve every package: exact theory here, measured rates and fine-tunes elsewhere. A subclass of `Claim`
knows how to examine its kind of statement, and comes with a decorator that makes claims of it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import flint

from lorakappa.conditioning.sources.document import Reference
from lorakappa.conditioning.verification.exact import to_float
from lorakappa.conditioning.verification.levels import Ground

VerdictName = Literal["holds", "refuted", "not seen", "equivalent", "inconclusive"]
"""What a verdict can be (`Verdict`)."""

Kind = Literal["claim", "correction", "question"]
Relation = Literal["<=", ">=", "==", ">"]

DERIVED = "derived here"


@dataclass(frozen=True)
class Comparison:
    """Two sides of a statement at one instance: floats, or exact rationals and real balls.

    Attributes:
        left: left side.
        relation: how it should relate to the right side.
        right: right side.
        tolerance: relative slack that rounding explains; 0 in exact arithmetic.
    """

    left: Any
    relation: Relation
    right: Any
    tolerance: float = 0.0

    @property
    def margin(self) -> float:
        """Signed relative slack: positive where the statement holds with room, negative where violated.

        It is (right − left), or its negative for ≥ and >, or −|right − left| for =, over the larger side;
        against a right side of 0 it is absolute.
        """
        left, right = to_float(self.left), to_float(self.right)
        if math.isnan(left) or math.isnan(right):
            return -math.inf
        if left == right:
            return 0.0
        scale = 1.0 if right == 0 else max(abs(left), abs(right))
        slack = 1.0 if math.isinf(scale) else abs(right - left) / scale
        satisfied = {"<=": left < right, ">=": left > right, ">": left > right, "==": False}[self.relation]
        return slack if satisfied else -slack

    @property
    def suspicious(self) -> bool:
        """Whether floating point says that the statement may be violated here."""
        if self.relation == ">":
            return self.margin <= self.tolerance
        return self.margin < -self.tolerance

    @property
    def certainly_false(self) -> bool:
        """Whether exact sides contradict the statement beyond doubt (disjoint balls, unequal rationals)."""
        left, right = self.left, self.right
        verdicts = {
            "<=": lambda: left > right,
            ">=": lambda: left < right,
            "==": lambda: left != right,
            ">": lambda: left <= right,
        }
        return bool(verdicts[self.relation]())

    @property
    def certainly_true(self) -> bool:
        """Whether exact sides satisfy the statement beyond doubt."""
        left, right = self.left, self.right
        verdicts = {
            "<=": lambda: left <= right,
            ">=": lambda: left >= right,
            "==": lambda: left == right,
            ">": lambda: left > right,
        }
        return bool(verdicts[self.relation]())

    @property
    def indistinguishable(self) -> bool:
        """Whether exact sides agree to 2⁻¹⁰⁰ relatively: equality, as far as balls can tell."""
        difference, size = abs(self.left - self.right), abs(self.left) + abs(self.right)
        return bool(difference <= size * flint.fmpq(1, 2**100))

    @property
    def satisfied(self) -> bool:
        """Whether exact sides satisfy the statement, equality within balls included where it allows equality."""
        return self.certainly_true or (self.relation != ">" and self.indistinguishable)


def at_most(left: Any, right: Any, tolerance: float = 0.0) -> Comparison:
    """The statement left ≤ right."""
    return Comparison(left, "<=", right, tolerance)


def at_least(left: Any, right: Any, tolerance: float = 0.0) -> Comparison:
    """The statement left ≥ right."""
    return Comparison(left, ">=", right, tolerance)


def more_than(left: Any, right: Any, tolerance: float = 0.0) -> Comparison:
    """The statement left > right."""
    return Comparison(left, ">", right, tolerance)


def equal(left: Any, right: Any, tolerance: float = 0.0) -> Comparison:
    """The statement left = right."""
    return Comparison(left, "==", right, tolerance)


@dataclass(frozen=True)
class Instance:
    """One instance in exact numbers, with both sides of the claim there.

    Attributes:
        shape: sizes by name.
        values: matrices and numbers by name, entries as rational strings such as "17/16"; "parameters" is the
            flat vector that the claim's family builds them from.
        left: left side, exact or as a ball with its radius.
        right: right side.
    """

    shape: Mapping[str, int]
    values: Mapping[str, Any]
    left: str
    right: str

    def as_json(self) -> dict[str, Any]:
        """The instance as JSON-like data."""
        return {"shape": dict(self.shape), **self.values, "left": self.left, "right": self.right}


@dataclass(frozen=True)
class Verdict:
    """The outcome of examining one claim, with its evidence.

    Attributes:
        claim: the claim examined.
        verdict: "holds" is no counterexample found, and what `ground` adds, or measurements that meet the claim's rule;
            "refuted" is a certified counterexample; "not seen" are measurements that contradict the claim in their
            setting; "equivalent" are measurements that find the difference within a margin stated with the claim;
            "inconclusive" is none of these.
        trials: instances drawn.
        seed: seed of the draws.
        worst_margin: smallest relative slack seen (`Comparison.margin`).
        counterexample: the smallest certified counterexample, if refuted.
        certified: whether the counterexample was decided in rational or ball arithmetic.
        evidence: further numbers (optimizer evaluations, exact instances, tight case, …), JSON-like.
        note: one line on how the verdict came about.
        setting: in which setting it was measured; empty for what is decided by algebra.
        ground: what "holds" rests on; None of other verdicts, and of what is measured.
    """

    claim: "Claim"
    verdict: VerdictName
    trials: int
    seed: int
    worst_margin: float | None
    counterexample: Instance | None = None
    certified: bool = False
    evidence: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    setting: str = ""
    ground: Ground | None = None

    def __post_init__(self) -> None:
        """Holds the word to its meaning.

        Raises:
            ValueError: if a claim is called refuted without a certified counterexample.
        """
        if self.verdict == "refuted" and not self.certified:
            raise ValueError(f"{self.claim.id}: only a certified counterexample refutes; what is measured is not seen")

    @property
    def faults(self) -> tuple[str, ...]:
        """What should have strengthened the verdict and does not, a line each."""
        return () if self.ground is None else self.ground.faults

    @property
    def as_recorded(self) -> bool:
        """Whether the verdict equals the one on record."""
        return self.verdict == self.claim.recorded

    def as_json(self) -> dict[str, Any]:
        """The verdict as one JSON object."""
        claim = self.claim
        return {
            "id": claim.id,
            "statement": claim.statement,
            "kind": claim.kind,
            "source": claim.origin,
            "domain": claim.domain,
            "sides": list(claim.sides),
            "argument": claim.argument,
            "experiment": claim.experiment or None,
            "verdict": self.verdict,
            "recorded": claim.recorded,
            "trials": self.trials,
            "seed": self.seed,
            "worst_margin": self.worst_margin,
            "counterexample": self.counterexample.as_json() if self.counterexample else None,
            "certified": self.certified,
            "level": self.ground.level if self.ground else None,
            "ground": self.ground.as_json() if self.ground else None,
            "corrected_by": claim.corrected_by,
            "evidence": dict(self.evidence),
            "note": self.note,
            "setting": self.setting or None,
        }


@dataclass(frozen=True, kw_only=True)
class Claim(ABC):
    """A statement with its source, the instances it speaks of, and the verdict on record.

    Attributes:
        id: kebab-case name, unique over all packages.
        statement: one sentence, in our own words, with the formula that the source has.
        source: place on the map of the sources where it is stated or asked; None if it is derived here.
        domain: the instances that the statement is about.
        recorded: the verdict that `verify` must reproduce.
        kind: "claim" that a document makes, "correction" of one, or "question": what no document claims, ours or asked
            by a review.
        corrected_by: id of the claim that says what is true instead.
        sides: what the left and right side of the comparison are.
        argument: why it holds or fails; a short proof where there is one.
        experiment: name of the experiment that its evidence comes from, if other claims rest on the same one.
        seconds: about what examining it takes at its own number of instances; the longest are begun first.
    """

    id: str
    statement: str
    domain: str
    argument: str = ""
    source: Reference | None = None
    recorded: VerdictName = "holds"
    kind: Kind = "claim"
    corrected_by: str | None = None
    sides: tuple[str, str] = ("left", "right")
    experiment: str = ""
    seconds: float = 1.0

    @property
    def origin(self) -> str:
        """Document and place in one line, or "derived here"."""
        return DERIVED if self.source is None else str(self.source)

    @abstractmethod
    def examine(self, *, trials: int | None = None, seed: int = 0) -> Verdict:
        """Collects evidence and returns the verdict; deterministic in (trials, seed).

        Args:
            trials: instances to look at; None means the claim's own default.
            seed: seed of the draws.
        """


class ClaimOptions(TypedDict, total=False):
    """The fields of `Claim` that have a default, as keywords that every decorator passes on (a test compares the two).

    A decorator itself asks for what `Claim` cannot do without, and takes `argument` from a docstring.
    """

    source: Reference | None
    recorded: VerdictName
    kind: Kind
    corrected_by: str | None
    sides: tuple[str, str]
    experiment: str
    seconds: float


def registry(*groups: Sequence[Claim]) -> dict[str, Claim]:
    """Claims by id, in order.

    Raises:
        ValueError: if an id occurs twice or a correction is unknown.
    """
    claims: dict[str, Claim] = {}
    for claim in (claim for group in groups for claim in group):
        if claim.id in claims:
            raise ValueError(f"two claims are called {claim.id}")
        claims[claim.id] = claim
    for claim in claims.values():
        if claim.corrected_by is not None and claim.corrected_by not in claims:
            raise ValueError(f"{claim.id} is corrected by {claim.corrected_by}, which is not a claim")
    return claims
