"""What balancing does over all layers of a report, in a few numbers: on how many it lowers what, and how far it is off.

A layer counts as lower if its value falls by more than twice the accuracy of Lanczos, and higher in the same way. That
is also above what rounding factors to float32 does to them: an adapter that was balanced in training is neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from statistics import median

from lorakappa.llm.curvature.results import CurvatureReport, GaugePoint, LayerCurvature
from lorakappa.llm.curvature.solvers import ACCURACY

SAME = 2 * ACCURACY
"""Relative difference up to which two values count as the same."""

Measure = Callable[[GaugePoint], float | None]


def _leading_kappa(name: str) -> Measure:
    return lambda point: point.ggn.kappa.get(name)


MEASURES: dict[str, Measure] = {
    "smoothness": lambda point: point.smoothness,
    "kappa_bound": lambda point: point.kappa_bound,
    "lambda_max": lambda point: point.ggn.lambda_max,
    "trace": lambda point: point.ggn.trace,
    "kappa_r": _leading_kappa("r"),
    "kappa_2r": _leading_kappa("2r"),
    "hessian_lambda_max": lambda point: point.hessian.lambda_max if point.hessian else None,
}
"""Names of what is compared: the gauge's part of the paper's two bounds, then the GGN and the Hessian themselves."""


@dataclass(frozen=True)
class Balancing:
    """What balancing does to one measure.

    Attributes:
        lower: number of layers where the balanced pair has less than the trained one.
        higher: number of those where it has more.
        layers: number of those where both are known and finite.
        smallest: smallest ratio balanced over trained.
        median: median of these ratios.
        largest: largest of them.
    """

    lower: int
    higher: int
    layers: int
    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class Excess:
    """How far a gauge is above the least that any gauge can have, as a ratio over layers.

    Attributes:
        median: of the ratios.
        largest: of them.
        layers: number of layers.
    """

    median: float
    largest: float
    layers: int


def balancing(report: CurvatureReport) -> dict[str, Balancing]:
    """What balancing does to each of `MEASURES`; without those that are known of no layer."""
    found = {}
    for name, measure in MEASURES.items():
        ratios = [ratio for layer in report.layers if (ratio := _ratio(layer, measure)) is not None]
        if ratios:
            found[name] = Balancing(
                lower=sum(ratio < 1 - SAME for ratio in ratios),
                higher=sum(ratio > 1 + SAME for ratio in ratios),
                layers=len(ratios),
                smallest=min(ratios),
                median=median(ratios),
                largest=max(ratios),
            )
    return found


def excesses(report: CurvatureReport) -> dict[str, dict[str, Excess]]:
    """For each gauge, λ_max over its bound for every gauge, and the trace over the smallest one."""
    layers = [layer for layer in report.layers if layer.lambda_max_bound > 0 and "trace" in layer.gauges]
    found: dict[str, dict[str, Excess]] = {}
    if layers:
        for gauge in layers[0].all_gauges:
            points = [layer.all_gauges[gauge].ggn for layer in layers]
            over_bound = [G.lambda_max / layer.lambda_max_bound for G, layer in zip(points, layers, strict=True)]
            over_least = [G.trace / layer.gauges["trace"].ggn.trace for G, layer in zip(points, layers, strict=True)]
            found[gauge] = {"lambda_max": _excess(over_bound), "trace": _excess(over_least)}
    return found


def _excess(ratios: list[float]) -> Excess:
    return Excess(median(ratios), max(ratios), len(ratios))


def _ratio(layer: LayerCurvature, measure: Measure) -> float | None:
    before, after = measure(layer.trained), measure(layer.balanced)
    if before is None or after is None or not (isfinite(before) and isfinite(after) and before > 0):
        return None
    return after / before
