"""How methods are called on every command line: NAME[:KEY=VALUE,…][@K].

"ilora:lambda=0.1,scale=2@5" is iLoRA with λ = 0.1 and twice its ratio, its map applied after every 5th step only.
Which names there are, and what they mean, is for the rooms to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

SYNTAX = "NAME[:KEY=VALUE,…][@K]"

RANGES = {
    "lambda": (0.0, False),
    "scale": (0.0, False),
    "ratio": (0.0, False),
    "damping": (0.0, True),
    "power": (-inf, False),
}
"""Lower ends of the options that are numbers, and whether the end itself is allowed."""

WORDS = {"ratio": ("fixed", "trained"), "moments": ("keep", "transport", "reset")}
"""What the options that are words may be."""


@dataclass(frozen=True)
class MethodName:
    """A name taken apart.

    Attributes:
        name: as given.
        base: of the table of methods.
        options: all that the method has, with the values given or their defaults.
        every: K, or 1.
    """

    name: str
    base: str
    options: Mapping[str, Any]
    every: int


def parse_method_name(name: str, known: Mapping[str, Mapping[str, Any]]) -> MethodName:
    """Takes a name apart.

    Args:
        name: as typed.
        known: options with their defaults by name of a method; a default that is a string is one of `WORDS`.

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
    options = dict(known[base])
    given: set[str] = set()
    for entry in listed.split(",") if colon else ():
        key, equals, text = (part.strip() for part in entry.partition("="))
        if not equals:
            raise ValueError(f"{name!r}: {entry!r} is not KEY=VALUE")
        if key not in options:
            choices = f"choose from {', '.join(options)}" if options else "it has none"
            raise ValueError(f"{name!r}: {base} has no option {key!r}; {choices}")
        if key in given:
            raise ValueError(f"{name!r}: {key} is given twice")
        given.add(key)
        options[key] = _value(name, key, text, options[key])
    return MethodName(name, base, options, int(period) if at else 1)


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


def _value(name: str, key: str, text: str, default: float | str) -> float | str:
    """One option's value, of the type of its default."""
    if isinstance(default, str):
        if text not in WORDS[key]:
            raise ValueError(f"{name!r}: {key} must be {' or '.join(WORDS[key])}, not {text!r}")
        return text
    low, closed = RANGES[key]
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name!r}: {key} must be a number, not {text!r}") from None
    if not (low < value < inf or (closed and value == low)):
        bound = f" and {'≥' if closed else '>'} 0" if low == 0 else ""
        raise ValueError(f"{name!r}: {key} must be finite{bound}, but is {text}")
    return value
