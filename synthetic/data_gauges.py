"""Maps into the gauge that the data ask for, instead of balance: by the loss itself, or by what gradients tell of it.

Both equalize two r×r matrices by (A, B) ← (AT, T⁻¹B) (`stacked_balance.equalize_stack`): the partial traces of the
Gauss–Newton matrix, which an oracle takes from the loss (`conditioning.gauge_optimization`), or the second moments of
the gradients that have been seen, damped towards balance (`conditioning.fisher_gauge`, which torch's tensors are left
to).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.fisher_gauge import fisher_balance
from lorakappa.conditioning.projection import Gauge
from lorakappa.synthetic.losses import Loss, Params
from lorakappa.synthetic.stacked_balance import damped_moments, equalize_stack


@dataclass(frozen=True)
class DataBalancing:
    """The gauge of the smallest trace at every step, by an oracle: the loss says what its partial traces are."""

    gauge: Gauge = "symmetric"

    def __call__(self, loss: Loss) -> "DataMap":
        """The map for a loss.

        Raises:
            ValueError: for a loss whose partial traces are not at hand.
        """
        if not hasattr(loss, "traces"):
            raise ValueError("balora-data needs a loss with known curvature: one-layer or weighted")
        return DataMap(loss, self.gauge)


@dataclass(frozen=True)
class DataMap:
    """(A, B) ← (AT, T⁻¹B) with T⁻¹H_A T⁻ᵀ = TᵀH_B T, H_A and H_B from the loss."""

    loss: Any
    gauge: Gauge

    def __call__(self, factors: Params, step_sizes: Any) -> Params:
        """The factors after it."""
        A, B = factors
        H_A, H_B = self.loss.traces(factors)
        if not isinstance(A, np.ndarray):
            return fisher_balance(A, B, H_A, H_B, damping=0.0, gauge=self.gauge)[:2]
        return equalize_stack(A, B, H_A, H_B, gauge=self.gauge)[:2]


@dataclass(frozen=True)
class FisherBalancing:
    """The gauge that running second moments of the gradients ask for (`conditioning.fisher_gauge`).

    Attributes:
        damping: δ > 0, towards balance.
        decay: of the running means, in [0, 1).
        gauge: which of the pairs.
    """

    damping: float
    decay: float
    gauge: Gauge = "symmetric"

    def __call__(self, loss: Loss) -> "FisherMap":
        """The map, without any moments yet."""
        return FisherMap(self)


class FisherMap:
    """A run's map: it sees every gradient, and carries its moments along when it moves a pair.

    Attributes:
        moments: H_A and H_B (…, r, r) of every pair, up to one common factor per pair.
    """

    def __init__(self, settings: FisherBalancing) -> None:
        self.settings = settings
        self.moments: list[tuple[Array, Array]] = []

    def observe(self, gradient: Params) -> None:
        """Takes the gradients of a step into the running means."""
        decay = self.settings.decay
        fresh = [(g_A.mT @ g_A, g_B @ g_B.mT) for g_A, g_B in zip(gradient[::2], gradient[1::2], strict=True)]
        if not self.moments:
            self.moments = fresh
            return
        self.moments = [
            (decay * old_A + (1 - decay) * new_A, decay * old_B + (1 - decay) * new_B)
            for (old_A, old_B), (new_A, new_B) in zip(self.moments, fresh, strict=True)
        ]

    def __call__(self, factors: Params, step_sizes: Any) -> Params:
        """The factors after it."""
        moved: list[Any] = []
        for i, (A, B) in enumerate(zip(factors[::2], factors[1::2], strict=True)):
            (H_A, H_B), damping, gauge = self.moments[i], self.settings.damping, self.settings.gauge
            if isinstance(A, np.ndarray):
                M_A, M_B = damped_moments(A, B, H_A, H_B, damping)
                X, Y, T, T_inverse = equalize_stack(A, B, M_A, M_B, gauge=gauge)
                self.moments[i] = T_inverse @ H_A @ T_inverse.mT, T.mT @ H_B @ T
            else:
                X, Y, *carried = fisher_balance(A, B, H_A, H_B, damping=damping, gauge=gauge)
                self.moments[i] = carried[0], carried[1]
            moved += (X, Y)
        return tuple(moved)
