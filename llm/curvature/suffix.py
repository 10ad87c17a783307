"""The part of a model's forward pass that depends on one module: the blocks before it run once, not every time.

The Hessian of a loss in one layer's factors is known by products, each of which would run the whole network. But what
the blocks before the layer put out does not depend on its factors, and of the logits only those that predict a label
count. `Suffix` records the former and skips it, and hands the last layer the positions of the latter only. It does so
by replacing `forward` of modules for the length of one call, so that it needs to know nothing of the architecture but
that its blocks are the children of a `ModuleList`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn


class Suffix:
    """What of a model's forward pass, on one batch, depends on one of its modules.

    Args:
        model: causal language model, with or without PEFT.
        name: of one of the module's parameters, dotted. PEFT's layer that owns the parameter counts as the module.

    Attributes:
        head: the module whose outputs are the logits; None where the model does not tell.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        self._module = _layer(model, name)
        self._blocks = _blocks(model, name)
        self.head = _head(model)
        self._outputs: dict[nn.Module, Any] = {}

    @property
    def skipped(self) -> int:
        """Number of blocks that no longer run."""
        return len(self._outputs)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """The forward pass within is the whole one; it shows which blocks come before the module, and their outputs.

        A block counts if it has run, once, before the module does for the first time. A block that runs again (as in
        models that share weights over depth) does not: its later outputs depend on the module.
        """
        seen: dict[nn.Module, list[Any]] = {block: [] for block in self._blocks}
        before: set[nn.Module] = set()
        reached = False

        def note(block: nn.Module, _: Any, output: Any) -> None:
            seen[block].append(output)
            if not reached:
                before.add(block)

        def reach(*_: Any) -> None:
            nonlocal reached
            reached = True

        handles = [block.register_forward_hook(note) for block in self._blocks]
        handles.append(self._module.register_forward_pre_hook(reach))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if reached:
            self._outputs = {block: seen[block][0] for block in before if len(seen[block]) == 1}

    @contextmanager
    def running(self, rows: Tensor, shape: tuple[int, int]) -> Iterator[None]:
        """The forward pass within skips what was recorded, and has the logits of some positions only.

        Args:
            rows: (N,) flat positions.
            shape: (n, length) of the batch.
        """
        handles = []
        own = {block: block.__dict__.get("forward") for block in self._outputs}
        if self.head is not None:

            def select(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
                hidden, *others = inputs
                return (hidden.flatten(0, 1).index_select(0, rows)[None], *others)

            handles.append(self.head.register_forward_pre_hook(select))
        try:
            for block, output in self._outputs.items():
                block.forward = _constant(output)
            yield
        finally:
            for handle in handles:
                handle.remove()
            for block, forward in own.items():
                if forward is None:
                    block.__dict__.pop("forward", None)
                else:
                    block.forward = forward

    def logits(self, output: Tensor, rows: Tensor) -> Tensor:
        """(N, V) logits of the positions, from what the model returns within `running`."""
        flat = output.flatten(0, 1)
        return flat if self.head is not None else flat.index_select(0, rows)


def _constant(output: Any) -> Any:
    return lambda *_, **__: output


def _layer(model: nn.Module, name: str) -> nn.Module:
    """The innermost of PEFT's layers, which have a base layer, around a parameter; the whole model if there is none."""
    parts = name.split(".")
    around = (model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts) - 1, 0, -1))
    return next((module for module in around if hasattr(module, "base_layer")), model)


def _blocks(model: nn.Module, name: str) -> list[nn.Module]:
    """The children of the outermost list of modules that holds the module; none if no list does."""
    parts = name.split(".")
    for depth in range(len(parts)):
        parent = model.get_submodule(".".join(parts[:depth]))
        if isinstance(parent, nn.ModuleList):
            return list(parent)
    return []


def _head(model: nn.Module) -> nn.Module | None:
    """The module whose outputs are the logits; None where the model does not tell."""
    with suppress(AttributeError, NotImplementedError):
        head = model.get_output_embeddings()  # type: ignore[operator]
        return head if isinstance(head, nn.Module) else None
    return None
