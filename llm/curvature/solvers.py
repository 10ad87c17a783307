"""Spectra of a symmetric matrix: all eigenvalues of a dense one, or the extreme ones from products, by Lanczos."""

from collections.abc import Callable
from math import inf
from typing import Literal, get_args

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.tolerances import EPS
from lorakappa.llm.curvature.lanczos import extremes
from lorakappa.llm.curvature.results import Spectrum

Solver = Literal["auto", "dense", "lanczos"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)

LEADING = 256
"""Leading eigenvalues kept of a dense matrix."""

PROBES = 8
"""Random vectors of the estimate of a trace: of what of it lies outside the subspace that Lanczos has found."""


def dense_spectrum(H: Array, p: dict[str, int], *, rtol: float, leading: bool) -> Spectrum:
    """The spectrum of a whole matrix.

    Args:
        H: (d, d) symmetric.
        p: numbers of leading eigenvalues for κ_p, by name.
        rtol: size up to which an eigenvalue counts as 0, relative to the largest.
        leading: whether to keep the leading ones.

    Returns:
        The spectrum.
    """
    values = np.asarray(np.linalg.eigvalsh(H)[::-1], dtype=np.float64)
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


def lanczos_spectrum(
    products: Callable[[Array], Array],
    d: int,
    p: dict[str, int],
    *,
    rtol: float,
    accuracy: float,
    noise: float,
    semidefinite: bool,
    leading: bool,
    seed: int,
) -> Spectrum:
    """The extreme eigenvalues of a matrix that is known by its products, and an estimate of its trace.

    The trace within the subspace of Lanczos, whose basis is Q, is known; that of what is left is estimated by
    Hutchinson's probes z as zᵀ(I − QᵀQ)H(I − QᵀQ)z, which do not see the largest eigenvalues and so vary little
    (Hutch++, Meyer, Musco, Musco and Woodruff, SOSA 2021, with that subspace for a random one).

    Args:
        products: (n, d) rows V to the rows HV.
        d: number of rows of H.
        p: numbers of leading eigenvalues for κ_p, by name; the largest decides how many are computed.
        rtol: size up to which an eigenvalue counts as 0, relative to the largest.
        accuracy: relative, of the eigenvalues.
        noise: rounding of the products, relative to the largest eigenvalue.
        semidefinite: whether the smallest eigenvalue is known to be 0.
        leading: whether to keep the leading ones.
        seed: of the start and of the probes.

    Returns:
        The spectrum.

    Raises:
        NoConvergenceError: if Lanczos finds fewer eigenvalues than were asked for.
    """
    found = extremes(
        products, d, max(p.values(), default=1), smallest=not semidefinite, accuracy=accuracy, noise=noise, seed=seed
    )
    values, smallest = found.leading, 0.0 if semidefinite else found.smallest
    probes = np.random.default_rng([seed, 1]).choice([-1.0, 1.0], size=(PROBES, d))
    probes -= (probes @ found.Q.T) @ found.Q
    outside = np.einsum("ij,ij->i", probes, products(probes))
    rounding = d * EPS * float(np.abs(np.diag(found.T)).sum())
    tolerance = float(rtol * max(abs(values[0]), abs(smallest)))
    return Spectrum(
        leading=tuple(values.tolist()) if leading else (),
        lambda_max=float(values[0]),
        lambda_min=smallest,
        trace=float(np.trace(found.T) + outside.mean()),
        trace_error=float(outside.std(ddof=1) / PROBES**0.5) + rounding,
        tolerance=tolerance,
        rank=None,
        negative=None,
        kappa=_kappas(values, p, tolerance),
    )


def expected_products(d: int, p: dict[str, int], points: int) -> int:
    """About how many products the spectra of a GGN and a Hessian take at some points of a path, for a forecast.

    Of the GGN, whose eigenvalues fall fast, about three for each that is wanted; of the Hessian, which has as many at
    the other end, five.
    """
    wanted = max(p.values(), default=1)
    return points * (min(3 * wanted, d) + min(5 * wanted, d) + 2 * PROBES)


def _kappas(values: Array, p: dict[str, int], tolerance: float) -> dict[str, float]:
    """κ_p of descending eigenvalues."""

    def kappa(count: int) -> float:
        smallest = values[count - 1] if 1 <= count <= len(values) else 0.0
        return float(values[0] / smallest) if smallest > tolerance else inf

    return {name: kappa(count) for name, count in p.items()}
