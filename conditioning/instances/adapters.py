"""Interpolating pairs of two adapters: ½‖h(A₁B₁, A₂B₂) − Z‖² with h(A₁B₁, A₂B₂) = Z, J the Jacobian of h.

The first pair is that of the canonical form, the second, of the same shape, has numbers q2 and a gauge G2 of its own;
both are in their canonical frames, in floats, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.instances.arrays import Entries, entries, inverse
from lorakappa.conditioning.instances.canonical import CanonicalMinimizers, Extra
from lorakappa.conditioning.instances.exact_pair import ExactPair
from lorakappa.conditioning.instances.interpolating import MAX_JACOBIAN_CONDITION, non_zero, tangent_entries
from lorakappa.conditioning.instances.pair import Matrix, Number, Pair
from lorakappa.conditioning.instances.sampling import draw_gauge
from lorakappa.conditioning.tolerances import claim_rtol, gap_rtol
from lorakappa.conditioning.verification import Shape, exact
from lorakappa.conditioning.verification.family import Parameters

MAX_SPREAD = 100.0
"""Largest condition of the second gauge, and quotient of its numbers and scales."""


def _descending(numbers: Array) -> bool:
    """Whether the numbers are positive, descending and within `MAX_SPREAD` of each other."""
    row = numbers.astype(float).ravel()
    return bool((row > 0).all() and (np.diff(row) <= 0).all() and row[0] <= MAX_SPREAD * row[-1])


def _draw_jacobian(shape: Shape, rng: np.random.Generator) -> Array:
    """Gaussian or diagonal over two decades, with all of its rows or some."""
    n = 2 * shape.a * shape.b
    J = rng.standard_normal((n, n)) if rng.random() < 0.5 else np.diag(10.0 ** rng.uniform(-1, 1, n))
    kept = n if rng.random() < 0.5 else rng.integers(1, n + 1)
    return J * (np.arange(n) < kept)[:, None]


@dataclass(frozen=True)
class TwoAdapters(CanonicalMinimizers):
    """Two pairs of one shape with any Jacobian J, and a scale for each; a `Family`.

    The non-zero singular values of J on the tangent spaces, one at least, lie within `MAX_JACOBIAN_CONDITION`.
    """

    restriction: str = "two pairs of one shape, (A, B) and (A2, B2), any J, positive scales c = (c₁, c₂)"
    subject: str = "pairs of rank r with h(A₁B₁, A₂B₂) = Z"
    largest: int = 2
    extras: tuple[Extra, ...] = (
        Extra(
            "q2", lambda s: (1, s.r), lambda s, rng: np.sort(10.0 ** rng.uniform(-1, 1, (1, s.r)))[:, ::-1], _descending
        ),
        Extra(
            "G2",
            lambda s: (s.r, s.r),
            lambda s, rng: draw_gauge(s.r, rng),
            lambda G: bool(np.linalg.cond(G.astype(float)) <= MAX_SPREAD),
        ),
        Extra(
            "c",
            lambda s: (1, 2),
            lambda s, rng: 10.0 ** rng.uniform(-1, 1, (1, 2)),
            lambda c: _descending(np.sort(c.astype(float))[:, ::-1]),
        ),
        Extra("J", lambda s: (2 * s.a * s.b, 2 * s.a * s.b), _draw_jacobian),
    )
    shown: Callable[[ExactPair], Mapping[str, Matrix]] = lambda x: _both_pairs(x)

    def valid(self, shape: Shape, parameters: Parameters) -> bool:
        """Whether the parameters describe two pairs of the domain."""
        if not super().valid(shape, parameters):
            return False
        J = self._unpack(shape, np.asarray(parameters, dtype=object).astype(float))[3]["J"]
        sigma = np.linalg.svd(J[:, _tangent_entries(shape)], compute_uv=False)
        zero = sigma <= gap_rtol(len(J)) * sigma[0]
        return bool(not zero.all() and sigma[~zero][-1] * MAX_JACOBIAN_CONDITION >= sigma[0])


TWO_ADAPTERS = TwoAdapters()


def _tangent_entries(shape: Shape) -> list[int]:
    """Which entries of both adapted matrices span the two tangent spaces."""
    first = tangent_entries(shape)
    return first + [shape.a * shape.b + entry for entry in first]


def _both_pairs(x: Pair) -> dict[str, Matrix]:
    """A, B of the first pair, A2, B2 of the second, the scales c and J."""
    (A, B), (A2, B2) = pairs(x)
    return {"A": A, "B": B, "A2": A2, "B2": B2, "c": x.extras["c"], "J": x.extras["J"]}


def pairs(x: Pair) -> list[tuple[Entries, Entries]]:
    """Both pairs [diag(q)G; 0], [G⁻¹diag(q), 0]."""
    (a, b, r), layers = (x.shape.a, x.shape.b, x.shape.r), []
    for q, G in ((np.asarray(x.q), x.G), (entries(x.extras["q2"])[0], x.extras["G2"])):
        gauge = entries(G)
        A, B = np.zeros((a, r), dtype=q.dtype), np.zeros((r, b), dtype=q.dtype)
        A[:r], B[:, :r] = q[:, None] * gauge, inverse(gauge) * q
        layers.append((A, B))
    return layers


def squares(M: Entries) -> list[Number]:
    """σ(M)² in descending order, as many as M has columns."""
    if M.dtype != object:
        return list(np.linalg.svd(M, compute_uv=False) ** 2)
    return exact.eigenvalues(exact.matrix((M.T @ M).tolist()))[::-1]


def condition_number(x: Pair) -> Number:
    """κ of MᵀJᵀJM, M the Jacobian of both products: the largest over the smallest non-zero eigenvalue."""
    shape, J = x.shape, entries(x.extras["J"])
    columns = []
    for layer, (A, B) in enumerate(pairs(x)):
        for factor, other in ((A, B), (B, A)):
            for index in np.ndindex(*factor.shape):
                move = 0 * factor
                move[index] = 1
                product = np.ravel(move @ other if factor is A else other @ move)
                columns.append(np.concatenate([product, 0 * product] if layer == 0 else [0 * product, product]))
    image = J @ np.array(columns).T
    if image.dtype != object:
        rank = len(non_zero(J[:, _tangent_entries(shape)]))
        return squares(image)[0] / squares(image)[rank - 1]
    return _spread(squares(image))


def tangent_condition(x: Pair) -> Number:
    """κ of JᵀJ on both tangent spaces."""
    K = entries(x.extras["J"])[:, _tangent_entries(x.shape)]
    if K.dtype != object:
        values = non_zero(K)
        return float((values[0] / values[-1]) ** 2)
    return _spread(squares(K))


def _spread(descending: list[Number]) -> Number:
    """The first over the last one that is not 0."""
    return descending[0] / next(value for value in reversed(descending) if value != 0)


def rounding(x: Pair) -> float:
    """Relative rounding of κ and of the bounds; 0 in exact arithmetic."""
    if not x.rounding:
        return 0.0
    sizes = [np.linalg.norm(M, 2) for pair in pairs(x) for M in pair]
    smallest = [np.linalg.svd(M)[1][x.shape.r - 1] for pair in pairs(x) for M in pair]
    outer = np.linalg.norm(x.extras["J"], 2) / non_zero(x.extras["J"][:, _tangent_entries(x.shape)])[-1]
    return claim_rtol(float((max(sizes) / min(smallest) * outer) ** 2), 2 * x.shape.d)
