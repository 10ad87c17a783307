"""The loss of a language model as a function of the factors of one of its LoRA layers, and its derivatives.

All other weights are constants, and the model's own parameters stay as they are. `LayerLoss` gives the gradient and
products with the Hessian and the GGN, by automatic differentiation; `llm.curvature.spectra` makes spectra of them.
Only what depends on the layer runs (`llm.curvature.suffix`), and at one point it runs once: the graph of the gradient
is kept, so that a product is one pass back through it, two multiplications for each weight matrix above the layer,
where differentiating anew takes four, through all of them. What differentiation needs (evaluation mode, attention with
second derivatives, float64 that no layer narrows) is set by `differentiable`, within which all of it is to be called.
The layer is taken as PEFT computes it; DoRA's norm, which PEFT detaches, counts as constant.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from lorakappa.llm.adapters.pairs import LoraPair
from lorakappa.llm.curvature.suffix import Suffix
from lorakappa.llm.data.tokens import IGNORED


class LayerLoss:
    """The loss as a function of the factors of one layer, x = (vec A, vec B) row-major, and its derivatives.

    Attributes:
        a: rows of A.
        r: columns of A.
        b: columns of B.
        point: (d,) the factors in the model.
        tokens: number N of labelled tokens.
        vocabulary: number V of logits.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Mapping[str, Tensor],
        pair: LoraPair,
        batch: Mapping[str, Tensor],
        chunk: int = 32,
    ) -> None:
        self.model, self.weights, self.pair, self.chunk = model, weights, pair, chunk
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.left, self.right = names[id(pair.left)], names[id(pair.right)]
        (self.a, self.r), self.b = pair.A.shape, pair.B.shape[1]
        factors = weights[self.left], weights[self.right]
        self.point = torch.cat([factor.reshape(-1) for factor in factors])
        self.inputs, self.rows, self.targets = prepared(batch, self.point.device)
        self.tokens = len(self.rows)
        self.suffix = Suffix(model, self.left)
        with torch.no_grad():
            with self.suffix.recording():
                self._output(self.point)
            logits = self.logits(self.point)
        self._linearized: _Linearized | None = None
        self.vocabulary = logits.shape[-1]
        if int(self.targets.max()) >= self.vocabulary or int(self.targets.min()) < 0:
            raise ValueError(f"labels must be {IGNORED} or lie between 0 and {self.vocabulary - 1}, the last logit")
        if not bool(logits.isfinite().all()):
            raise ValueError("the model's logits contain NaN or infinity; there is no curvature to compute")

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.r * (self.a + self.b)

    def logits(self, x: Tensor) -> Tensor:
        """(N, V) logits that predict the labelled tokens."""
        length = self.inputs["input_ids"].shape
        with self.suffix.running(self.rows, (length[0], length[1])):
            return self.suffix.logits(self._output(x), self.rows)

    def value(self, x: Tensor) -> Tensor:
        """Mean cross-entropy of the labelled tokens."""
        return nn.functional.cross_entropy(self.logits(x), self.targets)

    def gradient(self, x: Tensor) -> Tensor:
        """(d,) gradient."""
        at = self._at(x)
        return at.gradient.detach() if at.logits.requires_grad else torch.zeros_like(x)

    def hessian_products(self, x: Tensor, V: Tensor) -> Tensor:
        """(n, d) products of the Hessian at x with the rows of V (n, d)."""
        at = self._at(x)
        return self._by_chunks(lambda some: _pulled_back(at.gradient, at.x, some), V)

    def ggn_products(self, x: Tensor, V: Tensor) -> Tensor:
        """(n, d) products of the GGN at x with the rows of V (n, d)."""
        at = self._at(x)
        p = at.logits.detach().softmax(-1)

        def products(some: Tensor) -> Tensor:
            weighted = p * _pulled_back(at.pulled_back, at.cotangent, some)
            return _pulled_back(at.logits, at.x, (weighted - p * weighted.sum(-1, keepdim=True)) / len(p))

        return self._by_chunks(products, V)

    def _output(self, x: Tensor) -> Tensor:
        size = self.a * self.r
        replaced = {
            **self.weights,
            self.left: x[:size].reshape(self.pair.left.shape),
            self.right: x[size:].reshape(self.pair.right.shape),
        }
        logits: Tensor = torch.func.functional_call(
            self.model, replaced, (), {**self.inputs, "use_cache": False}
        ).logits
        return logits

    def _at(self, x: Tensor) -> "_Linearized":
        """The graphs at x, which are kept until another point is asked for."""
        if self._linearized is None or not torch.equal(self._linearized.x, x):
            self._linearized = None  # its memory first
            self._linearized = _Linearized(self, x)
        return self._linearized

    def _by_chunks(self, products: Callable[[Tensor], Tensor], V: Tensor) -> Tensor:
        return torch.cat([products(some) for some in torch.split(V, self.chunk)])


