"""Optimizers and the maps that follow their steps.

An iteration is θ ← map(θ − γ·direction(θ, ∇f)). Optimizers differ in the direction, methods (LoRA, BaLoRA, …)
in the map; any optimizer goes with any method. A rival method is one entry of `POST_STEPS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from array_api_compat import array_namespace

from conditioning.projection import Gauge, balance
from synthetic.losses import Params

PostStep = Callable[[Params, Any], Params]
"""Maps the factors (A, B, …) after a step; gets the step sizes γ (…) too."""


class Optimizer(Protocol):
    """A rule θ ← θ − γ·direction; keeps whatever state it needs between calls."""

    def direction(self, theta: Params, gradient: Params) -> Params:
        """The direction of this step, given the factors and the gradient."""


class GradientDescent:
    """θ − γ∇f."""

    def direction(self, theta: Params, gradient: Params) -> Params:
        """∇f."""
        return gradient


class SignGradientDescent:
    """θ − γ‖∇f‖₁ sign ∇f, steepest descent in ℓ∞: the iteration that the sign-GD rate is about.

    ‖∇f‖₁ is taken over all parameters together.
    """

    def direction(self, theta: Params, gradient: Params) -> Params:
        """‖∇f‖₁ sign ∇f."""
        xp = array_namespace(*gradient)
        norm = sum(xp.sum(xp.abs(g), axis=(-2, -1)) for g in gradient)
        return tuple(norm[..., None, None] * xp.sign(g) for g in gradient)


class Sign:
    """θ − γ sign ∇f: what practitioners run (signSGD, Adam's limit); its steps do not shrink."""

    def direction(self, theta: Params, gradient: Params) -> Params:
        """The signs of ∇f."""
        xp = array_namespace(*gradient)
        return tuple(xp.sign(g) for g in gradient)


@dataclass
class Adam:
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
        m, v = self._moments or (zeros, zeros)
        m = tuple(self.beta1 * x + (1 - self.beta1) * g for x, g in zip(m, gradient, strict=True))
        v = tuple(self.beta2 * x + (1 - self.beta2) * g * g for x, g in zip(v, gradient, strict=True))
        self._moments = m, v
        self._step += 1
        c1, c2 = 1 - self.beta1**self._step, 1 - self.beta2**self._step
        return tuple(x / c1 / (xp.sqrt(y / c2) + self.eps) for x, y in zip(m, v, strict=True))


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


def _balance(factors: Params, step_sizes: Any, *, gauge: Gauge) -> Params:
    pairs = (balance(A, B, gauge=gauge) for A, B in zip(factors[::2], factors[1::2], strict=True))
    return tuple(factor for pair in pairs for factor in pair)


POST_STEPS: dict[str, PostStep | None] = {
    "lora": None,
    "balora": partial(_balance, gauge="hyperbalanced"),
    "balora-nearest": partial(_balance, gauge="nearest"),
    "balora-symmetric": partial(_balance, gauge="symmetric"),
}


@dataclass(frozen=True)
class Method:
    """A post-step map and how often it is applied.

    Attributes:
        name: as given, e.g. "balora@5".
        post_step: the map, or None for plain LoRA.
        every: it follows every `every`-th step.
    """

    name: str
    post_step: PostStep | None
    every: int = 1


def parse_method(name: str) -> Method:
    """The method called "name" or "name@k" (its map after every k-th step only).

    Raises:
        ValueError: on an unknown name or a k that is not a positive integer.
    """
    base, at, period = name.partition("@")
    if base not in POST_STEPS:
        raise ValueError(f"unknown method {name!r}; choose from {', '.join(POST_STEPS)}, each also as NAME@K")
    if at and not (period.isdecimal() and int(period) > 0):
        raise ValueError(f"{name!r}: what follows @ must be a positive integer")
    return Method(name, POST_STEPS[base], int(period) if at else 1)


def make_optimizer(name: str) -> Optimizer:
    """A fresh optimizer by name.

    Raises:
        ValueError: on an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}; choose from {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]()
