"""Claims on which training methods see the gauge of their start, (A, B) or (AR, R⁻¹B), in the products that they reach.

A method whose step commutes with changes of gauge has the same products at every step, whatever the loss, so that one
step is compared, or two where the optimizer remembers the first. One step is enough to refute it. Adam is meant with
ε → 0 and bias correction; its first step is that of sign-GD.

P makes of all starts with one product a pair (XO, OᵀY), X = US^{1/2} and Y = S^{1/2}Vᵀ: the paper's gauge one with a
diagonal O of signs, where singular values are distinct (`projection-removes-invariance`); the symmetric and the nearest
gauge one with any rotation O, since all these pairs are balanced and so their fixed points. In floats P is `balance`.
"""

import numpy as np

from lorakappa.conditioning.claims.intrinsic_steps import even_pair, gradient_step
from lorakappa.conditioning.claims.vanishing import vanishes_for
from lorakappa.conditioning.instances import ANY_PAIR, CanonicalMinimizers, Extra, Number, Pair, gaussian, hyperbalanced
from lorakappa.conditioning.instances.arrays import Entries, entries, inverse, root, rotation, square
from lorakappa.conditioning.projection import balance
from lorakappa.conditioning.sources import REFLORA
from lorakappa.conditioning.tolerances import claim_rtol
from lorakappa.conditioning.verification import Comparison, algebraic_claim, equal

STEPS = (
    gaussian("gradient", lambda s: (s.a, s.b)),
    gaussian("next", lambda s: (s.a, s.b)),  # the gradient at the second step
    Extra("step", lambda s: (1, 1), lambda s, rng: 10.0 ** rng.uniform(-3, 0, (1, 1))),
)
ANY_STEPS = "any step, any gradient, and next, that of the second step"
SECOND_GAUGE = gaussian("R", lambda s: (s.r, s.r), max_condition=100)
STARTS = CanonicalMinimizers(
    f"any second gauge R with cond(R) ≤ 100, {ANY_STEPS}",
    ANY_PAIR,
    extras=(SECOND_GAUGE, *STEPS),
)
DISTINCT_STARTS = CanonicalMinimizers(
    f"distinct singular values, any second gauge R with cond(R) ≤ 100, {ANY_STEPS}",
    ANY_PAIR,
    min_root_gap=0.05,
    extras=(SECOND_GAUGE, *STEPS),
)
TURNED_STARTS = CanonicalMinimizers(
    f"balanced (A, B) and (AO, OᵀB), as P makes them of (A, B) and (AR, R⁻¹B), O any rotation, {ANY_STEPS}",
    ANY_PAIR,
    extras=(SECOND_GAUGE, *STEPS),
    shown=lambda x: {name: M for name, M in hyperbalanced(x).items() if name != "R"} | {"O": _rotation(x)},
)
SCALES = CanonicalMinimizers(
    f"any scale c = ρ², {ANY_STEPS}",
    ANY_PAIR,
    extras=(
        Extra(
            "ρ", lambda s: (1, 1), lambda s, rng: 10.0 ** rng.uniform(-1, 1, (1, 1)), lambda rho: bool(rho[0, 0] > 0)
        ),
        *STEPS,
    ),
)
SIDES = ("‖product after a step from (A, B) − product after a step from the other start‖²", "0")

Start = tuple[Entries, Entries]


def _given(x: Pair) -> tuple[Start, Start]:
    """(A, B) and (AR, R⁻¹B)."""
    A, B, R = entries(x.A), entries(x.B), entries(x.extras["R"])
    return (A, B), (A @ R, inverse(R) @ B)


def _projected(x: Pair) -> tuple[Start, Start]:
    """P of both in the paper's gauge; exactly, where P is irrational, a pair and the same with signs."""
    one, other = _given(x)
    if x.rounding:
        return balance(*one), balance(*other)
    signs = np.where(np.diag(entries(x.extras["R"])) < 0, -1, 1)
    A, B = even_pair(x)
    return (A, B), (A * signs, signs[:, None] * B)


def _rotation(x: Pair) -> Entries:
    """The rotation O."""
    return rotation(entries(x.extras["R"]))


def _turned(x: Pair) -> tuple[Start, Start]:
    """Two balanced pairs with the product AB, which the symmetric and the nearest gauge of P leave as they are."""
    (A, B), O = (balance(entries(x.A), entries(x.B)) if x.rounding else even_pair(x)), _rotation(x)
    return (A, B), (A @ O, O.T @ B)


