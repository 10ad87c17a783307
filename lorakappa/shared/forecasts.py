"""How long something will take, said before it begins; what nobody can wait for is refused."""

from lorakappa.shared.command_line import note

SHORT = 60.0
"""Seconds below which nothing is said."""

UNITS = (("seconds", 60.0), ("minutes", 60.0), ("hours", 24.0), ("days", 365.0))


def time_in_words(seconds: float) -> str:
    """A time, such as "3 days"."""
    value = float(seconds)
    for unit, length in UNITS:
        if value < 2 * length:
            return f"{value:.2g} {unit}" if value < 10 else f"{value:.0f} {unit}"
        value /= length
    return f"{value:.2g} years" if value < 1e4 else f"10^{len(f'{value:.0f}') - 1} years"


def refuse_or_say(what: str, seconds: float, longest: float) -> None:
    """Says on stderr that something takes long, or refuses it.

    Args:
        what: takes the time.
        seconds: that it takes, roughly.
        longest: up to which it is begun.

    Raises:
        ValueError: if it takes longer, with the time.
    """
    if seconds > longest:
        raise ValueError(f"{what} would take about {time_in_words(seconds)}; ask for less")
    if seconds > SHORT:
        note(f"{what} will take about {time_in_words(seconds)}")
