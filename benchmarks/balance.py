"""One balancing pass over all adapters of a model, in place.

Peers: the formula of the poster, thin SVDs module by module in float32; the same by thin QR factorizations; and two
limits, which balance nothing: Gram matrices and products alone, and a plain copy of the factors.
"""

from collections.abc import Callable, Iterator

import torch
from compare import Goal, Row, measure  # a sibling script

from lorakappa.llm.adapters.balancing import Balancing
from lorakappa.llm.adapters.pairs import LoraPair

Pair = tuple[torch.Tensor, torch.Tensor]

SHAPES = {  # of the projections of one layer, (out, in): q, k, v, o, gate, up, down
    "Qwen2.5-0.5B": [(896, 896), (128, 896), (128, 896), (896, 896), (4864, 896), (4864, 896), (896, 4864)],
    "Qwen2.5-3B": [(2048, 2048), (256, 2048), (256, 2048), (2048, 2048), (11008, 2048), (11008, 2048), (2048, 11008)],
}

LAYERS = {  # all layers where that is quick; fewer are as good, since all layers are alike
    ("Qwen2.5-0.5B", 8): 24,
    ("Qwen2.5-0.5B", 64): 4,
    ("Qwen2.5-0.5B", 256): 1,
    ("Qwen2.5-3B", 8): 36,
    ("Qwen2.5-3B", 64): 2,
    ("Qwen2.5-3B", 256): 1,
}

LIMIT = "Gram matrices and products"
SVDS = "loop of SVDs"
GOALS = (Goal(4.0, SVDS), Goal(1 / 1.4, LIMIT))


def adapters(model: str, r: int, layers: int, dtype: torch.dtype, device: str) -> list[Pair]:
    """Factors as of a LoRA in training: B as initialized, A small."""
    torch.manual_seed(0)
    return [
        (
            (0.01 * torch.randn(a, r, device=device)).to(dtype),
            ((torch.rand(r, b, device=device) * 2 - 1) / b**0.5).to(dtype),
        )
        for _ in range(layers)
        for a, b in SHAPES[model]
    ]


def svds(pairs: list[Pair]) -> None:
    """US^{1/2} and S^{1/2}Vᵀ from thin SVDs of the factors."""
    for A, B in pairs:
        U_A, S_A, Vt_A = torch.linalg.svd(A.float(), full_matrices=False)
        U_B, S_B, Vt_B = torch.linalg.svd(B.float(), full_matrices=False)
        U, S, Vt = torch.linalg.svd((S_A[:, None] * Vt_A) @ (U_B * S_B), full_matrices=False)
        _store(A, B, U_A @ U, S, Vt @ Vt_B)


def qrs(pairs: list[Pair]) -> None:
    """The same from thin QR factorizations."""
    for A, B in pairs:
        Q_A, R_A = torch.linalg.qr(A.float())
        Q_B, R_B = torch.linalg.qr(B.float().mT)
        U, S, Vt = torch.linalg.svd(R_A @ R_B.mT, full_matrices=False)
        _store(A, B, Q_A @ U, S, Vt @ Q_B.mT)


def _store(A: torch.Tensor, B: torch.Tensor, U: torch.Tensor, S: torch.Tensor, Vt: torch.Tensor) -> None:
    root, rank = S.sqrt(), len(S)  # fewer than r where a factor has fewer rows or columns
    A[:, :rank] = U * root
    B[:rank] = root[:, None] * Vt
    A[:, rank:], B[rank:] = 0, 0


def limit(pairs: list[Pair], T: torch.Tensor) -> None:
    """The two passes over the factors that no method on Gram matrices can do without."""
    for A, B in pairs:
        A, B = A.float(), B.float()
        A.mT @ A, B @ B.mT, A @ T, T @ B


def rows(quick: bool = False, device: str = "cpu") -> Iterator[Row]:
    """One row a model, rank, dtype and number of threads."""
    cases = [(model, r, torch.float32) for model, r in LAYERS] + [("Qwen2.5-0.5B", 64, torch.bfloat16)]
    for model, r, dtype in cases[:1] if quick else cases:
        for threads in (1, 2) if device == "cpu" else (1,):
            yield _row(model, r, dtype, threads, device)
    if not quick:
        yield from growth(device)


def _ready(pairs: list[Pair]) -> Balancing:
    made = [LoraPair(str(i), "default", A, B, trainable=True) for i, (A, B) in enumerate(pairs)]
    return Balancing(made, gauge="hyperbalanced", moments="keep")


def _row(model: str, r: int, dtype: torch.dtype, threads: int, device: str) -> Row:
    layers = LAYERS[model, r]
    sets = {name: adapters(model, r, layers, dtype, device) for name in ("ours", SVDS, "loop of QRs", LIMIT)}
    ready = _ready(sets["ours"])
    T = torch.eye(r, device=device)
    copies = [(A.clone(), B.clone()) for A, B in sets[LIMIT]]

    def copy() -> None:
        for (A, B), (X, Y) in zip(copies, sets[LIMIT], strict=True):
            A.copy_(X)
            B.copy_(Y)

    calls: dict[str, Callable[[], object]] = {
        "balance": ready,
        SVDS: lambda: svds(sets[SVDS]),
        "loop of QRs": lambda: qrs(sets["loop of QRs"]),
        LIMIT: lambda: limit(sets[LIMIT], T),
        "copy": copy,
    }
    timings = measure(calls, rounds=3 if r > 64 else 5, threads=threads)
    name = str(dtype).removeprefix("torch.")
    return Row(
        "balance",
        f"{model}, {layers} layer{'s' * (layers > 1)}, r = {r}, {name}",
        timings,
        GOALS,
        amount=len(copies),
        unit="pairs",
        threads=threads,
    )


def growth(device: str) -> Iterator[Row]:
    """Time of balancing over the number of layers, and over r, where the r×r algebra takes over from the products."""
    for layers in (1, 4, 24):
        work = _ready(adapters("Qwen2.5-0.5B", 8, layers, torch.float32, device))
        timings = measure({"balance": work}, rounds=5)
        yield Row(
            "balance as layers grow",
            f"{layers} layer{'s' * (layers > 1)}, r = 8",
            timings,
            growth=("layers", layers),
            exponent=1,
        )
    for r in (8, 32, 128, 512):
        pairs = adapters("Qwen2.5-0.5B", r, 1, torch.float32, device)[4:6]
        timings = measure(
            {"balance": _ready(pairs), LIMIT: lambda pairs=pairs, r=r: limit(pairs, torch.eye(r))}, rounds=5
        )
        yield Row("balance as r grows", f"4864×896, r = {r}", timings, growth=("r", r), exponent=2)