def _sign_step(start: Start, gradients: Start, step: Number) -> Start:
    """(A − step·sign g_A, B − step·sign g_B)."""
    signs = [(g > 0).astype(int) - (g < 0).astype(int) for g in gradients]
    return start[0] - step * signs[0], start[1] - step * signs[1]


def _gradients(start: Start, G: Entries) -> Start:
    """(GBᵀ, AᵀG)."""
    return G @ start[1].T, start[0].T @ G


def _scaled_gradients(start: Start, G: Entries) -> Start:
    """(GBᵀ(BBᵀ)⁻¹, (AᵀA)⁻¹AᵀG)."""
    (A, B), (for_A, for_B) = start, _gradients(start, G)
    return for_A @ inverse(B @ B.T), inverse(A.T @ A) @ for_B


def _refactored_gradients(x: Pair, start: Start, G: Entries, change: Entries) -> Start:
    """(GBᵀS⁻¹, SAᵀG) at (A·change, change⁻¹·B), of the gauge H = G·change: S = (HᵀH)⁻¹."""
    gauge = entries(x.G) @ change
    (for_A, for_B), S_inverse = _gradients(start, G), gauge.T @ gauge
    return for_A @ S_inverse, inverse(S_inverse) @ for_B


def _same_product(x: Pair, one: Start, other: Start) -> Comparison:
    """The statement that two pairs have one product."""
    size = sum(float(square(M)) for M in (*one, *other)) if x.rounding else 1
    condition = (np.linalg.cond(x.G) * np.linalg.cond(x.extras["R"]) * x.q[0] / x.q[-1]) ** 2 if x.rounding else 1
    return vanishes_for(x, one[0] @ one[1] - other[0] @ other[1], size, float(condition))


def _step(x: Pair) -> tuple[Entries, Number]:
    """(G, γ)."""
    return entries(x.extras["gradient"]), x.extras["step"][0, 0]


@algebraic_claim(
    "gauge-free-lora-gd",
    "Are LoRA's products under GD the same from (A, B) and from (AR, R⁻¹B)?",
    kind="question",
    family=STARTS,
    sides=SIDES,
    recorded="refuted",
    corrected_by="gauge-free-balora-gd",
)
def lora_gd(x: Pair) -> Comparison:
    """Fails: W₊ = W − γ(AAᵀG + GBᵀB) + γ²GWᵀG, and AAᵀ and BᵀB depend on the gauge. For orthogonal R they do not."""
    G, step = _step(x)
    one, other = (gradient_step(*start, G, step) for start in _given(x))
    return _same_product(x, one, other)


@algebraic_claim(
    "gauge-free-lora-adam",
    "Are LoRA's products under sign-GD and Adam the same from (A, B) and from (AR, R⁻¹B)?",
    kind="question",
    family=STARTS,
    sides=SIDES,
    recorded="refuted",
    corrected_by="gauge-free-balora-adam",
)
def lora_adam(x: Pair) -> Comparison:
    """Fails: sign(g_A R⁻ᵀ) is sign(g_A)R only where R permutes and flips columns. Not even rotations are left."""
    G, step = _step(x)
    one, other = (_sign_step(start, _gradients(start, G), step) for start in _given(x))
    return _same_product(x, one, other)


@algebraic_claim(
    "gauge-free-scaled-gd",
    "Scaled GD's products are the same from (A, B) and from (AR, R⁻¹B).",
    kind="question",
    family=STARTS,
    sides=SIDES,
)
def scaled_gd(x: Pair) -> Comparison:
    """Proof: (BBᵀ)⁻¹ becomes Rᵀ(BBᵀ)⁻¹R and g_A becomes g_A R⁻ᵀ, so the scaled gradient of A is multiplied by R as A
    is, that of B by R⁻¹. In W alone: W₊ = W − γ(Π_A G + GΠ_B) + γ²GW⁺G, Π the projectors onto W's columns and rows.
    """
    G, step = _step(x)
    moves = [(start, _scaled_gradients(start, G)) for start in _given(x)]
    one, other = ((A - step * for_A, B - step * for_B) for (A, B), (for_A, for_B) in moves)
    return _same_product(x, one, other)


