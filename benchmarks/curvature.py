"""The curvature of one layer: products with its Hessian, and its leading eigenvalues, against how one writes them.

Peers: `torch.func.jvp` of `torch.func.grad`, and `torch.autograd.functional.hvp`, of the loss of the whole model;
SciPy's `eigsh` on such products; `torch.func.hessian` and a dense eigendecomposition, where d permits it. The models:
the tiny one that comes with the package, in float64, and a random Llama of 135 M parameters in float32.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from compare import Goal, Row, measure  # a sibling script
from large_adapter import adapted, large_model  # likewise
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from lorakappa.llm.adapters.pairs import lora_pairs
from lorakappa.llm.curvature.lanczos import extremes
from lorakappa.llm.curvature.layer_loss import LayerLoss, differentiable
from lorakappa.llm.curvature.loading import validation_batch
from lorakappa.llm.data.models import load_model
from lorakappa.llm.data.sources import MATHEMATICS, load_splits

THREADS = 2


def rows(quick: bool = False) -> list[Row]:
    """Eigenvalues of the tiny model's layer, and products of the large model's.

    Args:
        quick: one round, and one layer of the large model.

    Returns:
        The rows.
    """
    return [*_tiny_rows(), *_large_rows(1 if quick else 2, (15,) if quick else (15, 29))]


def _tiny_rows() -> Iterator[Row]:
    base, tokenizer = load_model("tiny", dtype="float32")
    count = 8
    with _layer(base, tokenizer, "layers.1.", r=1, double=True) as (loss, whole):

        def ours() -> Any:
            products = _numpy(lambda V: loss.hessian_products(loss.point, V), loss.point)
            return extremes(
                products, loss.d, count, smallest=False, accuracy=1e-8, noise=np.finfo(float).eps, seed=0
            ).leading

        def arpack() -> Any:
            product = _numpy(lambda V: _jvp_of_grad(whole, loss.point, V[0])[None], loss.point)
            operator = LinearOperator((loss.d, loss.d), matvec=lambda v: product(v.reshape(1, -1))[0], dtype=float)
            start = np.random.default_rng(0).standard_normal(loss.d)
            return eigsh(operator, k=count, which="LA", tol=1e-8, v0=start, return_eigenvectors=False)

        def dense() -> Any:
            return torch.linalg.eigvalsh(torch.func.hessian(whole)(loss.point))

        calls = {"lanczos": ours, "eigsh of jvp(grad)": arpack, "hessian + eigh": dense}
        yield Row(
            "leading eigenvalues of a layer's Hessian",
            f"tiny model, k_proj, d = {loss.d}, {count} eigenvalues, float64",
            measure(calls, rounds=1, threads=THREADS),  # one round: 56 products of the peer take long enough
            (Goal(2, "eigsh of jvp(grad)"), Goal(2, "hessian + eigh")),
            threads=THREADS,
        )


def _large_rows(rounds: int, layers: tuple[int, ...]) -> Iterator[Row]:
    _, tokenizer = load_model("tiny")
    base = large_model()
    for number in layers:
        with _layer(base, tokenizer, f"layers.{number}.", r=8, double=False) as (loss, whole):
            v = torch.randn(loss.d, generator=torch.Generator().manual_seed(0))
            loss.hessian_products(loss.point, v[None])  # keeps the graph
            calls = {
                "kept graph": partial(loss.hessian_products, loss.point, v[None]),
                "jvp(grad)": partial(_jvp_of_grad, whole, loss.point, v),
                "autograd.functional.hvp": partial(torch.autograd.functional.hvp, whole, loss.point, v),
            }
            yield Row(
                "a product with a layer's Hessian",
                f"Llama of 135 M, k_proj of block {number} of 30, d = {loss.d}, float32",
                measure(calls, rounds=rounds, threads=THREADS),
                (Goal(2, "jvp(grad)"), Goal(2, "autograd.functional.hvp")),
                threads=THREADS,
            )


@contextmanager
def _layer(
    base: Any, tokenizer: Any, part: str, *, r: int, double: bool
) -> Iterator[tuple[LayerLoss, Callable[[Tensor], Tensor]]]:
    """The loss of two questions in k_proj of one block, ours and through the whole model."""
    model = adapted(base, r)
    splits = load_splits(MATHEMATICS, train=1, validation=2, test=1, seed=0)
    batch = validation_batch(splits, tokenizer, torch.device("cpu"))
    weights = {n: p.detach().double() if double else p.detach() for n, p in model.named_parameters()}
    pair = next(pair for pair in lora_pairs(model) if part in pair.name)
    with differentiable(model):
        loss = LayerLoss(model, weights, pair, batch)
        size = loss.a * loss.r

        def whole(x: Tensor) -> Tensor:
            factors = {
                loss.left: x[:size].reshape(pair.left.shape),
                loss.right: x[size:].reshape(pair.right.shape),
            }
            output: Tensor = torch.func.functional_call(model, {**weights, **factors}, (), batch).loss
            return output

        yield loss, whole
    model.unload()


def _jvp_of_grad(value: Callable[[Tensor], Tensor], x: Tensor, v: Tensor) -> Tensor:
    product: Tensor = torch.func.jvp(torch.func.grad(value), (x,), (v,))[1]
    return product


def _numpy(products: Callable[[Tensor], Tensor], like: Tensor) -> Callable[[Any], Any]:
    return lambda V: products(torch.from_numpy(V).to(like)).detach().double().numpy()
