"""Balance as data see it: (A, B) with the second moments of what flows through them equal, from a few batches.

A layer maps inputs x to AB·x; let δ be the gradient of the loss by its output, Σ = E xxᵀ and Γ = E δδᵀ over tokens.
Where x and δ are independent, the gradients δ(Bx)ᵀ by A and (Aᵀδ)xᵀ by B have second moments (derived here)

    H_A = tr Γ · BΣBᵀ,    H_B = tr Σ · AᵀΓA,

those of the weighted loss ½‖C(AB − Z)D‖² with CᵀC = Γ and DDᵀ = Σ (`conditioning.weighted`), and `fisher_balance` makes
them equal. Nothing of size b×b is formed: Bx and Aᵀδ are the r numbers between the factors, and tr Σ = E‖x‖². Without
gradients Γ = I is assumed: only the inputs are seen.

One use is before a training that goes on from an adapter, or every so many steps of one; `fisher_balance_after_step`
needs no batches of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lorakappa.conditioning.fisher_gauge import DAMPING
from lorakappa.conditioning.projection_gauges import Gauge
from lorakappa.llm.adapters.balancing import BalanceReport
from lorakappa.llm.adapters.fisher_balancing import FisherBalancing, check_fisher_balancing
from lorakappa.llm.adapters.gradient_moments import DECAY, GradientMoments
from lorakappa.llm.adapters.joining import joined, unwrap_optimizers
from lorakappa.llm.adapters.moments import Moments
from lorakappa.llm.adapters.pairs import LoraPair, check_any_trains, lora_layers, lora_pairs

Output = Literal["identity", "gradient"]
OUTPUTS: tuple[Output, ...] = get_args(Output)


def balance_to_data(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    output: Output = "identity",
    damping: float = DAMPING,
    gauge: Gauge = "symmetric",
    adapter: str | None = None,
    optimizer: Any = None,
    moments: Moments = "keep",
) -> BalanceReport:
    """Brings every trainable pair into the gauge that some batches ask for; the model computes the same function.

    Linear layers are looked at, in evaluation mode. Pairs of others, and those that no batch reaches, are balanced as
    by `balance_model`. Gradients and modes stay as they were.

    Args:
        model: a PEFT model, or anything that contains one.
        batches: what the model is called with: mappings of keywords, tuples of arguments, or single arguments. Tokens
            that an `attention_mask` leaves out do not count.
        output: "identity" sees the inputs alone; "gradient" also what the loss says of each layer's output, and needs
            batches for which the model returns a `loss`.
        damping: δ > 0: what pulls towards balance (`conditioning.fisher_balance`).
        gauge: which of the pairs that have these second moments.
        adapter: name of one adapter; None means all that train.
        optimizer: whose state to carry along, or a list of them; needed unless `moments` is "keep".
        moments: what becomes of the optimizer's moments of these factors (`llm.adapters.moments`).

    Returns:
        What was done, as of `balance_model`.

    Raises:
        CannotBalanceError: for layers that `lora_pairs` refuses, and pairs of whose moments the optimizer has half.
        TypeError: if the damping is no number.
        ValueError: on a bad option, no LoRA layer that trains, no batch, or no loss for `output="gradient"`;
            NonFiniteError on NaN or infinity in a factor or in what flows through it.
    """
    check_fisher_balancing(damping, DECAY, 1, gauge, moments)
    if output not in OUTPUTS:
        raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, not {output!r}")
    pairs = lora_pairs(model, adapter)
    check_any_trains(pairs)
    watch = _Watch(model, pairs, output)
    with watch.running():
        count = sum(watch.see(batch) for batch in batches)
    if not count:
        raise ValueError("there is no batch to balance to")
    means = GradientMoments([])
    work = FisherBalancing(pairs, means, damping=damping, gauge=gauge, moments=moments)
    for flow in watch.flows:
        if flow.tokens:
            means.write([flow.pair], flow.moments(output)[None])
    return work(None if optimizer is None else joined(unwrap_optimizers(optimizer)))


class _Flow:
    """What flows through one pair, summed over tokens.

    Attributes:
        pair: which.
        inner: PEFT's module that holds B, and gives Bx.
        outer: the one that holds A.
        tokens: how many.
        inputs: Σ‖x‖².
        hidden: (r, r) ΣBx(Bx)ᵀ.
        outputs: Σ‖δ‖², in units of the adapter's scaling.
        backward: (r, r) ΣAᵀδ(Aᵀδ)ᵀ, likewise.
    """

    def __init__(self, pair: LoraPair, inner: nn.Module, outer: nn.Module) -> None:
        r = pair.A.shape[1]
        self.pair, self.inner, self.outer = pair, inner, outer
        self.tokens, self.inputs, self.outputs = 0, 0.0, 0.0
        self.hidden, self.backward = (torch.zeros(r, r, dtype=torch.float64) for _ in range(2))

    def moments(self, output: Output) -> Tensor:
        """(2, r, r) H_A and H_B."""
        inputs, hidden = self.inputs / self.tokens, self.hidden / self.tokens
        if output == "gradient":
            return torch.stack([self.outputs / self.tokens * hidden, inputs * self.backward / self.tokens])
        A = self.pair.A.detach().double().cpu()
        return torch.stack([len(A) * hidden, inputs * A.mT @ A])


class _Watch:
    """Looks at what flows through the pairs of linear layers that are one matrix each.

    Args:
        model: with the pairs.
        pairs: as found by `lora_pairs`.
        output: what of the outputs is seen.

    Attributes:
        flows: of those pairs.
    """

    def __init__(self, model: nn.Module, pairs: list[LoraPair], output: Output) -> None:
        modules = {
            (id(layer.lora_B[key].weight), id(layer.lora_A[key].weight)): (layer.lora_A[key], layer.lora_B[key])
            for _, layer in lora_layers(model)
            for key in layer.lora_A
            if isinstance(layer.lora_A[key], nn.Linear) and isinstance(layer.lora_B[key], nn.Linear)
        }
        self.flows = [
            _Flow(pair, *modules[id(pair.left), id(pair.right)])
            for pair in pairs
            if pair.trainable and pair.experts == 1 and (id(pair.left), id(pair.right)) in modules
        ]
        self._model = model
        self._output = output
        self._mask: Tensor | None = None
        self._passed: list[tuple[_Flow, Tensor, Tensor]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within, the model is in evaluation mode and what flows is seen."""
        modes = {module: module.training for module in self._model.modules()}
        handles = [flow.inner.register_forward_hook(partial(self._on_hidden, flow)) for flow in self.flows]
        if self._output == "gradient":
            handles += [flow.outer.register_forward_hook(partial(self._on_output, flow)) for flow in self.flows]
        try:
            self._model.eval()
            yield
        finally:
            for handle in handles:
                handle.remove()
            for module, mode in modes.items():
                module.training = mode

    def see(self, batch: Any) -> int:
        """Runs the model on a batch; 1, for one batch seen.

        Raises:
            ValueError: if a loss is needed and the model returns none.
        """
        keywords = batch if isinstance(batch, Mapping) else {}
        arguments = () if keywords else batch if isinstance(batch, tuple) else (batch,)
        mask = keywords.get("attention_mask")
        if mask is None and isinstance(keywords.get("input_ids"), Tensor):
            mask = torch.ones_like(keywords["input_ids"])
        self._mask, self._passed = mask, []
        with torch.set_grad_enabled(self._output == "gradient"):
            result = self._model(*arguments, **keywords)
        if self._output == "gradient":
            self._see_gradients(getattr(result, "loss", None))
        return 1

    def _see_gradients(self, loss: Tensor | None) -> None:
        if loss is None:
            raise ValueError('output="gradient" needs batches for which the model returns a loss, such as labels')
        entries = [tensor for _, *both in self._passed for tensor in both]
        gradients = torch.autograd.grad(loss, entries) if entries else ()
        for (flow, _, _), by_hidden, by_output in zip(self._passed, gradients[::2], gradients[1::2], strict=True):
            backward = by_hidden.flatten(0, -2).double()
            flow.backward += (backward.mT @ backward).cpu()
            flow.outputs += float(by_output.double().square().sum())
        self._passed = []

    def _on_hidden(self, flow: _Flow, _: nn.Module, inputs: tuple[Tensor, ...], hidden: Tensor) -> None:
        """Adds what goes in. DoRA's passes of the identity through both factors are not the data's."""
        x, mask = inputs[0].detach(), self._mask
        if mask is not None and mask.shape != x.shape[:-1]:
            return
        if self._output == "gradient":
            self._passed.append((flow, hidden, hidden))
        x, h = x.flatten(0, -2), hidden.detach().flatten(0, -2)
        if mask is not None:
            chosen = mask.flatten().to(x.device) != 0
            x, h = x[chosen], h[chosen]
        h = h.double()
        flow.tokens += len(x)
        flow.inputs += float(x.float().square().sum(dtype=torch.float64))
        flow.hidden += (h.mT @ h).cpu()

    def _on_output(self, flow: _Flow, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Notes A's output beside its input, which `_on_hidden` has noted before."""
        if self._passed and self._passed[-1][0] is flow and self._passed[-1][1] is inputs[0]:
            self._passed[-1] = flow, inputs[0], output
