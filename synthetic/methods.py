"""Methods: what LoRA, BaLoRA, iLoRA and their relatives add to an optimizer.

One iteration of any of them, with any optimizer, is

    (A, B) ← map((A, B) − γ·(ηd_A, d_B)),  (d_A, d_B) = direction(transform(∇f)),

with a `transform` of the gradient (preconditioning), a `map` after the step (projection, penalty) and a multiple η of
the step size for A, the factor that LoRA starts at 0. A method is such a triple and a rival is one entry of `METHODS`.
Options are written behind the name: "ilora:lambda=0.1,scale=2@5" is iLoRA with λ = 0.1 and twice its ratio, whose
map follows every 5th step only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from array_api_compat import array_namespace, device

from lorakappa.conditioning.checks import eye_like
from lorakappa.conditioning.imbalance_regularization import paper_ratio, penalty_step, trained_penalty_step
from lorakappa.conditioning.preconditioning import scaled_gradient
from lorakappa.conditioning.projection import Gauge, balance
from lorakappa.conditioning.tolerances import gram_rtol
from lorakappa.shared.method_names import parse_method_name, with_option
from lorakappa.synthetic.losses import Params

Transform = Callable[[Params, Params], Params]
"""Maps the factors (A, B, …) and the gradient to what the optimizer is given."""

PostStep = Callable[[Params, Any], Params]
"""Maps the factors (A, B, …) after a step; gets the step sizes γ (…) too."""


@dataclass(frozen=True)
class Method:
    """What is done around an optimizer's step.

    Attributes:
        name: as given, e.g. "balora@5".
        transform: of the gradient, or None.
        new_map: makes the map that follows the step, afresh for every run because it may keep a state; or None.
        faster: η, the multiple of γ by which A moves.
        every: the map follows every `every`-th step.
        options: what was or can be set behind the name, with its values.
    """

    name: str
    transform: Transform | None = None
    new_map: Callable[[], PostStep] | None = None
    faster: float = 1.0
    every: int = 1
    options: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def preconditioned(self) -> bool:
        """Whether the gradient is scaled, which changes the natural unit of γ."""
        return self.transform is not None


# --- the parts --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Balancing:
    """BaLoRA's projection of every pair onto the balanced manifold."""

    gauge: Gauge

    def __call__(self) -> PostStep:
        """The projection; it has no state."""
        return lambda factors, _: _each_pair(lambda A, B: balance(A, B, gauge=self.gauge), factors)


@dataclass(frozen=True)
class Penalty:
    """iLoRA's step on λ‖BBᵀ − cAᵀA‖² after the optimizer's (its Alg. 1, whose gradient has no factor 4).

    Attributes:
        strength: λ > 0; the step is γλ.
        scale: of the ratio c = scale·(r/a)^power.
        power: p; p = 0 and scale 1 is the classical balancing regularizer.
        trained: whether c is learned, from that value on (`trained_penalty_step`).
    """

    strength: float
    scale: float
    power: float
    trained: bool

    def __call__(self) -> PostStep:
        """The penalty step, with a state of its own if the ratio is trained; what it makes explode becomes inf."""
        logs: list[Any] = []  # log c of every pair, once there is one

        def step(factors: Params, step_sizes: Any) -> Params:
            xp = array_namespace(*factors)
            moved: list[Any] = []
            for i, (A, B) in enumerate(_pairs(factors)):
                ratio = paper_ratio(A.shape[-2], A.shape[-1], factor=self.scale, power=self.power)
                sizes = self.strength * step_sizes
                explodes = ~(sizes * max(ratio, 1.0) * _largest(xp, A, B) ** 3 < LARGEST_MOVE)
                sizes = xp.where(explodes, xp.zeros_like(sizes), sizes)
                if self.trained:
                    if len(logs) == i:
                        logs.append(xp.log(ratio * xp.ones_like(sizes)))
                    new_A, new_B, logs[i] = trained_penalty_step(A, B, step=sizes, log_ratio=logs[i])
                else:
                    new_A, new_B = penalty_step(A, B, step=sizes, ratio=ratio)
                moved += (xp.where(explodes[..., None, None], xp.inf, new) for new in (new_A, new_B))
            return tuple(moved)

        return step


LARGEST_MOVE = 1e100
"""A penalty step with terms beyond this has exploded; it is not computed, since it would overflow."""


def _largest(xp: Any, A: Any, B: Any) -> Any:
    """(…) the largest entry of a pair."""
    return xp.maximum(xp.max(xp.abs(A), axis=(-2, -1)), xp.max(xp.abs(B), axis=(-2, -1)))


