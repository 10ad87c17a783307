"""Verdicts as `verify --json` writes them, read again for a replay: a schema, and the instance to replay."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from lorakappa.conditioning.verification.algebraic import AlgebraicClaim, Rationals
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
    """What of an instance determines all the rest."""

    shape: SavedShape
    parameters: Annotated[list[Rational], Field(max_length=1000)]


class SavedEvidence(Part):
    """What of the evidence is replayed: a case of equality."""

    tight: SavedInstance | None = None


class SavedVerdict(Part):
    """What a replay reads of a verdict."""

    id: str
    counterexample: SavedInstance | None
    evidence: SavedEvidence


class _Named(Part):
    """A verdict on another claim, of which the name is read only."""

    id: str


def saved_instance(file: Path, claim: AlgebraicClaim[Any, Any]) -> tuple[Shape, Rationals] | None:
    """The counterexample of a claim in a file of verdicts, or its case of equality.

    Args:
        file: written by `verify --json`.
        claim: whose instance to find.

    Returns:
        Shape and parameters of the last verdict on the claim; None if it names no instance.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is not what `verify --json` writes, has no verdict on the claim, or an instance that the
            claim is not about.
    """
    entries = read_model(file, list[dict[str, Any]], what=WHAT)
    found = [
        i for i, entry in enumerate(entries) if validated(entry, _Named, f"{file}: [{i}]", what=WHAT).id == claim.id
    ]
    if not found:
        raise ValueError(f"{file} has no verdict on {claim.id}")
    place = f"{file}: [{found[-1]}]"
    verdict = validated(entries[found[-1]], SavedVerdict, str(file), what=WHAT)
    instance = verdict.counterexample or verdict.evidence.tight
    return None if instance is None else _checked(claim, instance, place)


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
