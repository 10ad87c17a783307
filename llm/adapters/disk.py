"""Adapters on disk, balanced without the base model."""

import os

import torch
from torch import Tensor

from lorakappa.conditioning.manifold import is_balanced
from lorakappa.conditioning.projection import GAUGES, Gauge, balance
from lorakappa.conditioning.tolerances import PRODUCT_RTOL, balance_rtol
from lorakappa.llm.adapters.factors import fill
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.stored import StoredPair
from lorakappa.llm.adapters.formats.writing import copied_adapter
from lorakappa.llm.adapters.products import is_representable, product_errors, storage_eps


class Changes(dict[str, float]):
    """‖A'B' − AB‖_F/‖AB‖_F by pair, as stored.

    Attributes:
        left: names of the pairs that stayed as they were although not balanced: their balanced factors are too small or
            too large for the type they are stored in, or AB = 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []


@torch.no_grad()
def balance_adapter(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, gauge: Gauge = "hyperbalanced"
) -> Changes:
    """Writes an adapter with the same products and balanced factors; all other files and tensors are copied.

    The target appears whole or not at all. Folders inside the source (checkpoints, other adapters) are not copied, and
    links are followed inside the source only, or to the blobs of its repository in the Hugging Face cache.

    Each product is compared with the old one as stored: ‖A'B' − AB‖_F ≤ 16 ε ‖A‖_F‖B‖_F, ε the epsilon of the storage
    type. A pair for which that cannot be kept, since its balanced factors leave the range of the type, stays as it is.

    Args:
        source: folder of the adapter.
        target: folder to write; must not exist or be empty.
        gauge: which balanced pair (`conditioning.balance`).

    Returns:
        ‖A'B' − AB‖_F/‖AB‖_F by pair, as stored, and which pairs stayed as they were.

    Raises:
        OSError: if files cannot be read or written, the target is in use, or a link leads out of the source.
        CannotBalanceError: for layers that are not a free product AB, or whose type is too coarse (float8).
        ValueError: for a source that is no readable adapter, NaN or infinity in a factor, an unknown gauge, or factors
            none of which can be stored balanced.
    """
    if gauge not in GAUGES:
        raise ValueError(f"gauge must be one of {', '.join(GAUGES)}, not {gauge!r}")
    adapter = read_adapter(source)
    changes = Changes()
    fits = []
    with copied_adapter(adapter, target) as copy:
        for layer in adapter.layers():
            tensors = adapter.weights.read(layer[0].left), adapter.weights.read(layer[0].right)
            for pair in layer:
                changes[pair.name], balanced, fit = _balance_pair(*adapter.stored_factors(pair), pair, tensors, gauge)
                fits.append(fit)
                if not balanced:
                    changes.left.append(pair.name)
            copy.write(layer[0].left, tensors[0])
            copy.write(layer[0].right, tensors[1])
        if len(changes.left) == len(changes) and not all(fits):
            raise ValueError(
                f"no pair of {source} can be balanced: its factors would leave the range of the type they are stored "
                "in; nothing was written"
            )
    return changes


def _balance_pair(
    A: Tensor, B: Tensor, pair: StoredPair, tensors: tuple[Tensor, Tensor], gauge: Gauge
) -> tuple[float, bool, bool]:
    """Balances one pair in its tensors if its product stays what it was, as stored.

    Returns:
        The relative change of the product, whether the pair is balanced now, and whether its type can hold that.
    """
    eps, dtype = storage_eps(*pair.dtypes), torch.promote_types(*pair.dtypes)
    A, B = A.to(dtype), B.to(dtype)
    X, Y = _balanced(A, B, gauge)
    if torch.equal(X, A) and torch.equal(Y, B):
        already = is_balanced(A.double().numpy(), B.double().numpy(), rtol=balance_rtol(eps, A.shape[1]))
        return 0.0, already, already or bool(is_representable(A[None], B[None], X[None], Y[None], *pair.dtypes))
    change, error = product_errors(A, B, X.to(pair.dtypes[0]).to(dtype), Y.to(pair.dtypes[1]).to(dtype))
    if not error <= PRODUCT_RTOL * eps:  # nor if it is NaN
        return 0.0, False, False
    fill(tensors[0], X, "A", pair.expert, pair.experts)
    fill(tensors[1], Y, "B", pair.expert, pair.experts)
    return change, True, True


def _balanced(A: Tensor, B: Tensor, gauge: Gauge) -> tuple[Tensor, Tensor]:
    """The balanced pair, or infinity where finite factors have norms beyond float64."""
    try:
        return balance(A, B, gauge=gauge)
    except ValueError:
        return torch.full_like(A, torch.inf), B