@algebraic_claim(
    "gauge-free-scaled-adam",
    "Are the products of sign-GD and Adam on scaled gradients the same from (A, B) and from (AR, R⁻¹B)?",
    kind="question",
    family=STARTS,
    sides=SIDES,
    recorded="refuted",
    corrected_by="gauge-free-balora-adam",
)
def scaled_adam(x: Pair) -> Comparison:
    """Fails: what is multiplied by R before the signs are taken is not so after."""
    G, step = _step(x)
    one, other = (_sign_step(start, _scaled_gradients(start, G), step) for start in _given(x))
    return _same_product(x, one, other)


@algebraic_claim(
    "gauge-free-reflora-gd",
    "RefLoRA's products under GD are the same from (A, B) and from (AR, R⁻¹B).",
    source=REFLORA.at("Abstract, balanced updates"),
    family=STARTS,
    sides=SIDES,
)
def reflora_gd(x: Pair) -> Comparison:
    """Proof: S becomes R⁻¹SR⁻ᵀ and g_A becomes g_A R⁻ᵀ, so g_A S⁻¹ is multiplied by R as A is, Sg_B by R⁻¹."""
    G, step = _step(x)
    one, other = _given(x)
    R = entries(x.extras["R"])
    moves = [_refactored_gradients(x, one, G, R @ inverse(R)), _refactored_gradients(x, other, G, R)]
    new_one, new_other = (
        (A - step * for_A, B - step * for_B) for (A, B), (for_A, for_B) in zip((one, other), moves, strict=True)
    )
    return _same_product(x, new_one, new_other)


@algebraic_claim(
    "gauge-free-reflora-adam",
    "Are RefLoRA's products under sign-GD and Adam the same from (A, B) and from (AR, R⁻¹B)?",
    kind="question",
    family=STARTS,
    sides=SIDES,
    recorded="refuted",
    corrected_by="gauge-free-balora-adam",
)
def reflora_adam(x: Pair) -> Comparison:
    """Fails: what is multiplied by R before the signs are taken is not so after."""
    G, step = _step(x)
    one, other = _given(x)
    R = entries(x.extras["R"])
    new_one = _sign_step(one, _refactored_gradients(x, one, G, R @ inverse(R)), step)
    return _same_product(x, new_one, _sign_step(other, _refactored_gradients(x, other, G, R), step))


@algebraic_claim(
    "gauge-free-balora-gd",
    "With P before the first step, in any balanced gauge, GD's products are the same from (A, B) and from (AR, R⁻¹B), "
    "with P after each step or without.",
    kind="question",
    family=TURNED_STARTS,
    sides=SIDES,
)
def balora_gd(x: Pair) -> Comparison:
    """Proof: P leads to (X, Y) and (XO, OᵀY), and for a rotation O AAᵀ and BᵀB do not change. A GD step commutes with
    rotations, so it stays so; P after a step turns once more.
    """
    G, step = _step(x)
    one, other = (gradient_step(*start, G, step) for start in _turned(x))
    return _same_product(x, one, other)


@algebraic_claim(
    "gauge-free-balora-adam",
    "With P before the first step, in the paper's gauge, the products of sign-GD and Adam are the same from (A, B) and "
    "from (AR, R⁻¹B), if singular values are distinct.",
    kind="question",
    family=DISTINCT_STARTS,
    sides=("⟨product after two steps of Adam from P(A, B), G⟩", "the same from P(AR, R⁻¹B)"),
)
def balora_adam(x: Pair) -> Comparison:
    """Proof: P leads to (X, Y) and (XD, DY) with signs D. Gradients and their means get the signs of their columns or
    rows, squares none, so the steps get them; the same for any method whose gradients do, and with P after each step,
    whose signs follow its argument. G is any matrix, so that all of the product is compared.
    """
    one, other = (_two_adam_steps(x, start, x.extras["step"][0, 0]) for start in _projected(x))
    return _equal_along(x, [(1, one), (1, other)])


@algebraic_claim(
    "gauge-free-balora-symmetric-adam",
    "Are the products of sign-GD and Adam with P before the first step the same from (A, B) and from (AR, R⁻¹B) in the "
    "symmetric and the nearest gauge, too?",
    kind="question",
    family=TURNED_STARTS,
    sides=SIDES,
    recorded="refuted",
    corrected_by="gauge-free-balora-adam",
)
def balora_symmetric_adam(x: Pair) -> Comparison:
    """Fails for r ≥ 2: what such a gauge leaves of the start is a rotation, and signs see it."""
    G, step = _step(x)
    one, other = (_sign_step(start, _gradients(start, G), step) for start in _turned(x))
    return _same_product(x, one, other)


