"""Spectra of a symmetric matrix: all eigenvalues of a dense one, or the extreme ones from products, by Lanczos."""

from collections.abc import Callable
from math import inf
from typing import Literal, get_args

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from lorakappa.conditioning.checks import Array
from lorakappa.llm.curvature.results import Spectrum

Solver = Literal["auto", "dense", "lanczos"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)

LEADING = 256
"""Leading eigenvalues kept of a dense matrix."""

PROBES = 32
"""Random vectors of Hutchinson's estimate of a trace."""


class NoConvergenceError(ValueError):
    """Lanczos found fewer eigenvalues than were asked for."""


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
    semidefinite: bool,
    leading: bool,
    seed: int,
) -> Spectrum:
    """The extreme eigenvalues of a matrix that is known by its products, and an estimate of its trace.

    Args:
        products: (n, d) rows V to the rows HV.
        d: number of rows of H.
        p: numbers of leading eigenvalues for κ_p, by name; the largest decides how many are computed.
        rtol: size up to which an eigenvalue counts as 0, relative to the largest.
        accuracy: relative, of the eigenvalues.
        semidefinite: whether the smallest eigenvalue is known to be 0.
        leading: whether to keep the leading ones.
        seed: of the start and of the probes.

    Returns:
        The spectrum.

    Raises:
        NoConvergenceError: if Lanczos finds fewer eigenvalues than were asked for.
    """
    rng = np.random.default_rng(seed)
    operator = LinearOperator((d, d), matvec=lambda v: products(v.reshape(1, -1))[0], dtype=np.float64)
    probes = rng.choice([-1.0, 1.0], size=(PROBES, d))
    quadratic = np.einsum("ij,ij->i", probes, products(probes))
    start = rng.standard_normal(d)
    values = _extremes(operator, max(p.values(), default=1), "LA", start, accuracy)[::-1]
    smallest = 0.0 if semidefinite else float(_extremes(operator, 1, "SA", start, accuracy)[0])
    tolerance = float(rtol * max(abs(values[0]), abs(smallest)))
    return Spectrum(
        leading=tuple(values.tolist()) if leading else (),
        lambda_max=float(values[0]),
        lambda_min=smallest,
        trace=float(quadratic.mean()),
        trace_error=float(quadratic.std(ddof=1) / PROBES**0.5),
        tolerance=tolerance,
        rank=None,
        negative=None,
        kappa=_kappas(values, p, tolerance),
    )


def _extremes(operator: LinearOperator, k: int, which: str, start: Array, accuracy: float) -> Array:
    """The k eigenvalues at one end, ascending."""
    try:
        return np.sort(eigsh(operator, k=k, which=which, v0=start, tol=accuracy, return_eigenvectors=False))
    except ArpackNoConvergence as error:
        raise NoConvergenceError(
            f'Lanczos found {len(error.eigenvalues)} of {k} eigenvalues; use solver="dense" (d = {operator.shape[0]})'
        ) from None


def _kappas(values: Array, p: dict[str, int], tolerance: float) -> dict[str, float]:
    """κ_p of descending eigenvalues."""

    def kappa(count: int) -> float:
        smallest = values[count - 1] if 1 <= count <= len(values) else 0.0
        return float(values[0] / smallest) if smallest > tolerance else inf

    return {name: kappa(count) for name, count in p.items()}
