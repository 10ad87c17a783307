"""Adam in another frame: what of its behaviour hangs on the coordinates in which it divides entry by entry.

(AO, OᵀB) is the same product for every rotation O (r×r). Gradient descent goes with O, Adam only if O is a signed
permutation: its second moments belong to entries. Here the pair stays where it is, and a step is taken as if it stood
in a frame O: from g_A O and Oᵀg_B, the step found being turned back. So every frame sees pairs of the same κ, and what
differs is Adam's alone. Two things can be told apart: which entries the second moments divide, and what becomes of the
momentum when the frame turns: it may be carried along, or left as it was in coordinates that mean something else now.
P's paper gauge under Adam is the singular frame with the momentum left, up to signs (a test holds it to that).
"""

from dataclasses import dataclass, field
from typing import Literal, Self, get_args

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.synthetic.losses import Params

Frame = Literal["own", "fixed", "singular", "random"]
"""The pair's own coordinates; one random rotation of them; the singular vectors of AᵀA; a new random rotation at every
step."""
FRAMES: tuple[Frame, ...] = get_args(Frame)

Second = Literal["entry", "row", "factor"]
"""What has a second moment of its own: every entry, every row of A and column of B, or each factor. The last two do not
depend on the frame."""
SECONDS: tuple[Second, ...] = get_args(Second)


@dataclass
class FramedAdam:
    """Adam (torch's defaults) whose entries are those of a frame.

    Attributes:
        frame: which.
        carried: whether the momentum is turned with the frame.
        second: what has a second moment of its own.
        eps: ε.
        seed: of random rotations.
    """

    frame: Frame = "own"
    carried: bool = True
    second: Second = "entry"
    eps: float = 1e-8
    seed: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    _step: int = field(default=0, init=False)
    _momentum: list[Array] = field(default_factory=list, init=False)
    _squares: list[Array] = field(default_factory=list, init=False)
    _frames: list[Array] = field(default_factory=list, init=False)

    def part(self, rows: slice) -> Self:
        """The same before its first step, for some of the step sizes: rotations are the same for all."""
        return type(self)(self.frame, self.carried, self.second, self.eps, self.seed, self.beta1, self.beta2)

    def direction(self, theta: Params, gradient: Params) -> Params:
        """The step in the frame, turned back."""
        if not self._momentum:
            self._rng = np.random.default_rng(self.seed)
            self._momentum = [np.zeros_like(g) for g in gradient]
            self._squares = [np.zeros_like(self._square(g, k % 2)) for k, g in enumerate(gradient)]
            r = theta[0].shape[-1]
            self._frames = [self._rotation(r) if self.frame == "fixed" else np.eye(r) for _ in gradient[::2]]
        self._step += 1
        c1, c2 = 1 - self.beta1**self._step, 1 - self.beta2**self._step
        moved = []
        for k, g in enumerate(gradient):
            if k % 2 == 0:
                self._frames[k // 2] = self._next_frame(k // 2, theta[k], theta[k + 1])
            O = self._frames[k // 2]
            turned = g @ O if k % 2 == 0 else O.mT @ g
            kept = g if self.carried else turned
            self._momentum[k] = self.beta1 * self._momentum[k] + (1 - self.beta1) * kept
            self._squares[k] = self.beta2 * self._squares[k] + (1 - self.beta2) * self._square(turned, k % 2)
            m = self._momentum[k]
            if self.carried:
                m = m @ O if k % 2 == 0 else O.mT @ m
            d = (m / c1) / (np.sqrt(self._squares[k] / c2) + self.eps)
            moved.append(d @ O.mT if k % 2 == 0 else O @ d)
        return tuple(moved)

    def _square(self, g: Array, is_B: int) -> Array:
        """What the second moment is of: squares, or their means."""
        if self.second == "entry":
            return g * g
        axis = (-2 if is_B else -1) if self.second == "row" else (-2, -1)
        return np.asarray(np.mean(g * g, axis=axis, keepdims=True))

    def _rotation(self, r: int) -> Array:
        Q, R = np.linalg.qr(self._rng.standard_normal((r, r)))
        return np.asarray(Q * np.sign(np.diag(R)))

    def _next_frame(self, pair: int, A: Array, B: Array) -> Array:
        last = self._frames[pair]
        if self.frame == "random":
            return self._rotation(A.shape[-1])
        if self.frame != "singular" or self._step == 1:  # a pair that no P has seen yet is in its own coordinates
            return last
        V = np.linalg.eigh(B @ B.mT)[1][..., ::-1]
        signs = np.where(np.einsum("...ki,...ki->...i", V, np.broadcast_to(last, V.shape)) < 0, -1.0, 1.0)
        return np.asarray(V * signs[..., None, :])
