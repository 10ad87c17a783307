"""Stochastic gradients: of labels that are noisy anew at every step.

With residual E = C(AB − Z)D and fresh ξ of independent N(0, σ²) entries the gradient of ½‖E + ξ‖² is that of the loss
plus Mᵀξ, M(dA, dB) = C(dA·B + A·dB)D. Its covariance is σ²MᵀM: σ² times the Gauss–Newton matrix at every point, and
hence in every gauge, which is what theory asks of it (claim `sgd-noise-floor`). For a quadratic loss with the
eigenvalues λ gradient descent then ends at an excess of (γσ²/2)Σλ/(2 − γλ) on average, to first order (γσ²/4) times
the trace.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.synthetic.losses import OneLayer, Params, Weighted


@dataclass(frozen=True)
class NoisyLabels:
    """A loss whose gradients are those of noisy labels; f − f* stays that without noise.

    Attributes:
        clean: the loss without noise.
        size: (n,) σ of each problem.
        seed: of the noise, which is the same for every step size and method.
    """

    clean: OneLayer | Weighted
    size: Array
    seed: int

    @property
    def smoothness(self) -> Any:
        """As of the loss without noise."""
        return self.clean.smoothness

    def factors(self, theta: Params) -> Params:
        """θ itself."""
        return theta

    def coordinates(self, factors: Params) -> Params:
        """The factors themselves."""
        return factors

    def traces(self, factors: Params) -> Params:
        """As of the loss without noise, whose multiple is the covariance of the noise."""
        return self.clean.traces(factors)

    def evaluate(self, theta: Params) -> tuple[Any, Params]:
        """Returns f − f* (…) and its gradient without noise; what a run gets of them is said by `afresh`."""
        return self.clean.evaluate(theta)

    def afresh(self) -> "NoisyRun":
        """The loss for one run, whose k-th evaluation has the k-th noise."""
        return NoisyRun(self.clean, self.size, self.seed, np.random.default_rng(self.seed))


@dataclass(frozen=True)
class NoisyRun(NoisyLabels):
    """The loss as one run sees it: every evaluation draws new noise.

    Attributes:
        rng: where it comes from.
    """

    rng: np.random.Generator

    def evaluate(self, theta: Params) -> tuple[Any, Params]:
        """Returns f − f* (…) without noise, and a gradient with it."""
        A, B = theta
        excess, (g_A, g_B) = self.clean.evaluate(theta)
        noise = self.size[:, None, None] * self.rng.standard_normal((len(self.size), A.shape[-2], B.shape[-1]))
        G = self.clean.pulled_back(noise)
        return excess, (g_A + G @ B.mT, g_B + A.mT @ G)
