"""Matrices of either arithmetic as NumPy arrays, floats or rationals, so that one function computes with both."""

import flint
import numpy as np

from lorakappa.conditioning.instances.pair import Matrix, Number
from lorakappa.conditioning.verification import exact

Entries = np.ndarray
"""A float64 array, or an array of objects: rationals, where roots are taken real balls."""


def entries(M: Matrix) -> Entries:
    """A float64 array as it is, a rational matrix as an array of its entries."""
    if isinstance(M, np.ndarray):
        return M
    rows = np.empty((M.nrows(), M.ncols()), dtype=object)
    rows.ravel()[:] = M.entries()
    return rows


def inverse(M: Entries) -> Entries:
    """The inverse of an (r, r) array of floats or rationals."""
    if M.dtype != object:
        return np.asarray(np.linalg.inv(M))
    return entries(flint.fmpq_mat(M.tolist()).inv())


def square(M: Entries) -> Number:
    """‖M‖_F²; 0 of an array without entries."""
    return np.sum(M * M)


def root(M: Entries) -> Entries:
    """Square roots entry by entry."""
    if M.dtype != object:
        return np.sqrt(M)
    return np.vectorize(exact.sqrt, otypes=[object])(M)


def rotation(K: Entries) -> Entries:
    """Cayley transform of K − Kᵀ times the signs of K's diagonal, 1 for 0: orthogonal, of either determinant."""
    skew, identity = K - K.T, np.eye(len(K), dtype=int)
    return np.asarray((identity - skew) @ inverse(identity + skew) * np.where(np.diag(K) < 0, -1, 1))
