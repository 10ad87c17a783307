"""Spectra of a symmetric matrix: all eigenvalues of a dense one, or the extreme ones from products, by Lanczos."""

from math import inf
from typing import Literal, get_args

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.llm.curvature.results import Spectrum

Solver = Literal["auto", "dense", "lanczos"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)

LEADING = 256
"""Leading eigenvalues kept of a dense matrix."""

PROBES = 8
"""Random vectors of the estimate of a trace: of what of it lies outside the subspace that Lanczos has found."""

ACCURACY = 1e-5
"""Relative, of eigenvalues by Lanczos: what is compared are gauges, which differ by more."""


def dense_spectrum(values: Array, p: dict[str, int], *, rtol: float, leading: bool) -> Spectrum:
    """The spectrum of a whole matrix.

    Args:
        values: (d,) its eigenvalues, descending.
        p: numbers of leading eigenvalues for κ_p, by name.
        rtol: size up to which an eigenvalue counts as 0, relative to the largest.
        leading: whether to keep the leading ones.

    Returns:
        The spectrum.
    """
    tolerance = float(rtol * np.abs(values).max())
    return Spectrum(
        leading=tuple(values[:LEADING].tolist()) if leading else (),
        lambda_max=float(values[0]),
        lambda_min=float(values[-1]),
        trace=float(values.sum()),
        trace_error=0.0,
        tolerance=tolerance,
        rank=int((np.abs(values) > tolerance).sum()),
        negative=int((values < -tolerance).sum()),
        kappa=_kappas(values, p, tolerance),
    )


def extreme_spectrum(
    leading_values: Array,
    smallest: float,
    trace: float,
    trace_error: float,
    p: dict[str, int],
    *,
    rtol: float,
    leading: bool,
) -> Spectrum:
    """The spectrum of a matrix of which the ends are known, and an estimate of the trace.

    Args:
        leading_values: largest ones, descending.
        smallest: smallest one.
        trace: their sum.
        trace_error: its standard error.
        p: numbers of leading eigenvalues for κ_p, by name.
        rtol: size up to which an eigenvalue counts as 0, relative to the largest.
        leading: whether to keep the leading ones.

    Returns:
        The spectrum.
    """
    tolerance = float(rtol * max(abs(leading_values[0]), abs(smallest)))
    return Spectrum(
        leading=tuple(leading_values.tolist()) if leading else (),
        lambda_max=float(leading_values[0]),
        lambda_min=smallest,
        trace=trace,
        trace_error=trace_error,
        tolerance=tolerance,
        rank=None,
        negative=None,
        kappa=_kappas(leading_values, p, tolerance),
    )


def expected_products(d: int, p: dict[str, int], gauges: int, *, semidefinite: bool) -> int:
    """About how many products the spectra of a GGN or Hessian take in some gauges, for a forecast.

    In the first one about three for each eigenvalue that is wanted, and five where there are as many at the other end;
    in each further one, which begins with what is known, about half as many.
    """
    wanted = max(p.values(), default=1) * (3 if semidefinite else 5) + 16
    return min(wanted, d) + PROBES + (gauges - 1) * min(wanted // 2, d)


def _kappas(values: Array, p: dict[str, int], tolerance: float) -> dict[str, float]:
    """κ_p of descending eigenvalues."""

    def kappa(count: int) -> float:
        smallest = values[count - 1] if 1 <= count <= len(values) else 0.0
        return float(values[0] / smallest) if smallest > tolerance else inf

    return {name: kappa(count) for name, count in p.items()}
