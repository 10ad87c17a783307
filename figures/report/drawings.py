"""Figures as SVG that can stand inside a page: ids of its own, numbers as short as the eye needs."""

import re
from html import escape
from pathlib import Path

from lorakappa.figures.catalogue import FIGURES
from lorakappa.figures.drawing import render
from lorakappa.figures.saved import load

_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_COORDINATES = re.compile(r'(?<= d=")[^"]+|(?<= points=")[^"]+', re.DOTALL)
ENLARGED = 1.6
"""How large a figure made for paper is drawn where there is room."""

_BLANKS = re.compile(r"\n\s*")
_PLACES = 2
"""Decimals kept of a coordinate, in points: a hundredth of a point is below what any screen or printer resolves."""


def inline_svg(name: str, folder: Path, label: str) -> str:
    """A figure of saved results as an `<svg>` element.

    Args:
        name: of the figure.
        folder: with its data.
        label: what it shows, for readers who do not see it.

    Raises:
        OSError: if the data cannot be read.
        ValueError: if the data is not what the figure needs.
    """
    kind = FIGURES[name]
    drawn = render(kind.plot, load(kind.data, folder, kind.arrays), ["svg"])["svg"].decode()
    return standing_alone(drawn, name, label)


def standing_alone(svg: str, name: str, label: str) -> str:
    """Matplotlib's SVG without prologue and metadata, with ids that no other figure has.

    Args:
        svg: a whole file.
        name: which makes ids different from those of other figures.
        label: for `aria-label`.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'((?:xlink:)?href="#|url\(#)', rf"\1{name}-", svg)
    svg = _COORDINATES.sub(lambda found: _NUMBER.sub(_shorter, found[0]), svg)
    head, rest = svg.split(">", 1)
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', head)[1])  # type: ignore[index]  # Matplotlib writes it
    head = re.sub(r'\s(?:width|height|version)="[^"]*"', "", head)
    size = f"max-width:{ENLARGED * width:.0f}pt"
    return f'{head} role="img" aria-label="{escape(label)}" style="{size}">{_BLANKS.sub(chr(10), rest)}'.strip()


def _shorter(found: re.Match[str]) -> str:
    text = f"{float(found[0]):.{_PLACES}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
