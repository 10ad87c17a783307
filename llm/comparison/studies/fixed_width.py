"""How many seeds an interval of a given width takes, known after the first few of them.

Stein's two stages (1945, A two-sample test for a linear hypothesis whose power is independent of the variance, Annals
of Mathematical Statistics 16, section 2). Of independent normal values, the first n₀ give the variance s²; then N, the
number of all, may be any function of s², for N ≥ n₀: given s², the mean of all N values is normal with variance σ²/N,
since means and sample variances are independent. So √N(x̄ − μ)/s has Student's distribution with n₀ − 1 degrees of
freedom, and x̄ ± t·s/√N covers μ with exactly the stated probability, however often one has looked at the width. Two
more things are exact, for the same reason (derived here): N may depend on variances of other differences that are
measured with the same seeds, such as those of a budget that several comparisons share; and it may end anywhere, at a
maximum or where a budget ends, with a wider interval. What N must not depend on is a mean.

The price is that later values do not improve s. A rule that looks at the variance of all values so far (Chow and
Robbins 1965) takes fewer of them, but covers less often than it says, since it ends where the variance happens to look
small.
"""

import math

import numpy as np
from numpy.typing import NDArray

from lorakappa.llm.comparison.effects import effect


def seeds_needed(values: NDArray[np.float64], minimum: int, alpha: float, half_width: float) -> int | None:
    """N, the number of values at which the interval is no wider than x̄ ± `half_width`.

    Args:
        values: (n,) of which the first n₀ count.
        minimum: n₀; N is never less.
        alpha: as for `llm.comparison.effects.effect`, which gives the interval, like n₀ there.
        half_width: wanted.

    Returns:
        N; None if there are fewer than n₀ values, or one of these is not finite.
    """
    if len(values) < minimum or not np.isfinite(values[:minimum]).all():
        return None
    found = effect(values[:minimum], alpha=alpha)
    ratio = (found.high - found.low) / 2 / half_width
    return max(minimum, math.ceil(minimum * ratio**2))
