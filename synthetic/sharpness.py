"""How sharp sign-GD's rate is: starts searched for that come closest to its bound, on the quadratic ½zᵀHz.

The bound (`conditioning.rates`) holds for every single step, so there are two questions: how close can one step come,
and how close can the steps come for ever, which is the limsup that the bound is stated for? The quadratic is what any
loss looks like near a minimizer; sign-GD is homogeneous on it, so the gradient is scaled back after every step and a
run has no floor. GD needs no search: its rate is reached from almost every start, by the modes of μ and L.
"""

from dataclasses import dataclass

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.rates import SharpSignRate

ROUNDS, MUTANTS, PARENTS = 60, 40, 12
"""Of the search: rounds, changes tried for each start in a round, and starts that are kept."""

STEPS = 400
"""Of a run; its last quarter is the tail."""

LOST = 1e-8
"""Contraction in one step below which what is left of f is rounding, and the run has ended."""


@dataclass(frozen=True)
class Closest:
    """What the closest starts found reach, as log contraction over log bound: 1 is the bound, more is faster.

    Attributes:
        step: of the slowest single step found.
        tail: of the slowest step in the last quarter of a run, for the run in which that is slowest.
    """

    step: float
    tail: float


def closest_sign_gd(H: Array, kernel_dimension: int, sharp: SharpSignRate, rng: np.random.Generator) -> Closest:
    """The closest starts of sign-GD with γ = 1/L_∞, by evolution from where μ_∞ is attained and from random starts.

    The bound 1 − μ_∞/L_∞ is attained by one step if the gradient g that attains μ_∞ can be approached with signs s that
    attain L_∞; the entries of g that are 0 leave their signs open.

    Args:
        H: (d, d) Hessian.
        kernel_dimension: number of its zero eigenvalues.
        sharp: its exact geometry.
        rng: source of randomness.

    Returns:
        The closest found.

    Raises:
        ValueError: if the geometry is not exact.
    """
    if sharp.steepest is None or not sharp.L_inf_exact:
        raise ValueError("starts are searched for where L_∞ and μ_∞ are exact only")
    quadratic = _Quadratic(H, kernel_dimension, sharp.L_inf)
    parents = np.concatenate([sharp.steepest[None], quadratic.draw(PARENTS - 1, rng)])
    scores = np.full(PARENTS, -np.inf)  # the vertex itself has signs 0 and is no start
    for _ in range(ROUNDS):
        sizes = 10.0 ** rng.uniform(-8, 0, (PARENTS, MUTANTS, 1))
        changes = quadratic.draw(PARENTS * MUTANTS, rng).reshape(PARENTS, MUTANTS, -1)
        candidates = parents[:, None] + sizes * changes
        candidates /= np.abs(candidates).sum(axis=-1, keepdims=True)
        ratios = quadratic.step(candidates.reshape(PARENTS * MUTANTS, -1))[0].reshape(PARENTS, MUTANTS)
        best = ratios.argmax(axis=1)
        better = ratios.max(axis=1) > scores
        parents[better] = candidates[np.arange(PARENTS), best][better]
        scores = np.maximum(scores, ratios.max(axis=1))
    # where do they end? from the starts found, from around them, and from anywhere
    around = parents[:, None] + 1e-3 * quadratic.draw(PARENTS * MUTANTS, rng).reshape(PARENTS, MUTANTS, -1)
    starts = np.concatenate([parents, around.reshape(PARENTS * MUTANTS, -1), quadratic.draw(PARENTS * MUTANTS, rng)])
    highest, tail = quadratic.run(starts)
    bound = np.log(sharp.rate)
    return Closest(float(np.log(max(highest, scores.max())) / bound), float(np.log(tail) / bound))


class _Quadratic:
    """½zᵀHz as sign-GD sees it, by gradients g = Hz: zᵀHz = gᵀH⁺g, and a step is g − γ‖g‖₁H sign g."""

    def __init__(self, H: Array, kernel_dimension: int, L_inf: float) -> None:
        eigenvalues, Q = np.linalg.eigh(H)
        basis = Q[:, kernel_dimension:]
        self.H, self.L_inf, self.basis = H, L_inf, basis
        self.range = basis @ basis.T
        self.pinv = (basis / eigenvalues[kernel_dimension:]) @ basis.T

    def draw(self, number: int, rng: np.random.Generator) -> Array:
        """(number, d) random gradients with ‖g‖₁ = 1."""
        g = rng.standard_normal((number, self.basis.shape[1])) @ self.basis.T
        return np.asarray(g / np.abs(g).sum(axis=1, keepdims=True))

    def step(self, g: Array) -> tuple[Array, Array]:
        """(n,) contractions of f in one step, and (n, d) gradients after it."""
        norm, s = np.abs(g).sum(axis=1), np.sign(g)
        moved = (g - (norm / self.L_inf)[:, None] * (s @ self.H)) @ self.range
        before, after = (np.einsum("ni,ij,nj->n", x, self.pinv, x, optimize=True) for x in (g, moved))
        return after / before, moved

    def run(self, g: Array) -> tuple[float, float]:
        """The largest contraction on the way, and the largest in the last quarter."""
        highest = tail = 0.0
        for t in range(STEPS):
            ratios, g = self.step(g)
            alive = ratios > LOST
            ratios, g = ratios[alive], g[alive]
            if not len(g):
                break
            g = g / np.abs(g).sum(axis=1, keepdims=True)
            highest = max(highest, float(ratios.max()))
            if t >= STEPS - STEPS // 4:
                tail = max(tail, float(ratios.max()))
        return highest, tail
