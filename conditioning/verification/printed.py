"""Claims on numbers that a document prints: what it says of its own table, decided from the table alone.

Such a claim has one instance, the numbers as printed, and needs no search: its two sides are rational, so that either
verdict is certain. It says whether a sentence agrees with a table, not whether the table is right.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import flint

from lorakappa.conditioning.verification.claim import Claim, ClaimOptions, Comparison, Instance, Verdict
from lorakappa.conditioning.verification.exact import show

Rows = Mapping[str, Sequence[flint.fmpq]]
"""Numbers by row of the table."""


@dataclass(frozen=True, kw_only=True)
class PrintedClaim(Claim):
    """A claim on printed numbers.

    Attributes:
        table: decimals by row, as printed.
        compare: compares the two sides, given the rows as rationals.
    """

    table: Mapping[str, Sequence[str]]
    compare: Callable[[Rows], Comparison]

    def evaluate(self) -> tuple[Instance, Comparison]:
        """The numbers, and the two sides in exact arithmetic."""
        comparison = self.compare({name: [decimal(text) for text in row] for name, row in self.table.items()})
        values = {name: [list(row)] for name, row in self.table.items()}
        return Instance({}, values, show(comparison.left), show(comparison.right)), comparison

    def examine(self, *, trials: int | None = None, seed: int = 0) -> Verdict:
        """Decides it; neither `trials` nor `seed` matters."""
        instance, comparison = self.evaluate()
        refuted = comparison.certainly_false
        return Verdict(
            claim=self,
            verdict="refuted" if refuted else "holds",
            trials=1,
            seed=seed,
            worst_margin=comparison.margin,
            counterexample=instance if refuted else None,
            certified=refuted,
            evidence={"exact_instances": 1},
            note="decided from the printed numbers",
        )


def decimal(text: str) -> flint.fmpq:
    """A printed decimal such as "91.10" as a rational."""
    whole, _, digits = text.partition(".")
    return flint.fmpq(int(whole + digits), 10 ** len(digits))


def average(rows: Rows, name: str) -> flint.fmpq:
    """The mean of a row."""
    return sum(rows[name], flint.fmpq(0)) / len(rows[name])


def leads(rows: Rows, name: str, *others: str) -> list[flint.fmpq]:
    """By how much a row is ahead of the best of others, column by column."""
    return [here - max(there) for here, *there in zip(rows[name], *(rows[other] for other in others), strict=True)]


def printed_claim(
    id: str, statement: str, *, table: Mapping[str, Sequence[str]], domain: str, **options: Unpack[ClaimOptions]
) -> Callable[[Callable[[Rows], Comparison]], PrintedClaim]:
    """Decorator: makes a comparison of printed numbers, whose docstring is the argument, into a claim.

    Args:
        id: as in `Claim`, like all `options`.
        statement: as in `Claim`.
        table: as in `PrintedClaim`.
        domain: which table it is.
        options: further fields of `Claim`.

    Returns:
        The decorator.
    """

    def decorate(compare: Callable[[Rows], Comparison]) -> PrintedClaim:
        return PrintedClaim(
            id=id,
            statement=statement,
            domain=domain,
            argument=inspect.getdoc(compare) or "",
            table=table,
            compare=compare,
            **options,
        )

    return decorate
