"""The gauge path (AT^t, T^{-t}B) of a pair, trained at t = 0 and balanced at t = 1, and derivatives along it.

f(A', B') = f(φ(A', B')) with φ(A', B') = (A'T⁻¹, TB'), which is linear for a fixed T. So at (AT, T⁻¹B) the gradient is
φᵀg, the GGN φᵀGφ and the Hessian φᵀHφ: congruences, at stationary points and everywhere else.
"""

from dataclasses import dataclass

import numpy as np
import torch

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.projection import balance
from lorakappa.llm.adapters.moments import gauge_between


@dataclass(frozen=True)
class Gauge:
    """The linear map φ(A', B') = (A'T⁻¹, TB') from the factors (AT, T⁻¹B) to (A, B), on rows x = (vec A, vec B).

    Attributes:
        T: (r, r).
        T_inv: (r, r) its inverse.
        a: rows of A.
    """

    T: Array
    T_inv: Array
    a: int

    def forward(self, X: Array) -> Array:
        """φ of the rows of X (n, d)."""
        return self._mapped(X, self.T_inv, self.T)

    def adjoint(self, X: Array) -> Array:
        """φᵀ of the rows of X (n, d): what a gradient becomes."""
        return self._mapped(X, self.T_inv.T, self.T.T)

    def inverse(self, X: Array) -> Array:
        """φ⁻¹ of the rows of X (n, d): what a pair becomes."""
        return self._mapped(X, self.T, self.T_inv)

    def congruence(self, H: Array) -> Array:
        """φᵀHφ: what a (d, d) Hessian becomes."""
        return self.adjoint(self.adjoint(H).T)

    def _mapped(self, X: Array, on_A: Array, on_B: Array) -> Array:
        n, r = len(X), len(self.T)
        A, B = np.split(X, [self.a * r], axis=1)
        A, B = A.reshape(n, self.a, r) @ on_A, on_B @ B.reshape(n, r, -1)
        return np.hstack([A.reshape(n, -1), B.reshape(n, -1)])


@dataclass(frozen=True)
class GaugePath:
    """The gauges T^t of one pair, t any real number.

    Attributes:
        roots: (r,) eigenvalues of T.
        Q: (r, r) its eigenvectors, in columns.
        a: rows of A.
    """

    roots: Array
    Q: Array
    a: int

    @classmethod
    def through(cls, A: Array, B: Array) -> "GaugePath":
        """The path of a pair (a, r), (r, b) of rank r through its balanced equivalent of the symmetric gauge."""
        return cls(*np.linalg.eigh(symmetric_gauge(A, B)), len(A))

    def at(self, t: float) -> Gauge:
        """T^t."""
        return Gauge((self.Q * self.roots**t) @ self.Q.T, (self.Q * self.roots**-t) @ self.Q.T, self.a)


def symmetric_gauge(A: Array, B: Array) -> Array:
    """The symmetric positive definite T with (AT)ᵀ(AT) = (T⁻¹B)(T⁻¹B)ᵀ, T² = (AᵀA)⁻¹ # (BBᵀ).

    Args:
        A: (a, r) factor of rank r.
        B: (r, b) factor of rank r.

    Returns:
        (r, r) float64 matrix.
    """
    pair = torch.from_numpy(A)[None], torch.from_numpy(B)[None]
    T = gauge_between(*pair, *balance(*pair, gauge="symmetric"))[0][0].numpy()
    return (T + T.T) / 2
