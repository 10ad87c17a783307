"""Figures as SVG that can stand inside a page: ids of its own, numbers as short as the eye needs."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from lorakappa.figures.catalogue import FIGURES
from lorakappa.figures.drawing import failure, render
from lorakappa.figures.saved import load
from lorakappa.shared.processes import side_by_side

_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_COORDINATES = re.compile(r'(?<= d=")[^"]+|(?<= points=")[^"]+', re.DOTALL)
ENLARGED = 1.6
"""How large a figure made for paper is drawn where there is room."""

_BLANKS = re.compile(r"\n\s*")
_PLACES = 2
"""Decimals kept of a coordinate, in points: a hundredth of a point is below what any screen or printer resolves."""


@dataclass(frozen=True)
class Drawn:
    """A figure, or why there is none.

    Attributes:
        name: of the figure.
        svg: empty if it could not be drawn.
        failure: empty if it could.
        warned: what its data made Matplotlib warn of.
    """

    name: str
    svg: str
    failure: str
    warned: tuple[str, ...]


def draw_figures(
    folders: Mapping[str, Path], *, jobs: int = 1, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Drawn]:
    """Figures of saved results by name; what cannot be drawn keeps no other from it.

    Args:
        folders: in which the data of each figure is, by its name.
        jobs: number of processes; 1 stays in this one. The figures do not depend on it.
        progress: told the name of each figure that is done.
    """
    if jobs > 1 and len(folders) > 1:
        found: Iterable[Drawn] = side_by_side([(_drawn, name, folder) for name, folder in folders.items()], jobs)
    else:
        found = (_drawn(name, folder) for name, folder in folders.items())
    drawn = {}
    for each in found:
        progress(each.name)
        drawn[each.name] = each
    for each in drawn.values():
        for message in each.warned:
            warnings.warn(message, stacklevel=2)
    return drawn


def _drawn(name: str, folder: Path) -> Drawn:
    """One figure, in a process of its own or not."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            svg, reason = inline_svg(name, folder, FIGURES[name].shows), ""
        except (OSError, ValueError) as error:
            svg, reason = "", failure(error)
    return Drawn(name, svg, reason, tuple(dict.fromkeys(str(warning.message) for warning in warned)))


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
