"""The pairs of a model in training, looked up again only when something on the way to them has changed.

Walking through all modules of a model takes longer than balancing its pairs. But what was found once may not be kept
blindly either: FSDP2 and `accelerate` replace Parameter objects, PEFT adds and deletes adapters, users swap layers.
So every call follows the way from the model to each parameter, which is a few dictionary entries.
"""

from operator import is_
from typing import Any

from torch import Tensor, nn

from lorakappa.llm.adapters.factors import PEFT_NAMES
from lorakappa.llm.adapters.pairs import LoraPair, lora_layers, lora_pairs, storage


class PairLookup:
    """The pairs of a model, as `lora_pairs` finds them.

    Args:
        model: a PEFT model, or anything that contains one.
        adapter: name of one adapter; None means all of them.

    Raises:
        CannotBalanceError: as `lora_pairs`.
        ValueError: likewise.
    """

    def __init__(self, model: nn.Module, adapter: str | None = None) -> None:
        self._model = model
        self._adapter = adapter
        self._look()

    def __call__(self) -> list[LoraPair]:
        """The pairs as they are now: the same list as before if nothing has changed."""
        if not self._is_current():
            self._look()
        return self._pairs

    def _look(self) -> None:
        self._pairs = lora_pairs(self._model, self._adapter)
        self._entries: list[tuple[dict[str, Any], str, object]] = []
        self._whole: list[dict[str, Any]] = []
        for name, layer in lora_layers(self._model):
            self._remember_way(name)
            for side in (side for sides in PEFT_NAMES for side in sides):
                for module in getattr(layer, side).modules():
                    self._remember(module._modules)
                    self._remember(module._parameters)
        # by columns: what is compared at every call is compared without a line of Python for each
        self._parents, self._keys, self._children = zip(*self._entries, strict=True)
        self._sizes = list(map(len, self._whole))
        # each parameter once; a pair of experts shares its own
        factors = {id(factor): factor for pair in self._pairs for factor in (pair.left, pair.right)}
        self._factors = list(factors.values())
        self._states = list(map(_state, self._factors))

    def _remember_way(self, name: str) -> None:
        """Notes which module is found under each part of a dotted name."""
        module = self._model
        for part in name.split(".") if name else []:
            child = module._modules[part]
            assert child is not None
            self._entries.append((module._modules, part, child))
            module = child

    def _remember(self, children: dict[str, Any]) -> None:
        """Notes what a dictionary holds, and that it holds nothing else."""
        self._entries += [(children, key, child) for key, child in children.items()]
        self._whole.append(children)

    def _is_current(self) -> bool:
        return (
            all(map(is_, map(dict.get, self._parents, self._keys), self._children))
            and list(map(len, self._whole)) == self._sizes
            and list(map(_state, self._factors)) == self._states
        )


def _state(factor: Tensor) -> object:
    """What may change of a Parameter while it stays the same object."""
    return storage(factor), factor.requires_grad, factor.dtype, factor.shape