class _Linearized:
    """The graph of the logits z at one point x, and, when they are first needed, of two gradients.

    Attributes:
        x: (d,) the point.
        logits: (N, V) z.
        cotangent: (N, V) u, of which `pulled_back` is linear.
    """

    def __init__(self, loss: LayerLoss, x: Tensor) -> None:
        self._targets = loss.targets
        with torch.enable_grad():
            self.x = x.detach().clone().requires_grad_()
            self.logits = loss.logits(self.x)
        self.cotangent = torch.zeros_like(self.logits).requires_grad_()

    @cached_property
    def gradient(self) -> Tensor:
        """(d,) gradient of the loss, with its graph: pulling v back through it gives the Hessian's product with v."""
        with torch.enable_grad():
            value = nn.functional.cross_entropy(self.logits, self._targets)
            return torch.autograd.grad(value, self.x, create_graph=True)[0]

    @cached_property
    def pulled_back(self) -> Tensor:
        """(d,) Jᵀu, with J the Jacobian of the logits: pulling v back through it to u gives Jv."""
        with torch.enable_grad():
            return torch.autograd.grad(self.logits, self.x, self.cotangent, create_graph=True)[0]


def _pulled_back(output: Tensor, at: Tensor, cotangents: Tensor) -> Tensor:
    """(n, …) products of the transposed Jacobian of an output with n cotangents; its graph is kept."""
    result: Tensor = torch.autograd.grad(output, at, cotangents, retain_graph=True, is_grads_batched=True)[0]
    return result


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and attention that can be differentiated twice and forward."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with sdpa_kernel([SDPBackend.MATH]), _KeepDouble():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def check_attention(model: nn.Module) -> None:
    """Raises ValueError for an implementation of attention without second derivatives."""
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if attention not in (None, "sdpa", "eager"):
        raise ValueError(
            f'{attention} attention has no second derivatives; load the model with attn_implementation="sdpa"'
        )


class _KeepDouble(TorchFunctionMode):
    """Leaves float64 tensors in float64 where a model asks for float32, as norms and attention do."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if func is Tensor.float:
                return args[0]
            args = tuple(_wider(value) for value in args)
            kwargs = {key: _wider(value) for key, value in kwargs.items()}
        return func(*args, **kwargs)


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def prepared(batch: Mapping[str, Tensor], device: torch.device) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The model's inputs, the flat positions whose logits predict a label, and those labels."""
    missing = [key for key in ("input_ids", "labels") if key not in batch]
    if missing:
        raise ValueError(f"the batch has no {' and no '.join(missing)}; it has {', '.join(batch) or 'nothing'}")
    inputs = {key: batch[key].to(device) for key in ("input_ids", "attention_mask") if key in batch}
    labels = batch["labels"].to(device)
    for key, value in inputs.items():
        if value.ndim != 2 or value.shape != labels.shape:
            raise ValueError(f"{key} {tuple(value.shape)} and labels {tuple(labels.shape)} must be (n, length) alike")
    answers = nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
    columns = (answers != IGNORED).any(0).nonzero()[:, 0]
    if not len(columns):
        raise ValueError(f"no token of the batch has a label: all are {IGNORED} (a first token is never predicted)")
    length = int(columns[-1]) + 1  # what comes after the last prediction has no influence on any
    answers = answers[:, :length].flatten()
    rows = (answers != IGNORED).nonzero()[:, 0]
    return {key: value[:, :length] for key, value in inputs.items()}, rows, answers[rows]
