"""Time of one balancing pass over a model's adapters, against the literal projection by full SVDs in a loop.

Peer: for each adapter, `torch.linalg.svd` of the product AB and US^{1/2}, S^{1/2}Vᵀ, as the formula reads; and a
second peer that loops over thin QR factorizations. Ratios within one run, medians of repetitions.
"""

from collections.abc import Callable

import torch
from timing import seconds  # a sibling script

from lorakappa.conditioning import balance
from lorakappa.shared.command_line import console, new_app, run

Pair = tuple[torch.Tensor, torch.Tensor]
app = new_app(__doc__ or "")

SETS = {  # name: (number of pairs, a, b, r), the shapes of a 0.5 B parameter Qwen's projections
    "attention q/o": (48, 896, 896, 8),
    "attention k/v": (48, 128, 896, 8),
    "MLP up/gate": (48, 4864, 896, 8),
    "MLP down": (24, 896, 4864, 8),
}


def literal(A: torch.Tensor, B: torch.Tensor) -> Pair:
    U, S, Vt = torch.linalg.svd(A @ B, full_matrices=False)
    r = A.shape[1]
    root = S[:r].sqrt()
    return U[:, :r] * root, root[:, None] * Vt[:r]


def thin(A: torch.Tensor, B: torch.Tensor) -> Pair:
    Q_A, R_A = torch.linalg.qr(A)
    Q_B, R_B = torch.linalg.qr(B.mT)
    U, S, Vt = torch.linalg.svd(R_A @ R_B.mT)
    root = S.sqrt()
    return Q_A @ (U * root), (root[:, None] * Vt) @ Q_B.mT


@app.command()
def main(repetitions: int = 5, device: str = "cpu", literal_pairs: int = 1) -> None:
    """Prints one row a set of adapters; the literal peer is timed on a few pairs and scaled up."""
    total = 0.0
    console.print("adapters                 pairs  balance [ms]  literal SVD / balance  looped QR / balance")
    for name, (number, a, b, r) in SETS.items():
        torch.manual_seed(0)
        A = torch.randn(number, a, r, device=device) / r**0.5
        B = 0.01 * torch.randn(number, r, b, device=device)

        def synchronized(function: Callable[[], object]) -> Callable[[], object]:
            def call() -> None:
                function()
                if device.startswith("cuda"):
                    torch.cuda.synchronize()

            return call

        ours = seconds(synchronized(lambda A=A, B=B: balance(A, B)), repetitions)
        loop = seconds(synchronized(lambda A=A, B=B: [thin(x, y) for x, y in zip(A, B, strict=True)]), repetitions)
        few = [(A[i], B[i]) for i in range(literal_pairs)]
        full = seconds(synchronized(lambda few=few: [literal(*pair) for pair in few]), 1) * number / len(few)
        total += ours
        console.print(f"{name:24s} {number:5d} {1e3 * ours:13.1f} {full / ours:22.0f} {loop / ours:20.2f}")
    console.print(f"all: {1e3 * total:.0f} ms a pass on {device}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    run(app)
