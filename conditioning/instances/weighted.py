"""Pairs that fit the target of the weighted loss ½‖C(AB − Z)D‖²: interpolating pairs with J = C ⊗ Dᵀ."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances.canonical import Extra
from lorakappa.conditioning.instances.interpolating import InterpolatingPairs
from lorakappa.conditioning.verification import Shape


def _draw_weights(n: int, rng: np.random.Generator) -> Array:
    """The identity, a diagonal matrix with entries over two decades, or a Gaussian one."""
    kind = rng.choice(["identity", "diagonal", "general"])
    if kind == "general":
        return rng.standard_normal((n, n))
    return np.diag(10.0 ** rng.uniform(-1, 1, n) if kind == "diagonal" else np.ones(n))


def _weights(name: str, side: str) -> Extra:
    """A square matrix of weights, of bounded condition."""

    def size(shape: Shape) -> tuple[int, int]:
        n = int(getattr(shape, side))
        return n, n

    return Extra(
        name,
        size,
        lambda shape, rng: _draw_weights(size(shape)[0], rng),
        lambda M: bool(np.linalg.cond(M.astype(float)) <= 1e2),
    )


@dataclass(frozen=True)
class WeightedPairs(InterpolatingPairs):
    """Pairs with square weights C and D, at Z = AB; a `Family`."""

    extras: tuple[Extra, ...] = (_weights("C", "a"), _weights("D", "b"))

    def _unpack(self, shape: Shape, parameters: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        q, tail, G, extras = super()._unpack(shape, parameters)
        return q, tail, G, {**extras, "J": np.kron(extras["C"], extras["D"].T)}


WEIGHTED = WeightedPairs("square C and D with condition numbers ≤ 100, Z = AB")
WEIGHTED_INTERIOR = WeightedPairs(
    "r < min(a, b), square C and D with condition numbers ≤ 100, Z = AB", where=lambda shape: shape.r < shape.k
)
WEIGHTED_RANK_1 = WeightedPairs(
    "r = 1, square C and D with condition numbers ≤ 100, Z = AB", where=lambda shape: shape.r == 1
)
