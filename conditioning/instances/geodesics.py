"""Three pairs on a geodesic of gauges, the second one halfway between the others.

The geodesics of positive definite N = TTᵀ are, seen from the pair at one end, (AT^t, T^{−t}B) with T symmetric positive
definite. With a rational T the pairs at t = 0, 1 and 2 are rational.
"""

from dataclasses import replace
from typing import Any

import flint
import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances.canonical import Extra
from lorakappa.conditioning.verification import Shape


def _draw_root(shape: Shape, rng: np.random.Generator) -> Array:
    """K with T = KKᵀ from close to the identity to far from it."""
    return np.eye(shape.r) * rng.uniform(0.5, 2) + rng.choice([0.1, 0.5, 1.0]) * rng.standard_normal((shape.r, shape.r))


def _regular(K: Any) -> bool:
    """Whether cond(T) ≤ 100, and T is of order 1."""
    sigma = np.linalg.svd(K.astype(float), compute_uv=False)
    return bool(sigma[0] <= 10 * sigma[-1] and 0.1 <= sigma[0] <= 10)


TURN = Extra("K", lambda s: (s.r, s.r), _draw_root, _regular)
"""K, with T = KKᵀ; the gauges are I, T and T²."""


def diagonal_draws(extra: Extra) -> Extra:
    """The same square matrix, drawn diagonal with entries over a decade."""
    return replace(extra, draw=lambda s, rng: np.diag(10.0 ** rng.uniform(-0.5, 0.5, extra.size(s)[0])))


def along(x: Any) -> tuple[Any, Any, Any]:
    """The instance, the one halfway and the one at the other end; floats or exact."""
    K = x.extras["K"]
    if isinstance(K, flint.fmpq_mat):
        T = K * K.transpose()
        return x, x.with_gauge(x.G * T), x.with_gauge(x.G * T * T)
    T = K @ K.T
    return x, x.with_gauge(x.G @ T), x.with_gauge(x.G @ T @ T)
