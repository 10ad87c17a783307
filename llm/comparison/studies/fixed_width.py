"""How many seeds a comparison takes, known after the first few of them.

Two looks share its error. The first is at the first n₀ values: if Student's interval of these decides already, as where
one method is far better than another, no more are taken. Else there are as many as an interval of a given width takes,
by Stein's two stages (1945, A two-sample test for a linear hypothesis whose power is independent of the variance,
Annals of Mathematical Statistics 16, section 2). Of independent normal values, the first n₀ give the variance s²; then
N, the number of all, may be any function of s², for N ≥ n₀: given s², the mean of all N values is normal with variance
σ²/N, since means and sample variances are independent. So √N(x̄ − μ)/s has Student's distribution with n₀ − 1 degrees
of freedom, and x̄ ± t·s/√N covers μ with exactly the stated probability, also where N ends at a maximum with a wider
interval.

Each of the two intervals misses μ with half of the error, so that one of them misses with at most all of it, whichever
is told in the end and for whatever reason (derived here; Bonferroni's inequality). So it may be the first where a
budget ends before N is reached, and what a budget is spent on may depend on what was seen. What N must not depend on is
a mean.

The price is that later values do not improve s. A rule that looks at the variance of all values so far (Chow and
Robbins 1965) takes fewer of them, but covers less often than it says, since it ends where the variance happens to look
small.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lorakappa.conditioning.verification.measured import decide
from lorakappa.llm.comparison.effects import effect

LOOKS = 2
"""Intervals that share the error of a comparison."""


def seeds_needed(
    values: NDArray[np.float64], minimum: int, alpha: float, half_width: float, *, delta: float
) -> int | None:
    """The number of values that a comparison takes: n₀ if these decide, else N.

    Args:
        values: (n,) of which the first n₀ count.
        minimum: n₀.
        alpha: of one look; as for `llm.comparison.effects.effect`, which gives the interval, like n₀ there.
        half_width: at N values the interval is no wider than x̄ ± `half_width`.
        delta: below which a difference counts as none, as for `decide`.

    Returns:
        The number; None if there are fewer than n₀ values, or one of these is not finite.
    """
    if len(values) < minimum or not np.isfinite(values[:minimum]).all():
        return None
    found = effect(values[:minimum], alpha=alpha)
    if decide((found.low, found.high), margin=delta) != "inconclusive":
        return minimum
    ratio = (found.high - found.low) / 2 / half_width
    return max(minimum, math.ceil(minimum * ratio**2))
