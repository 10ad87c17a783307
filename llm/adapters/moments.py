"""What becomes of an optimizer's moments when its factors change gauge.

A loss g(AB) has gradients G·Bᵀ and Aᵀ·G. With A' = AT and B' = T⁻¹B they become g_A' = g_A T⁻ᵀ and
g_B' = Tᵀ g_B. So

- "keep" (the paper's BaLoRA) leaves the state as it is: moments of the old coordinates in the new ones;
- "transport" makes the first moment what it had been in the new coordinates, m_A T⁻ᵀ and Tᵀ m_B, exactly since
  it is linear in the gradients. The second moment would need the covariances of the gradient's entries;
  it gets the diagonal approximation (entries of a row uncorrelated), v_A (T⁻ᵀ)∘² and (Tᵀ)∘² v_B with entrywise
  squares: exact for scalings, signs and permutations, and never negative;
- "reset" makes the state that of a fresh optimizer, the step count of its bias correction included.

The default is the paper's "keep", which costs nothing. On a random 2-layer Qwen2 (r = 4, AdamW, P at every step,
150 steps on a noisy Markov chain, 3 seeds, learning rates 1e-3 … 1e-1) the final loss at the best learning rate was
2.02 ± 0.08 with "keep", 2.03 ± 0.08 with "transport", 2.10 ± 0.07 with "reset" and 2.07 ± 0.07 without P: too close to
tell the first two apart. At a third of that rate "transport" led, 2.60 ± 0.01 against 2.73 ± 0.01 and 3.05 ± 0.02 (but
2.50 ± 0.05 without P). One tiny problem; try "transport" on yours.
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lorakappa.llm.adapters.factors import Side, fill, matrix
from lorakappa.llm.adapters.joining import AnyOptimizer, name_of, owned_pairs
from lorakappa.llm.adapters.pairs import LoraPair, storage

Moments = Literal["keep", "transport", "reset"]
MOMENTS: tuple[Moments, ...] = get_args(Moments)

FIRST = ("exp_avg", "momentum_buffer")
"""State entries that are linear in the gradients."""

SECOND = ("exp_avg_sq", "max_exp_avg_sq")
"""State entries that are averages of squared gradients."""

ITERATES = ("z", "x0", "ax", "slow_buffer", "shadow")
"""State entries from which some optimizers write their parameters anew, or average them: schedule-free ones, Ranger,
MADGRAD, ASGD, D-adapted SGD, EmoNavi, by the names that torch, schedulefree and pytorch_optimizer give them."""


def check_no_iterates(optimizer: AnyOptimizer, pairs: list[LoraPair]) -> None:
    """Refuses optimizers that keep further copies of the factors: in another gauge those would change the product.

    Raises:
        ValueError: naming the first.
    """
    for pair in pairs:
        for parameter in (pair.left, pair.right):
            for key in optimizer.state.get(parameter, {}):
                if key in ITERATES:
                    raise ValueError(
                        f"{name_of(optimizer)} keeps {key!r} beside the factors of {pair.name}, a copy that stays in "
                        "the old gauge and is mixed with the new one; balance with an optimizer without copies"
                    )


def check_choice(moments: str) -> None:
    """Raises ValueError on an unknown choice."""
    if moments not in MOMENTS:
        raise ValueError(f"moments must be one of {', '.join(MOMENTS)}, not {moments!r}")


def check_moments(moments: str, optimizer: AnyOptimizer | None) -> None:
    """Raises ValueError on an unknown choice, or one that needs an optimizer that was not given."""
    check_choice(moments)
    if moments != "keep" and optimizer is None:
        raise ValueError(f'moments="{moments}" needs the optimizer whose moments it means')


def check_state(optimizer: AnyOptimizer, pairs: list[LoraPair]) -> None:
    """Refuses states that "transport" and "reset" do not know, or not all of: silence would lose moments.

    Raises:
        CannotBalanceError: for a pair of which the optimizer holds one factor.
        ValueError: if it does not hold some pair, or the state of a factor has entries of unknown meaning.
    """
    owned = {id(pair) for pair in owned_pairs(pairs, optimizer)}
    states = optimizer.state
    for pair in pairs:
        if id(pair) not in owned:
            raise ValueError(
                f"{name_of(optimizer)} does not train {pair.name}, so its moments are elsewhere; give all optimizers "
                'as a list, name one adapter, or use moments="keep"'
            )
        for parameter in (pair.left, pair.right):
            for key, value in states.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.ndim > 0 and key not in FIRST + SECOND:
                    raise ValueError(
                        f"{name_of(optimizer)} keeps {key!r} for {pair.name}, and how it changes with the "
                        f'gauge is unknown; use moments="keep"'
                    )


def gauge_between(A: Tensor, B: Tensor, X: Tensor, Y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """T and T⁻¹ with X = AT and Y = T⁻¹B, by least squares on the better conditioned new pair, in float64.

    Args:
        A: (n, a, r) old factors.
        B: (n, r, b) old factors.
        X: (n, a, r) new factors.
        Y: (n, r, b) new factors.

    Returns:
        T and T⁻¹ (n, r, r), float64, and a bool (n,): whether they are inverse to each other to the square root of
        the dtype's epsilon. They are not where the pair does not determine T: rank AB < r.
    """
    eps = torch.finfo(A.dtype).eps
    A, B, X, Y = (F.double() for F in (A, B, X, Y))
    T_inv = torch.linalg.pinv(X.mT @ X, hermitian=True) @ (X.mT @ A)
    T = (B @ Y.mT) @ torch.linalg.pinv(Y @ Y.mT, hermitian=True)
    r = T.shape[-1]
    error = torch.linalg.matrix_norm(T @ T_inv - torch.eye(r, dtype=T.dtype, device=T.device))
    return T, T_inv, error <= (r * eps) ** 0.5


def transport(optimizer: AnyOptimizer, pair: LoraPair, T: Tensor, T_inv: Tensor) -> None:
    """Rewrites the moments of one pair for A' = AT, B' = T⁻¹B (module docstring)."""
    _transform(optimizer, pair, "A", lambda entry, square: entry @ (T_inv.mT**2 if square else T_inv.mT))
    _transform(optimizer, pair, "B", lambda entry, square: (T.mT**2 if square else T.mT) @ entry)


def transport_ties(optimizer: AnyOptimizer, ties: list[LoraPair], T: Tensor, T_inv: Tensor) -> None:
    """Transports the moments of one pair, and of the parameters tied to it.

    A layer tied with exchanged factors, (Bᵀ, Aᵀ), changes gauge by T⁻ᵀ.
    """
    first = ties[0]
    transport(optimizer, first, T, T_inv)
    for pair in ties[1:]:
        if pair.left is first.left or pair.left is first.right:
            continue  # the very same parameters, with one state
        exchanged = storage(pair.left) == storage(first.right)
        transport(optimizer, pair, *((T_inv.mT, T.mT) if exchanged else (T, T_inv)))


def reset(optimizer: AnyOptimizer, pair: LoraPair) -> None:
    """Makes the state of one pair's parameters that of a fresh optimizer."""
    for parameter in (pair.left, pair.right):
        state = optimizer.state.get(parameter, {})
        for key in (*FIRST, *SECOND, "step"):
            if isinstance(state.get(key), Tensor):
                state[key].zero_()
            elif state.get(key) is not None:
                state[key] = 0


def _transform(optimizer: AnyOptimizer, pair: LoraPair, side: Side, rule: Any) -> None:
    state = optimizer.state.get(pair.left if side == "A" else pair.right, {})
    for key in FIRST + SECOND:
        if isinstance(state.get(key), Tensor):
            entry = matrix(state[key], side, pair.expert, pair.experts).double()
            fill(state[key], rule(entry, key in SECOND), side, pair.expert, pair.experts)
