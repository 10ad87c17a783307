"""The gauges that a layer is measured in beside its path: iLoRA's, and the best ones for its own GGN.

Balance is the best gauge of ½‖Z − AB‖². A loss that weighs directions has others (`conditioning.gauge_optimization`):
one in closed form with the smallest trace, and one with the smallest λ_max, which a convex search finds together with a
bound for every gauge. The search needs the GGN's leading part only (derived here): with FFᵀ ⪯ G its certificate bounds
G's λ_max in every gauge as well, and what G's λ_max is in the gauge that is best for FFᵀ says how good that one is. If
it is too far above the bound, F gets more columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lorakappa.conditioning import NoOptimalGaugeError, optimal_gauge_from_factor, optimal_gauge_from_traces
from lorakappa.conditioning.checks import Array
from lorakappa.llm.curvature.gauges import Gauge
from lorakappa.llm.curvature.matrices import DenseMatrix, ImplicitMatrix

CLOSE = 1e-3
"""Relative gap between λ_max and its lower bound at which no more columns are tried."""

COLUMNS = 32
"""Of the first F; each further one has twice as many."""

ROUNDS = 6
"""Most F that are tried."""


@dataclass(frozen=True)
class BestGauges:
    """The best gauges of a GGN.

    Attributes:
        smallest_trace: the gauge with the smallest trace.
        smallest_lambda_max: the best one found for λ_max.
        lower_bound: no gauge has a smaller λ_max.
    """

    smallest_trace: Gauge
    smallest_lambda_max: Gauge
    lower_bound: float


def ilora_gauge(balanced: Gauge, r: int) -> Gauge:
    """The gauge with BBᵀ = (r/a)AᵀA, iLoRA's ratio, from the balanced one: a multiple of it, with T·(a/r)^{1/4}.

    With AᵀA = BBᵀ = S at balance, (cA)ᵀ(cA) = c²S and c⁻²BBᵀ = c⁻²S, so that c⁻² = (r/a)c².

    Args:
        balanced: of the pair, with its number a of rows.
        r: number of columns of A.
    """
    scale = (balanced.a / r) ** 0.25
    return Gauge(balanced.T * scale, balanced.T_inv / scale, balanced.a)


def best_gauges(ggn: DenseMatrix | ImplicitMatrix, largest: Callable[[Gauge], float]) -> BestGauges | None:
    """The best gauges for a GGN.

    Args:
        ggn: in the given coordinates; where products are all that is known, some were made.
        largest: λ_max in a gauge.

    Returns:
        The gauges and the bound; None where no gauge is best, because some direction costs nothing in A or in B.
    """
    a = ggn.shape[0]
    try:
        of_trace = _gauge(optimal_gauge_from_traces(*ggn.traces()).T, a)
        best, value, bound = of_trace, largest(of_trace), 0.0
        for n in range(ROUNDS):
            F = ggn.factor(of_trace, COLUMNS * 2**n)
            found = optimal_gauge_from_factor(F, ggn.shape, criterion="lambda_max", gap=CLOSE / 4)
            if found.certificate is not None:
                bound = max(bound, ggn.bound(F, found.certificate))
            there = _gauge(found.T, a)
            if (size := largest(there)) < value:
                best, value = there, size
            if bound >= (1 - CLOSE) * value:
                break
    except NoOptimalGaugeError:
        return None
    return BestGauges(of_trace, best, bound)


def _gauge(T: Array, a: int) -> Gauge:
    return Gauge(T, np.asarray(np.linalg.inv(T)), a)
