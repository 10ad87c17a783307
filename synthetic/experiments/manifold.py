"""The smallest picture of P: a 2×2 problem, its minimizers with their κ, and where P sends points.

Why not the plain scalar problem ½(z − ab)²: there κ says nothing. For a = b = r = 1 the Hessian at a minimizer
has the orbit's zero and a single other eigenvalue, so κ = L/μ is identically 1. With Z = diag(z, s₂), r = 1 and
the pairs A = (x, 0)ᵀ, B = (y, 0) the loss is ½(z − xy)² + ½s₂², the same picture, while κ is that of the whole
2×2 problem, which sees the directions out of the slice and grows with the imbalance of x and y.
"""

from collections.abc import Sequence

import numpy as np

from lorakappa.conditioning import balance, condition_number
from lorakappa.conditioning.checks import Array
from lorakappa.synthetic.results import Result

STARTS = (
    (0.6, 2.3),
    (0.12, 1.9),
    (2.2, 0.2),
    (2.35, 1.45),
    (-0.3, -2.2),
    (-2.2, -1.0),
    (-2.2, 0.5),
    (-0.5, 1.5),
    (1.8, -1.0),
    (0.25, -1.6),
)
"""Points whose images under P are shown, in units of √z."""

PATH_POINTS = 41
"""Points on the arc of constant product from a start to its image."""


def manifold(
    *,
    singular_values: tuple[float, float] = (1.0, 0.3),
    extent: float = 2.5,
    points: int = 201,
    starts: Sequence[tuple[float, float]] = STARTS,
) -> Result:
    """Loss, minimizers with κ, and P on the slice A = (x, 0)ᵀ, B = (y, 0) of the problem with Z = diag(z, s₂).

    Args:
        singular_values: (z, s₂), z > s₂ ≥ 0.
        extent: half-width of the square shown, in units of √z.
        points: grid points per axis, and minimizers per branch.
        starts: points to balance, in units of √z, with xy ≠ 0.

    Returns:
        Arrays, with N points and K starts: x, y (N,) grid; excess (N, N) f − f* at (x_j, y_i); minimizers
        (2, N, 2) points (x, y) of the branches x > 0 and x < 0 of xy = z; kappa (2, N) of the 2×2 problem
        there; balanced (2, 2) the balanced ones; starts, images (K, 2) and paths (K, 41, 2), arcs of constant
        xy from the starts to their images under P.

    Raises:
        ValueError: on bad singular values, sizes or starts.
    """
    z, s_2 = singular_values
    if not z > s_2 >= 0 or not np.isfinite(z):
        raise ValueError(f"the singular values must satisfy z > s₂ ≥ 0, but are {z:g} and {s_2:g}")
    if not 1 < extent < np.inf or points < 3:
        raise ValueError("the manifold needs an extent above 1 (in units of √z) and at least 3 points")
    begin = np.sqrt(z) * np.asarray(starts, dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(begin).all() or (begin == 0).any():
        raise ValueError("the starting points must be finite with x and y different from 0")
    Z = np.diag([z, s_2])
    axis = np.linspace(-extent, extent, points) * np.sqrt(z)
    x = np.geomspace(1 / extent, extent, points) * np.sqrt(z)
    branch = np.stack([x, z / x], axis=1)
    minimizers = np.stack([branch, -branch])
    kappa = [[condition_number(*_pair(point), Z) for point in half] for half in minimizers]
    images = np.asarray([_image(point) for point in begin]).reshape(-1, 2)
    balanced = np.asarray([_image(branch[0]), _image(-branch[0])])
    arrays = {
        "x": axis,
        "y": axis,
        "excess": 0.5 * (z - axis[None, :] * axis[:, None]) ** 2,
        "minimizers": minimizers,
        "kappa": np.asarray(kappa),
        "balanced": balanced,
        "starts": begin,
        "images": images,
        "paths": _arcs(begin, images),
    }
    meta = {
        "settings": {"singular_values": [z, s_2], "extent": extent, "points": points},
        "kappa_balanced": condition_number(*_pair(balanced[0]), Z),
    }
    return Result("manifold", arrays, meta, 0)


def _pair(point: Array) -> tuple[Array, Array]:
    """A = (x, 0)ᵀ and B = (y, 0)."""
    return np.asarray([[point[0]], [0.0]]), np.asarray([[point[1], 0.0]])


def _image(point: Array) -> Array:
    """(x, y) of P(A, B), which stays in the slice."""
    A, B = balance(*_pair(point))
    return np.asarray([A[0, 0], B[0, 0]])


def _arcs(begin: Array, end: Array) -> Array:
    """(K, 41, 2): x moves geometrically from start to image, and y = product/x."""
    t = np.linspace(0, 1, PATH_POINTS)[None, :, None]
    return np.asarray(begin[:, None] * (end / begin)[:, None] ** t)
