"""The figures by name: which file draws each, from which result, and which command makes that.

Nothing is drawn and nothing loaded here, so that a command line can list them at once.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lorakappa.figures.saved import Saved


@dataclass(frozen=True)
class Kind:
    """A figure that can be drawn.

    Attributes:
        drawn_by: the file whose `plot` makes the figure of a saved result, or FILE:FUNCTION.
        data: name of that result.
        package: whose command makes it; empty if the command is no package's.
        command: that command; the default is named after the data.
        arrays: whether the result has arrays; otherwise it is JSON only.
    """

    drawn_by: str
    data: str
    package: str = "synthetic"
    command: str = "{data} --out {folder}"
    arrays: bool = True

    def plot(self, saved: "Saved") -> "Figure":
        """The figure of a saved result."""
        module, _, function = self.drawn_by.partition(":")
        figure: Figure = getattr(import_module(f"lorakappa.figures.{module}"), function or "plot")(saved)
        return figure

    def made_by(self, folder: Path) -> str:
        """The command that makes its data in a folder."""
        command = self.command.format(data=self.data, folder=folder)
        return f"lorakappa {self.package} {command}" if self.package else command

    def files(self, folder: Path) -> tuple[Path, ...]:
        """The files it is drawn from."""
        return files(self.data, folder, self.arrays)


COMPARE = ("llm-compare", "llm", "compare --out {folder}")

FIGURES: dict[str, Kind] = {
    "manifold": Kind("manifold", "manifold"),
    "kappa-histogram": Kind("kappa_histogram", "kappa-histogram"),
    "bound-tightness": Kind("bound_tightness", "kappa-histogram"),
    "convergence": Kind("convergence", "convergence"),
    "rates": Kind("rates", "rates"),
    "phase": Kind("phase", "phase"),
    "settle": Kind("settle", "settle"),
    "duel": Kind("duel", "duel"),
    "ratios": Kind("ratios", "ratios"),
    "audit": Kind("audit", "audit", "llm", "audit ADAPTER --json {folder}/audit.json", arrays=False),
    "curvature": Kind("curvature", "curvature", "llm", "curvature ADAPTER --out {folder}", arrays=False),
    "learning-curves": Kind("learning_curves", *COMPARE),
    "conditioning-curves": Kind("learning_curves:plot_conditioning", *COMPARE),
    "loss-by-rank": Kind("loss_by_rank", *COMPARE),
    "learning-rate-maps": Kind("learning_rate_maps", *COMPARE),
    "robustness": Kind("robustness", *COMPARE),
    "overhead": Kind("overhead", *COMPARE),
    "benchmarks": Kind("benchmarks", "benchmarks", "", "make bench", arrays=False),
}

FORMATS: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Formats, with the metadata to leave out: identical data gives identical files."""


def files(name: str, folder: Path, arrays: bool = True) -> tuple[Path, ...]:
    """The files of a result: arrays, if it has any, and description."""
    return tuple(folder / f"{name}.{suffix}" for suffix in (("npz", "json") if arrays else ("json",)))
