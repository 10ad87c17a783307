"""How every figure looks: sizes, fonts, and one colour, marker and line per method."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from lorakappa.shared.methods import VOCABULARY

SINGLE, DOUBLE = 3.4, 7.0
"""Widths in inches: one column, two columns."""

TALLEST = 60.0
"""Height in inches up to which a figure is drawn."""

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
"""The palette of Okabe and Ito, which colour-blind readers can tell apart."""

GREY = "#767676"

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "figure.dpi": 300,
    "savefig.dpi": "figure",
    "svg.hashsalt": "lorakappa",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
}
"""Matplotlib's settings for drawing and saving, on top of its defaults: no matplotlibrc changes a figure."""


@dataclass(frozen=True)
class Look:
    """What stands for one thing in every figure.

    Attributes:
        label: its name in legends.
        color: of the palette.
        marker: shape.
        line: dash pattern.
    """

    label: str
    color: str
    marker: str
    line: Any = "-"


DASHED, DOTTED, DASH_DOT = (0, (4, 2)), (0, (1, 1.5)), (0, (4, 1.2, 1, 1.2))

STYLES: dict[str, tuple[Any, ...]] = {
    "lora": (VERMILLION, "o"),
    "balora": (BLUE, "s"),
    "balora-nearest": (ORANGE, "^", DASHED),
    "balora-symmetric": (GREEN, "v", DOTTED),
    "balora-data": (BLACK, "D", DASH_DOT),
    "balora-fisher": (PURPLE, "X", DASH_DOT),
    "ilora": (BLACK, "d"),
    "pilora": (PURPLE, "p"),
    "scaled-gd": (SKY, "h"),
    "lora-plus": (ORANGE, "P"),
    "rslora": (VERMILLION, "X", DASHED),
    "dora": (PURPLE, "d", DASHED),
    "olora": (SKY, "<", DASHED),
    "pissa": (GREEN, "D", DASH_DOT),
    "lora-ga": (ORANGE, "8", DASH_DOT),
    "balora-ga": (BLUE, "8", DOTTED),
    "reflora": (SKY, "v", DASH_DOT),
    "reflora-scalar": (SKY, "^", DOTTED),
    "lora-rite": (PURPLE, "<", DOTTED),
    "balora-scaled-gd": (BLUE, "H", DASHED),
    "balora-plus": (BLUE, "P", DASH_DOT),
    "ilora-balanced": (BLACK, "X", DASHED),
}
"""Methods of one colour differ in marker and dashes; dashes also let lines that coincide show through one another."""

LOOKS = {name: Look(VOCABULARY[name].label, *style) for name, style in STYLES.items()}
"""The look of every method, under its name in the vocabulary (`lorakappa.shared.methods`)."""

SPARE = (
    (BLACK, "D", (0, (6, 1.5, 1, 1.5))),
    (PURPLE, "P", (0, (5, 1))),
    (SKY, "X", (0, (3, 1, 1, 1, 1, 1))),
    (YELLOW, "<", "-"),
)

OPTIMIZERS = {"gd": "GD", "sign-gd": "sign-GD", "sign": "sign", "adam": "Adam"}


def method_looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each method; those not in `LOOKS` (also "NAME:OPTION=VALUE@K") get the spare ones in order."""
    looks = {}
    spare = 0
    for name in names:
        if name in LOOKS:
            looks[name] = LOOKS[name]
            continue
        looks[name] = Look(_label(name), *SPARE[spare % len(SPARE)])
        spare += 1
    return looks


def _label(name: str) -> str:
    method, at, period = name.partition("@")
    base, _, listed = method.partition(":")
    parts = [LOOKS[base].label if base in LOOKS else base]
    parts += [option.replace("lambda", "λ").replace("=", " = ") for option in listed.split(",") if option]
    return ", ".join([*parts, f"every {period} steps"] if at else parts)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches whose parts make room for each other.

    Raises:
        ValueError: if it would be higher than `TALLEST`.
    """
    if not height <= TALLEST:
        raise ValueError(f"it would be {height:.0f} inches high, more than {TALLEST:g}: there is too much to show")
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)  # type: ignore[union-attr, call-arg]
    return figure


def title(axes: Axes, text: str, letter: str = "") -> None:
    """A title at the left, with the panel's letter; too long a one is broken into lines."""
    axes.set_title(f"({letter}) {text}" if letter else text, loc="left", wrap=True)


def heading(figure: Figure, text: str) -> None:
    """What is true of all panels, over them."""
    figure.suptitle(text, fontsize=8, wrap=True)


def plain_ticks(axis: Axis) -> None:
    """Labels a logarithmic axis 1, 2, 5, 10, … where it spans so little that powers of ten would be too few.

    Call it when everything is drawn; an axis of more than two decades stays as it is.
    """
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    if decades > 2:
        return
    if decades > 0.6:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        axis.set_major_locator(
            FixedLocator([tick for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if tick > 0])
        )
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def log_y(axes: Axes) -> None:
    """Makes the y axis logarithmic, with plain labels, if something that such an axis can show was drawn."""
    if 0 < axes.dataLim.y0 < np.inf:
        axes.set_yscale("log")
        plain_ticks(axes.yaxis)


def number(value: float) -> str:
    """A number for a label: three digits, and powers of ten in mathematics rather than in code."""
    if not np.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "undefined"
    mantissa, e, exponent = f"{value:.3g}".partition("e")
    text = mantissa.replace("-", "−")
    return rf"{text}$\times 10^{{{int(exponent)}}}$" if e else text