@dataclass(frozen=True)
class Preconditioning:
    """ScaledGD's gradient (g_A(BBᵀ + δI)⁻¹, (AᵀA + δI)⁻¹g_B); fed to Adam's moments it is Scaled AdamW.

    Attributes:
        damping: δ ≥ 0; without it the Gram matrix of LoRA's start A = 0 has no inverse.
    """

    damping: float

    def __call__(self, factors: Params, gradient: Params) -> Params:
        """The scaled gradient of every pair; NaN, which ends a trajectory, where a Gram matrix is singular.

        Raises:
            ValueError: if they all are, as at LoRA's start without damping.
        """
        moved: list[Any] = []
        for (A, B), (g_A, g_B) in zip(_pairs(factors), _pairs(gradient), strict=True):
            try:
                moved += scaled_gradient(A, B, g_A, g_B, damping=self.damping)
            except ValueError:
                moved += self._where_regular(A, B, g_A, g_B)
        return tuple(moved)

    def _where_regular(self, A: Any, B: Any, g_A: Any, g_B: Any) -> tuple[Any, Any]:
        """The slow way, one that singular pairs do not stop: the identity stands in for them."""
        xp = array_namespace(A, B)
        r = A.shape[-1]
        singular = xp.zeros(A.shape[:-2], dtype=xp.bool, device=device(A))
        for gram in (A.mT @ A, B @ B.mT):
            eigenvalues = xp.linalg.eigvalsh(gram + self.damping * eye_like(xp, gram))
            singular = singular | ~(eigenvalues[..., 0] > gram_rtol(r) * eigenvalues[..., -1])
        if bool(xp.all(singular)):
            return scaled_gradient(A, B, g_A, g_B, damping=self.damping)
        chosen = singular[..., None, None]
        square = eye_like(xp, A.mT @ A)
        stand_in = (xp.concat([square] * (x.shape[-2] // r + 1), axis=-2)[: x.shape[-2]] for x in (A, B.mT))
        left, right = (xp.where(chosen, one, x) for one, x in zip(stand_in, (A, B.mT), strict=True))
        scaled = scaled_gradient(left, right.mT, g_A, g_B, damping=self.damping)
        return tuple(xp.where(chosen, xp.nan, x) for x in scaled)


def _pairs(params: Params) -> list[tuple[Any, Any]]:
    return list(zip(params[::2], params[1::2], strict=True))


def _each_pair(function: Callable[[Any, Any], tuple[Any, Any]], factors: Params) -> Params:
    return tuple(factor for A, B in _pairs(factors) for factor in function(A, B))


# --- the methods ------------------------------------------------------------------------------------

Options = Mapping[str, Any]

PENALTY = {"lambda": 1.0, "scale": 1.0, "power": 1.0, "ratio": "fixed"}
DAMPING = {"damping": 1e-6}
FASTER = {"ratio": 16.0}
"""Defaults; δ = 1e-6 as in Riemannian preconditioned LoRA, η = 16 as in LoRA+ (Hayou et al. 2024)."""


def _penalty(options: Options) -> Penalty:
    return Penalty(
        strength=options["lambda"],
        scale=options.get("scale", 1.0),
        power=options.get("power", 0.0),
        trained=options.get("ratio") == "trained",
    )


def _preconditioning(options: Options) -> Preconditioning:
    return Preconditioning(options["damping"])


@dataclass(frozen=True)
class Family:
    """The methods of one name, which differ in their options.

    Attributes:
        parts: maps the options to the parts of `Method` by field name.
        defaults: the options and their defaults.
    """

    parts: Callable[[Options], Mapping[str, Any]] = lambda options: {}
    defaults: Options = field(default_factory=dict)


METHODS: dict[str, Family] = {
    "lora": Family(),
    "balora": Family(lambda o: {"new_map": Balancing("hyperbalanced")}),
    "balora-nearest": Family(lambda o: {"new_map": Balancing("nearest")}),
    "balora-symmetric": Family(lambda o: {"new_map": Balancing("symmetric")}),
    "ilora": Family(lambda o: {"new_map": _penalty(o)}, PENALTY),
    "ilora-balanced": Family(lambda o: {"new_map": _penalty(o)}, {"lambda": 1.0}),
    "scaled-gd": Family(lambda o: {"transform": _preconditioning(o)}, DAMPING),
    "pilora": Family(lambda o: {"transform": _preconditioning(o), "new_map": _penalty(o)}, PENALTY | DAMPING),
    "balora-scaled-gd": Family(
        lambda o: {"transform": _preconditioning(o), "new_map": Balancing("hyperbalanced")}, DAMPING
    ),
    "lora-plus": Family(lambda o: {"faster": o["ratio"]}, FASTER),
    "balora-plus": Family(lambda o: {"faster": o["ratio"], "new_map": Balancing("hyperbalanced")}, FASTER),
}

CHOICES = ", ".join(METHODS)


def parse_method(name: str) -> Method:
    """The method called NAME[:KEY=VALUE,…][@K].

    Args:
        name: of `METHODS`, with options (`Family.defaults` says which) and, behind @, how often its map is applied.

    Returns:
        The method.

    Raises:
        ValueError: on an unknown name or option, a value out of its range, or a K that is not a positive integer.
    """
    found = parse_method_name(name, {base: family.defaults for base, family in METHODS.items()})
    return Method(name, every=found.every, options=found.options, **METHODS[found.base].parts(found.options))


def at_strengths(method: Method, strengths: Sequence[float]) -> list[Method]:
    """The method at every λ, if it has a λ that its name leaves open; else the method alone.

    Raises:
        ValueError: if a λ is not positive and finite.
    """
    if "lambda" not in method.options or "lambda=" in method.name or not strengths:
        return [method]
    return [parse_method(with_option(method.name, "lambda", strength)) for strength in strengths]
