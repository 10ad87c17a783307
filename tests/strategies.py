"""Hypothesis strategies shared by all packages: pairs with prescribed singular values, gaps and gauges."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """A minimizer of ½‖Z − AB‖² with everything that was prescribed about it."""

    A: Array
    B: Array
    Z: Array
    s: Array
    G: Array
    r: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.Z.shape[0], self.Z.shape[1]

    @property
    def k(self) -> int:
        return min(self.shape)

    @property
    def condition(self) -> float:
        """What multiplies rounding: gauge conditioning squared over the relative gap."""
        gap = self.s[self.r - 1] - (self.s[self.r] if self.r < self.k else 0.0)
        return float(np.linalg.cond(self.G) ** 2 * self.s[0] / gap)


def orthogonal(n: int, rng: np.random.Generator) -> Array:
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


@st.composite
def shapes(draw: st.DrawFn, largest: int = 6, interior: bool = False) -> tuple[int, int, int]:
    """(a, b, r) with r ≤ min(a, b), or r < min(a, b) if `interior`; edges included."""
    low = 2 if interior else 1
    a, b = draw(st.integers(low, largest)), draw(st.integers(low, largest))
    return a, b, draw(st.integers(1, min(a, b) - interior))


@st.composite
def minimizers(
    draw: st.DrawFn,
    largest: int = 6,
    interior: bool = False,
    max_gauge_decades: float = 1.0,
    min_gap: float = 1e-3,
    balanced: bool = False,
) -> Problem:
    """Minimizers with prescribed spectrum, relative gap s_r − s_{r+1} and gauge conditioning.

    Args:
        draw: hypothesis.
        largest: largest a and b.
        interior: only r < min(a, b).
        max_gauge_decades: log₁₀ of the largest singular value of G and of G⁻¹.
        min_gap: smallest (s_r − s_{r+1})/s_r.
        balanced: G orthogonal.
    """
    a, b, r = draw(shapes(largest, interior))
    k = min(a, b)
    decades = [draw(st.floats(0, 1.5)) for _ in range(r)]
    leading = 10.0 ** (draw(st.floats(-1, 1)) - np.sort(np.cumsum([0.0, *decades[1:]])))
    gap = draw(st.sampled_from([1.0, 0.5, 0.1, min_gap]))
    tail = leading[-1] * (1 - gap) * np.sort([1.0, *(draw(st.floats(0, 1)) for _ in range(k))])[::-1]
    s = np.concatenate([leading, tail[: k - r]])
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sigma = 10.0 ** np.array([draw(st.floats(-max_gauge_decades, max_gauge_decades)) for _ in range(r)])
    G = orthogonal(r, rng) if balanced else orthogonal(r, rng) * sigma @ orthogonal(r, rng)
    U, V = orthogonal(a, rng), orthogonal(b, rng)
    root = np.sqrt(s[:r])
    A = U[:, :r] * root @ G
    B = np.linalg.solve(G, root[:, None] * V[:, :r].T)
    return Problem(A, B, U[:, :k] * s @ V[:, :k].T, s, G, r)


@st.composite
def pairs(draw: st.DrawFn, largest: int = 6, decades: float = 8.0, vanishing: bool = True) -> tuple[Array, Array]:
    """Pairs U diag(α) G, G⁻¹ diag(β) Vᵀ: their products have singular values α_i β_i, zeros included."""
    a, b, r = draw(shapes(largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    exponents = st.floats(-decades, 0)
    zero = st.sampled_from([0.0, 1.0, 1.0, 1.0]) if vanishing else st.just(1.0)
    alpha = np.array([draw(zero) * 10.0 ** draw(exponents) for _ in range(r)])
    beta = np.array([draw(zero) * 10.0 ** draw(exponents) for _ in range(r)])
    G = orthogonal(r, rng) * 10.0 ** rng.uniform(-1, 1, r) @ orthogonal(r, rng)
    A = orthogonal(a, rng)[:, :r] * alpha @ G
    B = np.linalg.solve(G, beta[:, None] * orthogonal(b, rng)[:r])
    return A, B
