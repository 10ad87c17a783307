"""How methods are written on every command line: NAME[:KEY=VALUE,…][@K].

"ilora:lambda=0.1,factor=2@5" is iLoRA with λ = 0.1 and twice its ratio, its map applied after every 5th step only.
Which names there are, and which options they have, is `lorakappa.shared.methods`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

SYNTAX = "NAME[:KEY=VALUE,…][@K]"


@dataclass(frozen=True)
class Option:
    """What can be set behind a name.

    Attributes:
        default: a number, or one of `words`.
        summary: what it sets.
        low: end below which a number must not lie.
        closed: whether the end itself is allowed.
        high: what a number must not exceed.
        words: what an option that is no number may be.
        formerly: what it was once called; who still writes that is told.
    """

    default: float | str
    summary: str
    low: float = 0.0
    closed: bool = False
    high: float = 1e300
    words: tuple[str, ...] = ()
    formerly: str = ""

    def read(self, text: str) -> float | str:
        """The value written as `text`.

        Raises:
            ValueError: if it is none, in words that follow the option's name.
        """
        if self.words:
            if text not in self.words:
                raise ValueError(f"must be {' or '.join(self.words)}, not {text!r}")
            return text
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"must be a number, not {text!r}") from None
        if not (self.low < value < inf or (self.closed and value == self.low)):
            raise ValueError(f"must be {self.range}, but is {text}")
        if abs(value) > self.high:
            raise ValueError(f"must be at most {self.high:g}{' in size' if self.low < 0 else ''}, but is {text}")
        return value

    @property
    def range(self) -> str:
        """What it may be, in words."""
        if self.words:
            return " or ".join(self.words)
        return "finite" if self.low == -inf else f"finite and {'≥' if self.closed else '>'} {self.low:g}"


@dataclass(frozen=True)
class MethodName:
    """A name taken apart.

    Attributes:
        name: as given.
        base: the NAME in it.
        options: all that the method has, with the values given or their defaults.
        given: those that the name sets.
        every: K, or 1.
    """

    name: str
    base: str
    options: Mapping[str, Any]
    given: frozenset[str] = frozenset()
    every: int = 1


def take_apart(name: str, known: Mapping[str, Mapping[str, Option]]) -> MethodName:
    """Takes a name apart.

    Args:
        name: as typed.
        known: the options of every NAME there is.

    Returns:
        The parts.

    Raises:
        ValueError: on an unknown name or option, a value out of its range, or a K that is not a positive integer.
    """
    rest, at, period = name.partition("@")
    base, colon, listed = rest.partition(":")
    if base not in known:
        raise ValueError(f"unknown method {name!r}; choose from {', '.join(known)}, each also as {SYNTAX}")
    if at and not (period.isdecimal() and int(period) > 0):
        raise ValueError(f"{name!r}: what follows @ must be a positive integer")
    values: dict[str, float | str] = {}
    for entry in listed.split(",") if colon else ():
        key, equals, text = (part.strip() for part in entry.partition("="))
        if not equals:
            raise ValueError(f"{name!r}: {entry!r} is not KEY=VALUE")
        if key not in known[base]:
            raise ValueError(f"{name!r}: {base} has no option {key!r}; {_instead(key, known[base])}")
        if key in values:
            raise ValueError(f"{name!r}: {key} is given twice")
        try:
            values[key] = known[base][key].read(text)
        except ValueError as error:
            raise ValueError(f"{name!r}: {key} {error}") from None
    defaults = {key: option.default for key, option in known[base].items()}
    return MethodName(name, base, defaults | values, frozenset(values), int(period) if at else 1)


def split_method_names(text: str) -> list[str]:
    """The names in a comma-separated list; "KEY=VALUE" behind a comma belongs to the method before it.

    Raises:
        ValueError: if an option comes before any method with options.
    """
    names: list[str] = []
    for part in (part.strip() for part in text.split(",")):
        if "=" in part and ":" not in part:
            if not names or ":" not in names[-1] or "@" in names[-1]:
                raise ValueError(f"{part!r} belongs to no method; options are written {SYNTAX}")
            names[-1] += f",{part}"
        elif part:
            names.append(part)
    return names


def with_option(name: str, key: str, value: float) -> str:
    """The name with one more option."""
    base, at, period = name.partition("@")
    return f"{base}{',' if ':' in base else ':'}{key}={value:.12g}{at}{period}"


def _instead(key: str, options: Mapping[str, Option]) -> str:
    """What to write instead of an option that does not exist."""
    for name, option in options.items():
        if option.formerly == key:
            return f"it is called {name} now"
    return f"choose from {', '.join(options)}" if options else "it has none"