@algebraic_claim(
    "adam-scale",
    "LoRA's scale c under Adam is a learning rate and a size of the start: with ε → 0, no decay and no clipping, "
    "c·AB at learning rate η has the path that AB has at c^{1/2}η from (c^{1/2}A, c^{1/2}B), with P or without.",
    kind="question",
    family=SCALES,
    sides=("⟨c·A₂B₂ after two steps, G⟩", "the same of the other path"),
)
def adam_scale(x: Pair) -> Comparison:
    """Proof: (A', B') = c^{1/2}(A, B) is kept. The gradients, cGBᵀ and G(c^{1/2}B)ᵀ, differ by c^{1/2} at every step,
    which Adam does not see, and its move is multiplied by the learning rate. P(tA, tB) = t·P(A, B). So a grid over
    scales and learning rates is one over sizes of the start and learning rates.
    """
    rho, step = x.extras["ρ"][0, 0], x.extras["step"][0, 0]
    start = entries(x.A), entries(x.B)
    scaled = _two_adam_steps(x, start, step, scale=rho**2)
    larger = _two_adam_steps(x, (rho * start[0], rho * start[1]), rho * step)
    return _equal_along(x, [(rho**2, scaled), (1, larger)])


def _two_adam_steps(x: Pair, start: Start, step: Number, scale: Number = 1) -> Start:
    """Adam's first two steps on a loss of scale·AB, β₁ = 9/10 and β₂ = 99/100; where no gradient was, nothing moves."""
    beta_1, beta_2 = x.number(9) / 10, x.number(99) / 100
    first = _gradients(start, scale * entries(x.extras["gradient"]))
    start = _sign_step(start, first, step)
    moves = []
    for g, h in zip(first, _gradients(start, scale * entries(x.extras["next"])), strict=True):
        mean = (beta_1 * g + h) / (1 + beta_1)  # (1 − β)(βg + h)/(1 − β²)
        size = root((beta_2 * g * g + h * h) / (1 + beta_2))
        still = (g == 0) & (h == 0)
        moves.append(np.where(still, 0 * mean, mean / np.where(still, 1 + 0 * size, size)))
    return start[0] - step * moves[0], start[1] - step * moves[1]


def _equal_along(x: Pair, pairs: list[tuple[Number, Start]]) -> Comparison:
    """The statement that two products, each times a number, agree along the second gradient.

    Roots are balls, whose difference is never seen to be 0; two numbers count as equal if they agree to 100 bits.
    """
    G = entries(x.extras["next"])
    one, other = (factor * np.sum((A @ B) * G) for factor, (A, B) in pairs)
    if not x.rounding:
        return equal(one, other)
    size = sum(factor * (square(A) + square(B)) for factor, (A, B) in pairs) * float(np.linalg.norm(G)) or 1.0
    gaps = -np.diff(np.append(x.q**2, 0.0))
    condition = np.linalg.cond(x.G) ** 2 * (x.q[0] ** 2 / gaps[gaps > 0].min()) ** 2
    return equal(float(one - other) / size, 0.0, claim_rtol(float(condition), x.shape.d))


TABLE = {
    "LoRA": ("gauge-free-lora-gd", "gauge-free-lora-adam"),
    "scaled GD": ("gauge-free-scaled-gd", "gauge-free-scaled-adam"),
    "RefLoRA": ("gauge-free-reflora-gd", "gauge-free-reflora-adam"),
    "P before the first step, the paper's gauge": ("gauge-free-balora-gd", "gauge-free-balora-adam"),
    "P before the first step, symmetric or nearest gauge": ("gauge-free-balora-gd", "gauge-free-balora-symmetric-adam"),
}
"""Claims by method: under GD, under sign-GD and Adam."""

CLAIMS = (
    lora_gd,
    lora_adam,
    scaled_gd,
    scaled_adam,
    reflora_gd,
    reflora_adam,
    balora_gd,
    balora_adam,
    balora_symmetric_adam,
    adam_scale,
)


def table() -> str:
    """Whose products are the same from every gauge of the start, as a Markdown table."""
    verdicts = {claim.id: {"holds": "yes", "refuted": "no"}[claim.recorded] for claim in CLAIMS}
    rows = [f"| {method} | {verdicts[gd]} | {verdicts[adam]} |" for method, (gd, adam) in TABLE.items()]
    return (
        "\n".join(["| products independent of the start's gauge | GD | sign-GD, Adam |", "|---|---|---|", *rows]) + "\n"
    )
