"""Optimizers: from a gradient to the direction of a step.

An iteration is θ ← map(θ − γ·direction(θ, gradient)); what the gradient is scaled by beforehand and which map follows
belongs to the method (`synthetic.methods`), and any optimizer goes with any method.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

from array_api_compat import array_namespace

from lorakappa.synthetic.losses import Params


class Optimizer(Protocol):
    """A rule θ ← θ − γ·direction; keeps whatever state it needs between calls."""

    def direction(self, theta: Params, gradient: Params) -> Params:
        """The direction of this step, given the factors and the gradient (scaled, if the method does that)."""

    def part(self, rows: slice) -> Self:
        """The same rule, as it is now, for some of the step sizes, with a state of its own."""


class _Whole:
    """A rule that treats all step sizes alike, and has no state for some of them before its first step."""

    def part(self, rows: slice) -> Self:
        return copy(self)


class GradientDescent(_Whole):
    """θ − γ∇f."""

    def direction(self, theta: Params, gradient: Params) -> Params:
        """∇f."""
        return gradient


class SignGradientDescent(_Whole):
    """θ − γ‖∇f‖₁ sign ∇f, steepest descent in ℓ∞: the iteration that the sign-GD rate is about.

    ‖∇f‖₁ is taken over all parameters together.
    """

    def direction(self, theta: Params, gradient: Params) -> Params:
        """‖∇f‖₁ sign ∇f."""
        xp = array_namespace(*gradient)
        norm = sum(xp.sum(xp.abs(g), axis=(-2, -1)) for g in gradient)
        return tuple(norm[..., None, None] * xp.sign(g) for g in gradient)


class Sign(_Whole):
    """θ − γ sign ∇f: what practitioners run (signSGD, Adam's limit); its steps do not shrink."""

    def direction(self, theta: Params, gradient: Params) -> Params:
        """The signs of ∇f."""
        xp = array_namespace(*gradient)
        return tuple(xp.sign(g) for g in gradient)


@dataclass
class Adam(_Whole):
    """Adam (Kingma & Ba 2015) with torch's defaults; post-step maps leave its moments alone."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    _step: int = field(default=0, init=False)
    _moments: tuple[Params, Params] | None = field(default=None, init=False)

    def direction(self, theta: Params, gradient: Params) -> Params:
        """m̂/(√v̂ + ε) with bias-corrected moments."""
        xp = array_namespace(*gradient)
        zeros = tuple(xp.zeros_like(g) for g in gradient)
        m, v = self._moments or (zeros, tuple(xp.zeros_like(g) for g in gradient))
        self._moments = m, v
        self._step += 1
        c1, c2 = 1 - self.beta1**self._step, 1 - self.beta2**self._step
        # m̂/(√v̂ + ε) = (√c₂/c₁)m/(√v + √c₂ε); in place, since the moments are this optimizer's own
        moved = []
        for x, y, g in zip(m, v, gradient, strict=True):
            x *= self.beta1
            x += (1 - self.beta1) * g
            y *= self.beta2
            square = g * g
            square *= 1 - self.beta2
            y += square
            root = xp.sqrt(y)
            root += c2**0.5 * self.eps
            direction = (c2**0.5 / c1) * x
            direction /= root
            moved.append(direction)
        return tuple(moved)


@dataclass
class MatchedGradientDescent:
    """Gradient descent whose t-th step moves each AB by a prescribed length ‖A₊B₊ − AB‖_F; run it with γ = 1.

    For one pair, with X = g_A B + A g_B and Y = g_A g_B a step of size γ moves AB by −γX + γ²Y, so γ solves
    γ‖X − γY‖ = ℓ; a few fixed-point iterations from ℓ/‖X‖ find the smallest root where there is one.

    Attributes:
        lengths: (steps, …) lengths.
    """

    lengths: Any
    _step: int = field(default=0, init=False)

    def part(self, rows: slice) -> Self:
        """The same for some of the step sizes."""
        return replace(self, lengths=self.lengths[:, rows])

    def direction(self, theta: Params, gradient: Params) -> Params:
        """γ_t ∇f."""
        (A, B), (g_A, g_B) = theta, gradient
        xp = array_namespace(A, B)
        length = xp.asarray(self.lengths[self._step])
        self._step += 1
        X, Y = g_A @ B + A @ g_B, g_A @ g_B
        gamma = xp.zeros_like(X[..., :1, :1])
        for _ in range(12):
            norm = xp.linalg.matrix_norm(X - gamma * Y)
            gamma = (length / xp.where(norm > 0, norm, xp.ones_like(norm)))[..., None, None]
        return gamma * g_A, gamma * g_B


OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "gd": GradientDescent,
    "sign-gd": SignGradientDescent,
    "sign": Sign,
    "adam": Adam,
}


def make_optimizer(name: str) -> Optimizer:
    """A fresh optimizer by name.

    Raises:
        ValueError: on an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose from {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]()
