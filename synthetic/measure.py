"""Measured asymptotic rates: what a curve of f − f* says about its one-step contraction, and how surely.

A rate is a statement about the limit, a run has an end. So every measurement compares two horizons, says why
it stopped, and knows the condition number at the limit point rather than at the start.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lorakappa.conditioning.checks import Array, as_problem
from lorakappa.conditioning.factors import check_target
from lorakappa.conditioning.hessians import hessian
from lorakappa.conditioning.tolerances import EPS
from lorakappa.shared.forecast import FLOPS, announce, check_duration
from lorakappa.shared.memory import check_memory

Stop = Literal["floor", "horizon", "diverged"]

FLOAT_NOISE = 1e-5
"""Relative rounding error of ‖E‖ = ‖AB − Z_r‖ up to which plain float64 coordinates are trusted."""

MIN_WINDOW = 8
"""Fewest one-step ratios in a window from which a rate is read."""


@dataclass(frozen=True)
class RateMeasurement:
    """The measured one-step contraction of f − f* on one trajectory.

    Attributes:
        limsup: largest one-step ratio in the tail window.
        mean: geometric mean of the ratios there.
        half_mean: geometric mean in the tail window of the first half of the usable steps.
        window: first and last step of the tail window, the last quarter of the usable steps.
        horizon: last usable step: before the floor, the end of the run or divergence.
        steps: steps simulated.
        limit_distance: bound (2(f − f*)/μ)^{1/2} on the distance to the set of minimizers at the horizon.
        kappa: κ at the limit point.
        stopped: "floor" (f − f* reached the accuracy floor), "horizon" (the run ended) or "diverged".
        agreement: the relative difference of log rates up to which the two horizons agree.
        rounding: relative accuracy of f − f* at the horizon.
    """

    limsup: float
    mean: float
    half_mean: float
    window: tuple[int, int]
    horizon: int
    steps: int
    limit_distance: float
    kappa: float
    stopped: Stop
    agreement: float
    rounding: float

    @property
    def error(self) -> float:
        """Relative difference of log mean and log half_mean: how far the horizon still matters."""
        if not 0 < self.mean < 1 or not 0 < self.half_mean < 1:
            return float("inf")
        return float(abs(np.log(self.half_mean) / np.log(self.mean) - 1))

    @property
    def scatter(self) -> float:
        """Relative difference of log limsup and log mean: what modes and rounding do inside the window."""
        if not 0 < self.mean < 1 or not 0 < self.limsup < 1:
            return float("inf")
        return float(abs(np.log(self.limsup) / np.log(self.mean) - 1))

    @property
    def uncertainty(self) -> float:
        """The stated relative error of log limsup: horizon, window and rounding together."""
        return float(self.error + self.scatter + 2 * self.rounding / abs(np.log(self.mean)))

    @property
    def conclusive(self) -> bool:
        """Whether both horizons agree on a rate below 1; otherwise the verdict is "inconclusive"."""
        return self.stopped != "diverged" and self.error <= self.agreement

    def log_ratio(self, bound: float) -> float:
        """log(limsup)/log(bound): 1 if the bound is attained, > 1 if the iteration is faster."""
        return float(np.log(self.limsup) / np.log(bound))


def measure_rate(
    curve: ArrayLike,
    *,
    kappa: float,
    mu: float,
    decades: float,
    rounding: float = 0.0,
    agreement: float = 0.02,
) -> RateMeasurement:
    """Measures the asymptotic one-step ratio of a curve of f − f*.

    Steps count as usable until f − f* first falls to 10^−decades of its start, where rounding would begin to
    show, or is no longer positive. Of the usable steps the last quarter is the tail window. Where modes with
    different contractions are still mixed, halving the horizon changes the mean: that difference is the
    stated `error` (a mode c times faster than the slowest costs at most about 1/(e·n) of the log rate after
    the curve fell by n nats, and twice that after n/2).

    Args:
        curve: (T + 1,) values of f − f*; inf after divergence.
        kappa: κ at the limit point.
        mu: smallest non-zero Hessian eigenvalue there.
        decades: how far below its start the curve is accurate.
        rounding: relative accuracy of f − f* at the end of these decades.
        agreement: relative difference of the log rates of the two horizons that counts as agreement.

    Returns:
        The measurement; check `conclusive`.

    Raises:
        ValueError: if the curve is not a vector that starts positive and finite.
    """
    f = np.asarray(curve, dtype=np.float64)
    if f.ndim != 1 or f.size == 0 or not 0 < f[0] < np.inf:
        raise ValueError("a curve must be a vector of f − f* that starts positive and finite")
    unusable = np.flatnonzero(~((f > f[0] * 10.0**-decades) & np.isfinite(f)))
    horizon = int(unusable[0]) - 1 if unusable.size else len(f) - 1
    stopped: Stop = "horizon"
    if unusable.size:
        stopped = "floor" if np.isfinite(f[unusable[0]]) else "diverged"
    full, half = _tail_ratios(f, horizon), _tail_ratios(f, horizon // 2)
    return RateMeasurement(
        limsup=float(full.max(initial=0.0)) or float("nan"),
        mean=_geometric_mean(full),
        half_mean=_geometric_mean(half),
        window=(horizon - len(full), horizon),
        horizon=horizon,
        steps=len(f) - 1,
        limit_distance=float(np.sqrt(2 * f[horizon] / mu)),
        kappa=kappa,
        stopped=stopped,
        agreement=agreement,
        rounding=rounding,
    )


def _tail_ratios(f: Array, horizon: int) -> Array:
    """One-step ratios over the last quarter of steps 0..horizon; empty if there are too few."""
    first = horizon - max(horizon // 4, MIN_WINDOW)
    return f[first + 1 : horizon + 1] / f[first:horizon] if first >= 0 else np.empty(0)


def _geometric_mean(ratios: Array) -> float:
    return float(np.exp(np.log(ratios).mean())) if ratios.size else float("nan")


def check_hessian(shape: tuple[int, int], r: int, *, count: int = 1, quiet: bool = True) -> None:
    """Refuses Hessians that cannot be computed, and says how long others take.

    Args:
        shape: (a, b) of AB.
        r: rank; the Hessian is d×d, d = r(a + b).
        count: how many of them, one at a time.
        quiet: never say so.

    Raises:
        ValueError: if one does not fit into memory, or all of them take longer than a year.
    """
    d = r * sum(shape)
    what = f"{count} Hessian{'s' if count > 1 else ''} of {d}×{d}"
    check_memory(4 * 8 * d * d, f"a Hessian of {d}×{d}", "choose a smaller shape or rank")
    seconds = count * 10 * d**3 / FLOPS
    check_duration(seconds, what, "choose a smaller shape or rank")
    announce(seconds, what, quiet=quiet)


def perturbation(
    A: ArrayLike, B: ArrayLike, Z: ArrayLike, rng: np.random.Generator, *, size: float
) -> tuple[Array, Array]:
    """A random displacement from a minimizer with the same expected f − f* in every curved direction.

    (dA, dB) = c·H^{+1/2}g with Gaussian g: no component along the flat GL(r) orbit, so that gradient descent
    ends at the minimizer itself up to O(size²), and no eigen-direction whose contribution is negligible.

    Args:
        A: (a, r) factor of a minimizer.
        B: (r, b) factor.
        Z: (a, b) target.
        rng: source of randomness.
        size: norm of the displacement relative to that of (A, B).

    Returns:
        dA (a, r) and dB (r, b).

    Raises:
        DegenerateTargetError: if rank Z < r or s_r = s_{r+1}.
        ValueError: on mismatched shapes or non-finite entries.
    """
    left, right, target = as_problem(A, B, Z)
    r = left.shape[1]
    check_target(np.asarray(np.linalg.svd(target, compute_uv=False), dtype=np.float64), r)
    eigenvalues, Q = np.linalg.eigh(hessian(left, right, target))
    curved = Q[:, r * r :]
    g = curved @ (rng.standard_normal(curved.shape[1]) / np.sqrt(eigenvalues[r * r :]))
    g *= size * np.hypot(np.linalg.norm(left), np.linalg.norm(right)) / np.linalg.norm(g)
    return g[: left.size].reshape(left.shape), g[left.size :].reshape(right.shape)


def float_floor_decades(start_excess: float, s_1: float, *, noise: float = FLOAT_NOISE) -> float:
    """Decades over which f − f* of plain (not error) coordinates keeps a relative accuracy `noise`.

    AB is rounded to about ε·s₁ per singular value, so E = AB − Z_r has relative noise ε·s₁/‖E‖ and the floor
    of ½‖E‖² is ½(ε·s₁/noise)².

    Args:
        start_excess: f − f* at the start of the curve.
        s_1: largest singular value of the target.
        noise: accepted relative error of ‖E‖.

    Returns:
        The number of decades, at least 0.
    """
    return float(max(0.0, np.log10(start_excess) - np.log10((EPS * s_1 / noise) ** 2 / 2)))
