"""Adapters written: with the same tensors in their places, or with other factors of any rank; whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lorakappa.llm.adapters.formats.folders import files_to_carry
from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import INDEX, PICKLED, WEIGHTS, write_peft_folder
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.stored import Adapter, NewFactors, StoredPair
from lorakappa.llm.adapters.formats.weights import WeightsCopy
from lorakappa.shared.whole_folders import final_folder, whole_folder


@contextmanager
def copied_adapter(adapter: Adapter, target: str | os.PathLike[str]) -> Iterator[WeightsCopy]:
    """Copies an adapter with all its files; inside, tensors of the copy can be written over.

    The target appears where the block succeeds, and nothing does where it fails. Folders inside the source
    (checkpoints, other adapters) are not copied, and links are followed inside the source only, or to the blobs of its
    repository in the Hugging Face cache.

    Args:
        adapter: the adapter.
        target: folder to write; must not exist or be empty.

    Yields:
        The copy of its tensors.

    Raises:
        OSError: if files cannot be read or written, the target is in use, or a link leads out of the source.
        ValueError: if the source changes meanwhile.
    """
    files = [file for file in files_to_carry(adapter.path) if file.name not in (WEIGHTS, PICKLED, INDEX)]
    with whole_folder(final_folder(target)) as folder:
        for file in files:
            shutil.copy2(file, folder / file.name)
        yield WeightsCopy(adapter.weights, folder / WEIGHTS)


def write_adapter(
    adapter: Adapter,
    target: str | os.PathLike[str],
    factors: NewFactors,
    *,
    pairs: list[StoredPair] | None = None,
    check: Callable[[Adapter], None] | None = None,
) -> None:
    """Writes an adapter with other factors, layer by layer, and everything else as it is.

    Ranks and scales may change from layer to layer; configuration, metadata and tensors of α say so. What is written
    is as safe as `copied_adapter`.

    Args:
        adapter: the adapter.
        target: folder to write; must not exist or be empty.
        factors: gives the new factors of a pair when its turn comes.
        pairs: what to write; None for the pairs of the adapter. Others, of the same format, may be added.
        check: is given what was written, read again, before it takes its place; raises to prevent that.

    Raises:
        OSError: if files cannot be read or written, the target is in use, or a link leads out of the source.
        ValueError: for what the format cannot express, factors of other shapes, or a source that changes meanwhile.
    """
    pairs = adapter.pairs if pairs is None else pairs
    files = [file for file in files_to_carry(adapter.path) if file.name not in (CONFIG, WEIGHTS, PICKLED, INDEX)]
    with whole_folder(final_folder(target)) as folder:
        for file in files:
            shutil.copy2(file, folder / file.name)
        write_peft_folder(adapter, pairs, factors, folder)
        if check is not None:
            check(read_adapter(folder))
