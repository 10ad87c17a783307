"""How instances are drawn: spectra with prescribed gaps, gauges from orthogonal to wild."""

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.verification import Shape


def draw_spectrum(shape: Shape, rng: np.random.Generator) -> tuple[Array, Array]:
    """Square roots q of the leading singular values, and the tail s_{r+1..k} with a prescribed gap.

    The leading values spread over up to three decades or coincide, the gap (s_r − s_{r+1})/s_r is 1 (rank
    Z = r) or log-uniform in [1e-4, 1].
    """
    spread = rng.choice([0.0, 0.3, 1.0, 3.0])
    q = np.sort(10.0 ** rng.uniform(-spread / 2, 0, shape.r))[::-1] * 10.0 ** rng.uniform(-1, 1)
    gap = 1.0 if rng.random() < 0.2 else 10.0 ** rng.uniform(-4, 0)
    tail = q[-1] ** 2 * (1 - gap) * np.sort(rng.uniform(0, 1, shape.k - shape.r))[::-1]
    if len(tail):
        tail[0] = q[-1] ** 2 * (1 - gap)
    return q, tail


def draw_gauge(r: int, rng: np.random.Generator) -> Array:
    """An invertible r×r matrix: orthogonal, scalar, confined to a few directions, or general.

    Singular values are log-uniform over up to four decades, so that cond(G) ≤ 1e4.
    """
    width = rng.choice([0.1, 0.5, 1.0, 2.0])
    sigma = 10.0 ** rng.uniform(-width, width, r)
    kind = rng.choice(["orthogonal", "scalar", "confined", "diagonal", "general"], p=[0.05, 0.15, 0.2, 0.2, 0.4])
    if kind == "orthogonal":
        return random_orthogonal(r, rng)
    if kind == "scalar":
        return sigma[0] * np.eye(r)
    if kind == "confined":
        return np.diag(np.where(rng.random(r) < 0.5, 1.0, sigma ** rng.choice([0.1, 1.0])))
    if kind == "diagonal":
        return np.diag(sigma)
    return random_orthogonal(r, rng) * sigma @ random_orthogonal(r, rng)


def draw_confined_gauge(r: int, rng: np.random.Generator) -> Array:
    """Mostly a mild imbalance of one single direction, else a gauge of `draw_gauge`."""
    if rng.random() < 0.3:
        return draw_gauge(r, rng)
    sigma = np.ones(r)
    sigma[rng.integers(r)] = 10.0 ** rng.uniform(-0.3, 0.3)
    return np.diag(sigma)


def random_orthogonal(n: int, rng: np.random.Generator) -> Array:
    """A Haar-distributed orthogonal matrix (QR of a Gaussian with positive diagonal of R)."""
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    return np.asarray(Q * np.where(np.diag(R) < 0, -1.0, 1.0))
