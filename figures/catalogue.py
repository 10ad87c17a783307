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
        shows: what one sees in it.
        drawn_by: the file whose `plot` makes the figure of a saved result, or FILE:FUNCTION.
        data: name of that result.
        package: whose command makes it; empty if the command is no package's.
        command: that command; the default is named after the data.
        arrays: whether the result has arrays; otherwise it is JSON only.
        optional: whether not every such result can be drawn so.
    """

    shows: str
    drawn_by: str
    data: str
    package: str = "synthetic"
    command: str = "{data} --out {folder}"
    arrays: bool = True
    optional: bool = False

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

STUDY = ("study", "llm", "report STUDY --json {folder}/study.json")

FIGURES: dict[str, Kind] = {
    "manifold": Kind("minimizers of a 2×2 problem coloured by κ, and where P sends pairs", "manifold", "manifold"),
    "kappa-histogram": Kind(
        "κ of random minimizers and of LoRA's limit points, balanced value, bounds",
        "kappa_histogram",
        "kappa-histogram",
    ),
    "bound-tightness": Kind("how far each bound is from κ", "bound_tightness", "kappa-histogram"),
    "convergence": Kind(
        "loss curves at each method's best step size, outcome over step size", "convergence", "convergence"
    ),
    "rates": Kind("measured contraction against the bounds", "rates", "rates"),
    "phase": Kind("gain over spectrum decay × init std", "phase", "phase"),
    "settle": Kind("whether the gain is the conditioning: small steps, equal κ, matched lengths", "settle", "settle"),
    "duel": Kind("who wins where: spectrum × shape × start", "duel", "duel"),
    "ratios": Kind("iLoRA's ratio: c·r/m and (r/m)^p", "ratios", "ratios"),
    "gauges": Kind("which gauge for which data: condition numbers of C × D, GD, SGD, Adam", "gauges", "gauges"),
    "audit": Kind(
        "κ bound and balancing gap of every layer, now and balanced",
        "audit",
        "audit",
        "llm",
        "audit ADAPTER --json {folder}/audit.json",
        arrays=False,
    ),
    "curvature": Kind(
        "what balancing changes in a model's curvature, and along the gauge path",
        "curvature",
        "curvature",
        "llm",
        "curvature ADAPTER --out {folder}",
        arrays=False,
    ),
    "learning-curves": Kind("validation loss by step and by second", "learning_curves", *COMPARE),
    "conditioning-curves": Kind(
        "balancing gap and κ bound along training", "learning_curves:plot_conditioning", *COMPARE
    ),
    "loss-by-rank": Kind("test loss and exact match by rank, paired differences", "loss_by_rank", *COMPARE),
    "learning-rate-maps": Kind(
        "validation loss over learning rate and scaling, for more than one scaling",
        "learning_rate_maps",
        *COMPARE,
        optional=True,
    ),
    "robustness": Kind("validation loss over the learning rate, width of the good window", "robustness", *COMPARE),
    "overhead": Kind("peak memory, share of a step in the method's own map", "overhead", *COMPARE),
    "study-effects": Kind(
        "the effects of a study with their intervals, beside 0 and ±δ", "study_effects", *STUDY, arrays=False
    ),
    "study-growth": Kind(
        "a study's gains over rank and horizon", "study_axes:plot_growth", *STUDY, arrays=False, optional=True
    ),
    "study-starts": Kind(
        "a study's losses and gains over the size of the start at a fixed effective learning rate",
        "study_axes:plot_starts",
        *STUDY,
        arrays=False,
        optional=True,
    ),
    "benchmarks": Kind(
        "what is wanted of each benchmark and what was reached, growth of times",
        "benchmarks",
        "benchmarks",
        "",
        "make bench",
        arrays=False,
    ),
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
