"""Why gauges matter under Adam: entries, frames and momentum told apart (`synthetic.framed_adam`)."""

from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from lorakappa.conditioning.checks import Array
from lorakappa.conditioning.verification import MeasuredClaim, Measurement, measured_claim
from lorakappa.synthetic.claims.data_gauges import judge_gains
from lorakappa.synthetic.claims.gains import MAIN, STEPS, check_trials
from lorakappa.synthetic.engine import DIVERGENCE_FACTOR, simulate
from lorakappa.synthetic.framed_adam import Frame, FramedAdam, Second
from lorakappa.synthetic.losses import Loss, Params
from lorakappa.synthetic.methods import Method, PostStep, parse_method
from lorakappa.synthetic.problems import make_problems, step_size_grid
from lorakappa.synthetic.selection import best_step, compare, floored_log10
from lorakappa.synthetic.settings import ProblemSettings

SETTINGS = {**MAIN, "weighted": ProblemSettings(loss="weighted")}
DOMAIN = (
    "one-layer, two-layer and weighted loss, 20×20 Gaussian targets, r = 4, LoRA's start, Adam, 100 steps; weights "
    "with random singular vectors and condition numbers 10, each variant at its own best of 17 step sizes"
)


class Variant(NamedTuple):
    """A method under an Adam of its own; the fields but for the method are those of `FramedAdam`."""

    method: str = "balora-symmetric"
    frame: Frame = "own"
    carried: bool = True
    second: Second = "entry"
    eps: float = 1e-8


def _columns_balanced(factors: Params, step_sizes: Any) -> Params:
    """‖A_i‖ = ‖B_i‖ for every column of A and row of B, by one number each; what is 0 stays as it is."""
    moved: list[Array] = []
    for A, B in zip(factors[::2], factors[1::2], strict=True):
        left, right = np.linalg.norm(A, axis=-2), np.linalg.norm(B, axis=-1)
        there = (left > 0) & (right > 0)
        t = np.sqrt(np.where(there, right, 1.0) / np.where(there, left, 1.0))
        moved += (A * t[..., None, :], B / t[..., :, None])
    return tuple(moved)


def _new_columns_map(loss: Loss) -> PostStep:
    return _columns_balanced


COLUMNS = "columns"
"""The method that balances columns one by one, which is in no vocabulary."""


@lru_cache(maxsize=64)
def _all_logs(settings: ProblemSettings, variant: Variant) -> tuple[Array, int]:
    """(G, n) log₁₀ of the final f − f* by step size, rules as for `gains.measured_gain`, and the index of the best."""
    problems = make_problems(settings)
    method = Method(COLUMNS, new_map=_new_columns_map) if variant.method == COLUMNS else parse_method(variant.method)
    optimizer = FramedAdam(variant.frame, variant.carried, variant.second, variant.eps, seed=settings.seed)
    grid = step_size_grid("auto:17", problems, "adam")
    run = simulate(problems.loss, problems.start, method=method, optimizer=optimizer, step_sizes=grid, steps=STEPS)
    start, final = run.excess[0], run.excess[-1]
    logs = floored_log10(np.where(np.isfinite(final), final, DIVERGENCE_FACTOR * start), start)
    return logs, int(best_step(np.where(np.isfinite(final), logs, np.inf))[0])


def _logs(settings: ProblemSettings, variant: Variant, like: Variant | None = None) -> Array:
    """(n,) of them at the variant's best step size or, beyond it, `BEYOND` points of the grid above that of another."""
    logs, best = _all_logs(settings, variant)
    if like is None:
        return np.asarray(logs[best])
    return np.asarray(logs[min(_all_logs(settings, like)[1] + BEYOND, len(logs) - 1)])


BEYOND = 3
"""Points of the grid, a factor of 4.5."""


def variant_gains(
    first: Variant, second: Variant, trials: int, seed: int, like: Variant | None = None
) -> dict[str, Any]:
    """By setting, the gain of the second variant over the first, both at their best or 4.5 times that of another."""
    check_trials(trials)
    found = {}
    for name, settings in SETTINGS.items():
        here = replace(settings, seeds=trials, seed=seed)
        found[name] = compare(_logs(here, first, like) - _logs(here, second, like), seed=seed).meta()
    return found


