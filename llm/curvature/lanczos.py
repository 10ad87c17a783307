"""Extreme eigenvalues of a symmetric matrix known by its products, with as few products as possible.

A product runs through a network, so products are what counts, not the algebra between them. Block Lanczos keeps its
whole basis orthogonal, finds both ends at once, and restarts only where memory ends. ARPACK, which restarts at 2k + 1
vectors and runs again for the other end, takes as many products where eigenvalues fall fast and a quarter more for
a spectrum with two ends; here several go through the network together. The criterion estimates errors of eigenvalues
by the square of residuals. With Ritz values θ₁ ≥ θ₂ ≥ … and residual norms ρᵢ, for every j ≥ i

    |λᵢ − θᵢ| ≤ (ρ₁² + … + ρⱼ²) / (θᵢ − θⱼ₊₁),

since in the basis of Ritz vectors the matrix is [[diag θ₁..θⱼ, Eᵀ], [E, C]] with ‖E‖² ≤ Σρ², and neglecting E moves an
eigenvalue by at most ‖E‖² over its gap to the spectrum of C (C.-K. Li and R.-C. Li, Linear Algebra Appl. 395, 2005;
R. Mathias, SIAM J. Matrix Anal. 19, 1998), for which the next Ritz value stands, as in every such estimate. Within the
first j the eigenvalues may lie as close as they like. Some eigenvalue is always within ρᵢ of θᵢ. Of an eigenvalue that
is exactly `BLOCK` + 1 fold, or more, copies may be missed, as by any Krylov method without shifts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.tolerances import EPS

BLOCK = 4
"""Vectors multiplied at once: more of them make a product cheaper, and need more products."""

MEMORY_BYTES = 2**31
"""That the basis may take before Lanczos restarts."""

SPARE = 8
"""Ritz vectors kept at a restart beyond those wanted, as a share of one in so many of them, and at least so many."""

RESTARTS = 100
"""After so many, Lanczos gives up."""


class NoConvergenceError(ValueError):
    """Lanczos found fewer eigenvalues than were asked for."""


@dataclass(frozen=True)
class Extremes:
    """Eigenvalues at the ends of a spectrum, and the subspace that they were found in.

    Attributes:
        leading: (k,) largest ones, descending.
        smallest: the smallest one; an upper bound of it where it was not asked for.
        Q: (m, d) orthonormal basis of the subspace, in rows.
        T: (m, m) the matrix in that basis, QHQᵀ.
    """

    leading: Array
    smallest: float
    Q: Array
    T: Array


def extremes(
    products: Callable[[Array], Array],
    d: int,
    count: int,
    *,
    smallest: bool,
    accuracy: float,
    noise: float,
    seed: int,
    memory: int = MEMORY_BYTES,
    start: Array | None = None,
) -> Extremes:
    """The largest eigenvalues of a symmetric matrix, and its smallest one if wanted.

    Args:
        products: (n, d) rows V to the rows HV, float64.
        d: number of rows of H.
        count: k, number of largest eigenvalues, at most d.
        smallest: whether the smallest one must be accurate, too: against the largest in size, since what is asked of
            it is how far below 0 it lies.
        accuracy: relative, of each of the largest.
        noise: rounding of the products, relative to the largest eigenvalue in size: no eigenvalue is asked for beyond
            a few times this.
        seed: of the start.
        memory: bytes that the basis may take.
        start: (BLOCK, d) rows to begin with; random ones by default.

    Returns:
        The eigenvalues.

    Raises:
        NoConvergenceError: if they are not found after `RESTARTS` restarts.
    """
    rng = np.random.default_rng(seed)
    kept = count + max(SPARE, count // SPARE)
    limit = min(d, max(memory // (8 * d), 2 * kept + 2 * BLOCK))
    Q, T = np.empty((0, d)), np.empty((0, 0))
    V = _orthonormal(rng.standard_normal((BLOCK, d)) if start is None else start, Q, rng, 0.0)
    restarts = 0
    while True:
        HV = products(V)
        m = len(Q)
        Q = np.concatenate([Q, V])
        C = HV @ Q.T
        T = np.block([[T, C[:, :m].T], [C[:, :m], (C[:, m:] + C[:, m:].T) / 2]])
        rest = HV - C @ Q
        rest -= (rest @ Q.T) @ Q
        values, vectors = np.linalg.eigh(T)
        values, vectors = values[::-1], vectors[:, ::-1]
        residuals = np.linalg.norm(rest.T @ vectors[m:], axis=0)
        allowed = 8 * noise * float(np.abs(values).max())
        found = len(Q) == d
        if not found and len(values) > count:
            errors = estimated_errors(values, residuals, count)
            found = bool((errors <= np.maximum(accuracy * np.abs(values[:count]), allowed)).all())
            if found and smallest:
                error = estimated_errors(-values[::-1], residuals[::-1], 1)[0]
                found = bool(error <= max(accuracy * np.abs(values).max(), allowed))
        if found:
            return Extremes(values[:count], float(values[-1]), Q, T)
        if len(Q) + BLOCK > limit and limit < d:
            restarts += 1
            if restarts > RESTARTS:
                wrong = int((errors > np.maximum(accuracy * np.abs(values[:count]), allowed)).sum())
                raise NoConvergenceError(
                    f'Lanczos found {count - wrong} of {count} eigenvalues; use solver="dense" (d = {d})'
                )
            chosen = np.r_[:kept, len(values) - BLOCK : len(values)] if smallest else np.arange(kept)
            Q, T = vectors[:, chosen].T @ Q, np.diag(values[chosen])
        V = _orthonormal(rest, Q, rng, d * EPS * float(np.abs(values).max()))


def estimated_errors(values: Array, residuals: Array, count: int) -> Array:
    """Errors of the largest Ritz values, estimated as above.

    Args:
        values: (m,) Ritz values, descending.
        residuals: (m,) norms of the residuals of their vectors.
        count: of how many they are wanted, at most m.

    Returns:
        (count,) errors.
    """
    squares = np.cumsum(residuals**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        quadratic = squares[None, :-1] / (values[:count, None] - values[None, 1:])
    later = np.arange(len(values) - 1)[None, :] >= np.arange(count)[:, None]
    quadratic = np.where(later & np.isfinite(quadratic), quadratic, np.inf)
    estimated: Array = np.minimum(residuals[:count], quadratic.min(axis=1, initial=np.inf))
    return estimated


def _orthonormal(block: Array, Q: Array, rng: np.random.Generator, tiny: float) -> Array:
    """An orthonormal basis of the rows of a block, orthogonal to Q; random directions where it has none left.

    Those begin anew in an invariant subspace: what was found is exact, and what it lacks is in its complement.
    """
    d = block.shape[1]
    rows = np.empty((0, d))
    for k in range(min(len(block), d - len(Q))):
        row: Array = block[k]
        v = _without(row, Q, rows)
        if np.linalg.norm(v) <= tiny:
            v = _without(rng.standard_normal((d,)), Q, rows)
        v = _without(v / np.linalg.norm(v), Q, rows)
        rows = np.concatenate([rows, v[None] / np.linalg.norm(v)])
    return rows


def _without(v: Array, Q: Array, rows: Array) -> Array:
    """A vector without its components in two orthonormal bases."""
    v = v - (Q @ v) @ Q
    return v - (rows @ v) @ rows
