"""Truncating the products of an adapter to a smaller rank, balanced, stored in the type that they came in.

Peers: the SVD of the formed AB (PEFT's `convert_to_lora`), a randomized SVD of it (`torch.svd_lowrank` with twice the
rank), and thin QR factorizations of both factors in single precision, pair by pair.
"""

from collections.abc import Callable, Iterator

import torch
from compare import Goal, Row, measure  # a sibling script

from lorakappa.conditioning import product_svd, truncate

Pair = tuple[torch.Tensor, torch.Tensor]

R, RANK = 64, 16

SHAPES = {"Qwen2.5-0.5B": [(896, 896), (4864, 896)], "Llama-2-7B": [(4096, 4096), (11008, 4096)]}
"""A square and a wide projection of one layer, (out, in): q and gate."""

DENSE, RANDOMIZED, QRS = "SVD of AB", "randomized SVD of AB", "loop of QRs"


def adapter(shapes: list[tuple[int, int]]) -> list[Pair]:
    """Factors whose products have decaying singular values."""
    torch.manual_seed(0)
    decay = 0.01 * 0.95 ** torch.arange(R)
    return [((torch.randn(a, R) * decay).bfloat16(), (torch.randn(R, b) / b**0.5).bfloat16()) for a, b in shapes]


def ours(pairs: list[Pair]) -> list[Pair]:
    """The best pairs of the smaller rank."""
    return [truncate(A, B, RANK) for A, B in pairs]


def dense(pairs: list[Pair]) -> list[Pair]:
    """The same from the SVD of the formed product, in single precision."""
    return [_stored(A, *torch.linalg.svd(A.float() @ B.float(), full_matrices=False)) for A, B in pairs]


def randomized(pairs: list[Pair]) -> list[Pair]:
    """Nearly the same from a randomized SVD of the formed product."""
    found = []
    for A, B in pairs:
        U, S, V = torch.svd_lowrank(A.float() @ B.float(), q=2 * RANK, niter=2)
        found.append(_stored(A, U, S, V.mT))
    return found


def qrs(pairs: list[Pair]) -> list[Pair]:
    """The same from thin QR factorizations in single precision."""
    found = []
    for A, B in pairs:
        (Q_A, R_A), (Q_B, R_B) = torch.linalg.qr(A.float()), torch.linalg.qr(B.float().mT)
        U, S, Vt = torch.linalg.svd(R_A @ R_B.mT)
        found.append(_stored(A, Q_A @ U, S, Vt @ Q_B.mT))
    return found


def _stored(A: torch.Tensor, U: torch.Tensor, S: torch.Tensor, Vt: torch.Tensor) -> Pair:
    root = S[:RANK].sqrt()
    return (U[:, :RANK] * root).to(A.dtype), (root[:, None] * Vt[:RANK]).to(A.dtype)


def rows(quick: bool = False) -> Iterator[Row]:
    """One row a model; the SVD of AB only where that does not take minutes."""
    for model, shapes in SHAPES.items():
        yield _row(model, shapes, with_dense=model == "Qwen2.5-0.5B")
        if quick:
            return


def _row(model: str, shapes: list[tuple[int, int]], *, with_dense: bool) -> Row:
    pairs = adapter(shapes)
    calls: dict[str, Callable[[], object]] = {
        "truncate": lambda: ours(pairs),
        **({DENSE: lambda: dense(pairs)} if with_dense else {}),
        RANDOMIZED: lambda: randomized(pairs),
        QRS: lambda: qrs(pairs),
    }
    goals = (Goal(20.0, DENSE),) * with_dense + (Goal(3.0, RANDOMIZED), Goal(0.7, QRS))
    return Row(
        "truncate",
        f"q and gate projections of {model}, r = {R} → {RANK}, bfloat16",
        measure(calls, rounds=3),
        goals,
        amount=len(pairs),
        unit="pairs",
        note=f"excess error of the first pair {_excess(pairs, ours):.0e}, randomized {_excess(pairs, randomized):.0e}",
    )


def _excess(pairs: list[Pair], method: Callable[[list[Pair]], list[Pair]]) -> float:
    """How far the first pair's error exceeds the smallest possible one, relative to that."""
    A, B = pairs[0]
    sigma = product_svd(A, B).sigma
    ((X, Y),) = method([(A.float(), B.float())])
    error = torch.linalg.matrix_norm(A.double() @ B.double() - X.double() @ Y.double())
    return float(error / torch.linalg.vector_norm(sigma[RANK:])) - 1