def _claim(
    id: str,
    statement: str,
    first: Variant,
    second: Variant,
    why: str,
    like: Variant | None = None,
    **options: Any,
) -> MeasuredClaim:
    """A claim that the second variant ends lower than the first."""

    def measure(trials: int, seed: int) -> Measurement:
        return judge_gains(variant_gains(first, second, trials, seed, like), trials)

    measure.__doc__ = (
        "Rule: holds if the gain's interval is above 0 for all three losses, not seen if it is below 0 for one, "
        f"equivalent if all lie within ±0.05 decades.\n\n{why}"
    )
    given = {"kind": "question", "domain": DOMAIN, "trials": 24, "experiment": "frames", "seconds": 3.0, **options}
    return measured_claim(id, statement, **given)(measure)


CLAIMS = (
    _claim(
        "adam-epsilon-idle",
        "Adam's ε has no part in what balance does: with ε = 10⁻³⁰ BaLoRA in the symmetric gauge ends lower than with "
        "10⁻⁸.",
        Variant(),
        Variant(eps=1e-30),
        "Gradients are far above ε in all of the run, so that Adam is the scale-free method of `adam-scale`.",
        recorded="equivalent",
    ),
    _claim(
        "adam-frame-fixed",
        "Does the basis matter in itself, as Adam divides by entry: turned once, at the start, by a random rotation "
        "between the factors, does BaLoRA in the symmetric gauge end lower?",
        Variant(),
        Variant(frame="fixed"),
        "Adam goes with signed permutations only, so the path is another one (`gauge-free-methods`). Whether it is a "
        "better or worse one is asked here.",
        recorded="inconclusive",
    ),
    _claim(
        "adam-balance-without-entries",
        "Balance helps an Adam that has one second moment for each factor, and so no basis: in the symmetric gauge it "
        "ends lower than without P.",
        Variant("lora", second="factor"),
        Variant(second="factor"),
        "Such an Adam goes with all rotations, as gradient descent does: what is left of P is the balance, and κ.",
    ),
    _claim(
        "adam-entries-matter",
        "With balance, do second moments of entries do better than one for each factor?",
        Variant(second="factor"),
        Variant(),
        "Second moments of entries divide rows of different size, which is a preconditioner that data may call for.",
        recorded="inconclusive",
    ),
    _claim(
        "adam-turned-momentum",
        "A frame that turns makes momentum stale: with one second moment for each factor, where nothing else can "
        "differ, the symmetric gauge ends lower than the paper's, whose rotation leaves the momentum behind.",
        Variant(frame="singular", carried=False, second="factor"),
        Variant(second="factor"),
        "With the momentum carried along both would be one method: the rotation cancels.",
        recorded="not seen",
    ),
    _claim(
        "adam-both-moments-left",
        "Moments belong together: at 4.5 times the best step size of the symmetric gauge the paper's gauge, which "
        "leaves both behind, ends lower than with the momentum carried along and the squares left.",
        Variant(frame="singular"),
        Variant(frame="singular", carried=False),
        "Momentum carried into entries whose squares were small is divided by what it is not the momentum of. A "
        "diverged seed counts as 10⁶ times its start.",
        like=Variant(),
    ),
    _claim(
        "adam-paper-gauge-stable",
        "At 4.5 times the best step size of the symmetric gauge, is the paper's gauge the more stable one: does it end "
        "lower?",
        Variant(),
        Variant(frame="singular", carried=False),
        "Both leave their moments as they are; the symmetric gauge turns as little as a balanced pair can.",
        like=Variant(),
        recorded="not seen",
    ),
    _claim(
        "adam-random-frames",
        "Momentum left behind by a frame that turns at random at every step ruins Adam: the symmetric gauge without it "
        "ends lower.",
        Variant(frame="random", carried=False),
        Variant(),
        "The extreme case of a gauge that is fixed by nothing: κ is the same at every step.",
    ),
    _claim(
        "adam-singular-frame",
        "Are the singular vectors, with the momentum carried into them, a better basis for Adam's second moments than "
        "the pair's own?",
        Variant(),
        Variant(frame="singular"),
        "A basis that diagonalizes Gram matrices is what methods of Shampoo's kind divide in, though of gradients; it "
        "turns, and the squares are not carried along.",
        recorded="not seen",
    ),
    _claim(
        "adam-columns-suffice",
        "Is it enough for Adam to balance columns, ‖A_i‖ = ‖B_i‖ by one number each: does it end lower than without?",
        Variant("lora"),
        Variant(COLUMNS),
        "Adam goes with signed permutations, and a diagonal gauge mixes no coordinates.",
        recorded="inconclusive",
    ),
    _claim(
        "adam-columns-all",
        "Does the whole balance do better under Adam than that of columns?",
        Variant(COLUMNS),
        Variant(),
        "What the columns leave is the angles between them.",
        recorded="inconclusive",
    ),
)
