"""Verdicts as `verify --json` writes them, read again for a replay, and what they say compared with what is so."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from lorakappa.conditioning.verification.algebraic import AlgebraicClaim, Rationals
from lorakappa.conditioning.verification.claim import Comparison, Instance, VerdictName
from lorakappa.conditioning.verification.family import Shape
from lorakappa.shared.schemas import Part, Rational, read_model, validated

WHAT = "a file written by verify --json"

Size = Annotated[int, Field(ge=1, strict=True)]


class SavedShape(Part):
    """Sizes of an instance."""

    a: Size
    b: Size
    r: Size


class SavedInstance(Part):
    """What of an instance determines all the rest, which is kept as it is."""

    model_config = ConfigDict(extra="allow", frozen=True)

    shape: SavedShape
    parameters: Annotated[list[Rational], Field(max_length=1000)]


class SavedEvidence(Part):
    """What of the evidence is replayed: a case of equality."""

    tight: SavedInstance | None = None


class SavedVerdict(Part):
    """What a replay reads of a verdict."""

    id: str
    statement: str
    verdict: VerdictName
    counterexample: SavedInstance | None
    evidence: SavedEvidence


class _Named(Part):
    """A verdict on another claim, of which the name is read only."""

    id: str


def replayed(file: Path, claim: AlgebraicClaim[Any, Any]) -> tuple[Instance, Comparison] | None:
    """The counterexample of a claim in a file of verdicts, or its case of equality, evaluated anew.

    Args:
        file: written by `verify --json`.
        claim: whose instance to find.

    Returns:
        The instance of the last verdict on the claim, and its two sides; None if it names no instance.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not what `verify --json` writes, has no verdict on the claim, an instance that the claim
            is not about, or says of the claim or the instance what is not so; the message names the field.
    """
    entries = read_model(file, list[dict[str, Any]], what=WHAT)
    found = [
        i for i, entry in enumerate(entries) if validated(entry, _Named, f"{file}: [{i}]", what=WHAT).id == claim.id
    ]
    if not found:
        raise ValueError(f"{file} has no verdict on {claim.id}")
    place = f"{file}: [{found[-1]}]"
    verdict = validated(entries[found[-1]], SavedVerdict, str(file), what=WHAT)
    _compare(place, "statement", verdict.statement, claim.statement)
    if (verdict.counterexample is None) == (verdict.verdict == "refuted"):
        has = "no counterexample" if verdict.counterexample is None else "a counterexample"
        raise ValueError(f"{place}.verdict: {verdict.verdict}, but there is {has}")
    field, instance = "counterexample", verdict.counterexample
    if instance is None:
        field, instance = "evidence.tight", verdict.evidence.tight
    if instance is None:
        return None
    computed, comparison = claim.evaluate(*_checked(claim, instance, place))
    values = computed.as_json()
    saved = dict(instance.model_extra or {})
    for name in [name for name in values if name not in ("shape", "parameters")] + [*saved]:
        if name != "equal":
            _compare(place, f"{field}.{name}", saved.get(name), values.get(name))
    if verdict.counterexample is not None and not comparison.certainly_false:
        raise ValueError(f"{place}.{field}: no counterexample, left {comparison.relation} right is satisfied there")
    if verdict.counterexample is None and saved.get("equal") is not comparison.indistinguishable:
        raise ValueError(
            f"{place}.{field}.equal: {saved.get('equal')} in the file, {comparison.indistinguishable} here"
        )
    return computed, comparison


def _compare(place: str, field: str, saved: Any, computed: Any) -> None:
    """Raises ValueError if what a file says is not what is computed from its parameters."""
    if saved != computed:
        raise ValueError(f"{place}.{field}: {_short(saved)} in the file, but {_short(computed)} here")


def _short(value: Any) -> str:
    """A value in few characters."""
    if value is None:
        return "nothing"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def parse_instance(claim: AlgebraicClaim[Any, Any], data: dict[str, Any]) -> tuple[Shape, Rationals]:
    """Shape and parameters of an instance in the JSON form of a verdict.

    Args:
        claim: that the instance belongs to.
        data: `Instance.as_json()`.

    Raises:
        ValueError: if it is no instance that the claim is about.
    """
    return _checked(claim, validated(data, SavedInstance, claim.id), claim.id)


def _checked(claim: AlgebraicClaim[Any, Any], instance: SavedInstance, where: str) -> tuple[Shape, Rationals]:
    shape = Shape(instance.shape.a, instance.shape.b, instance.shape.r)
    if shape not in claim.family.shapes:  # also keeps exact arithmetic small
        raise ValueError(f"{where}: {claim.id} is not examined at a = {shape.a}, b = {shape.b}, r = {shape.r}")
    parameters: tuple[Fraction, ...] = tuple(instance.parameters)
    wanted = len(claim.family.draw(shape, np.random.default_rng(0)))
    if len(parameters) != wanted:
        raise ValueError(f"{where}: that shape has {wanted} parameters, but {len(parameters)} are given")
    return shape, parameters
