"""How many claims came out how, in a sentence."""

from collections.abc import Mapping


def counted(count: int, one: str, more: str) -> str:
    """A number with what is counted: "1 claim", "2 claims"."""
    return f"{count} {one if count == 1 else more}"


def came_out(verdicts: Mapping[str, int], levels: Mapping[str, int], corrected: int) -> str:
    """What came out of claims, without what did not.

    Args:
        verdicts: number of claims by verdict.
        levels: of those that hold by algebra, by level.
        corrected: of those that are refuted, with a claim that is true instead.
    """
    grounds = [f"{levels[name]} {name}" for name in ("proved", "certified") if levels.get(name)]
    refuted = verdicts.get("refuted", 0)
    instead = f" ({'all' if corrected == refuted else corrected} with what is true instead)" if corrected else ""
    found = {
        "holds": counted(verdicts.get("holds", 0), "holds", "hold") + (f" ({', '.join(grounds)})" if grounds else ""),
        "refuted": counted(refuted, "is refuted as stated", "are refuted as stated") + instead,
        "not seen": counted(verdicts.get("not seen", 0), "is not seen in our setting", "are not seen in our setting"),
        "equivalent": counted(verdicts.get("equivalent", 0), "finds no difference", "find no difference"),
        "inconclusive": counted(verdicts.get("inconclusive", 0), "stays open", "stay open"),
    }
    return ", ".join(text for name, text in found.items() if verdicts.get(name))
