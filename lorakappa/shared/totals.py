"""How many claims came out how: those of the sources apart from the project's own questions and corrections."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Whose = Literal["sources", "ours"]
"""Who states it: the papers and other sources, or this project, which asks and corrects."""

KINDS: dict[str, Whose] = {"claim": "sources", "question": "ours", "correction": "ours"}
VERDICTS = ("holds", "refuted", "not seen", "equivalent", "inconclusive")
LEVELS = ("proved", "certified", "exact", "sampled")


class Outcome(NamedTuple):
    """What came out of a claim.

    Attributes:
        kind: of the claim.
        verdict: on it.
        level: of its ground; None if it does not hold, or is measured.
        corrected: whether there is a claim that says what is true instead.
    """

    kind: str
    verdict: str
    level: str | None
    corrected: bool


@dataclass(frozen=True)
class Totals:
    """How many claims came out how.

    Attributes:
        kinds: number of claims by kind.
        verdicts: by verdict.
        levels: of those that hold by algebra, by level.
        corrected: of those that are refuted, with a claim that is true instead.
    """

    kinds: dict[str, int]
    verdicts: dict[str, int]
    levels: dict[str, int]
    corrected: int


def counted(count: int, one: str, more: str) -> str:
    """A number with what is counted: "1 claim", "2 claims"."""
    return f"{count} {one if count == 1 else more}"


def tally(outcomes: Iterable[Outcome]) -> dict[Whose, Totals]:
    """The totals of what the sources state, and of the project's own questions and corrections."""
    outcomes = list(outcomes)
    return {
        "sources": _totals([each for each in outcomes if KINDS[each.kind] == "sources"], "sources"),
        "ours": _totals([each for each in outcomes if KINDS[each.kind] == "ours"], "ours"),
    }


def _totals(outcomes: list[Outcome], whose: Whose) -> Totals:
    kinds, verdicts, levels = (Counter(each[i] for each in outcomes) for i in range(3))
    return Totals(
        kinds={name: kinds[name] for name, group in KINDS.items() if group == whose},
        verdicts={name: verdicts[name] for name in VERDICTS},
        levels={name: levels[name] for name in LEVELS},
        corrected=sum(each.verdict == "refuted" and each.corrected for each in outcomes),
    )


def came_out(totals: Mapping[Whose, Totals]) -> str:
    """What came out, in a sentence on the claims of the sources and a shorter one on the project's own."""
    sources, ours = totals["sources"], totals["ours"]
    sentences = []
    if any(sources.kinds.values()):
        what = counted(sources.kinds["claim"], "claim", "claims")
        grounds = ", ".join(f"{n} {name}" for name in ("proved", "certified") if (n := sources.levels[name]))
        instead = "all" if sources.corrected == sources.verdicts["refuted"] else sources.corrected
        details = {
            "holds": f" ({grounds})" if grounds else "",
            "refuted": " as stated" + (f" ({instead} with what is true instead)" if instead else ""),
            "not seen": " in our setting",
        }
        sentences.append(f"Of {what} of the papers and other sources, examined by machine, {_found(sources, details)}.")
    if any(ours.kinds.values()):
        words = {"question": ("question", "questions"), "correction": ("correction", "corrections")}
        what = " and ".join(counted(n, *words[kind]) for kind, n in ours.kinds.items() if n)
        sentences.append(f"Of {what} of our own, {_found(ours, {})}.")
    return " ".join(sentences)


def _found(totals: Totals, details: Mapping[str, str]) -> str:
    """The number of each verdict that there is, with details on some."""
    words = {
        "holds": ("holds", "hold"),
        "refuted": ("is refuted", "are refuted"),
        "not seen": ("is not seen", "are not seen"),
        "equivalent": ("finds the difference within a stated margin", "find the difference within a stated margin"),
        "inconclusive": ("stays open", "stay open"),
    }
    return ", ".join(counted(n, *words[name]) + details.get(name, "") for name, n in totals.verdicts.items() if n)
