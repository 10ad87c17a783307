"""Adapters written: with the same tensors in their places, or with other factors of any rank; whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lorakappa.llm.adapters.formats import Format
from lorakappa.llm.adapters.formats.diffusers_file import FILE, write_diffusers_file
from lorakappa.llm.adapters.formats.folders import files_to_carry
from lorakappa.llm.adapters.formats.kohya_file import HASHES, write_kohya_file
from lorakappa.llm.adapters.formats.peft_config import CONFIG
from lorakappa.llm.adapters.formats.peft_folder import INDEX, PICKLED, WEIGHTS, write_peft_folder
from lorakappa.llm.adapters.formats.plan import Plan, plan_of
from lorakappa.llm.adapters.formats.reading import read_adapter
from lorakappa.llm.adapters.formats.stored import Adapter, NewFactors, StoredPair
from lorakappa.llm.adapters.formats.weights import WeightsCopy
from lorakappa.shared.whole_files import whole_file
from lorakappa.shared.whole_folders import final_folder, whole_folder

SUFFIX: Final = ".safetensors"
"""End of the name of a file of tensors."""

OWN_FILES: Final = {"peft": (CONFIG, WEIGHTS, PICKLED, INDEX), "diffusers": (FILE, FILE.replace(SUFFIX, ".bin"))}
"""Files of a folder that are the adapter itself, or its tensors in another form, by format."""


@contextmanager
def copied_adapter(adapter: Adapter, target: str | os.PathLike[str]) -> Iterator[WeightsCopy]:
    """Copies an adapter with all its files; inside, tensors of the copy can be written over.

    The target appears where the block succeeds, and nothing does where it fails. Folders inside the source
    (checkpoints, other adapters) are not copied, and links are followed inside the source only, or to the blobs of its
    repository in the Hugging Face cache.

    Args:
        adapter: the adapter.
        target: what to write: for a PEFT adapter a folder that does not exist or is empty, for kohya's a new file that
            ends with .safetensors, for diffusers' either.

    Yields:
        The copy of its tensors.

    Raises:
        OSError: if files cannot be read or written, the target is in use, or a link leads out of the source.
        ValueError: if the source changes meanwhile, or the target has no proper name.
    """
    with _place(adapter, target) as path:
        if adapter.format == "peft":
            shutil.copy2(adapter.path / CONFIG, path.parent / CONFIG)
        yield WeightsCopy(adapter.weights, path, without=HASHES)


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
        target: what to write, as of `copied_adapter`.
        factors: gives the new factors of a pair when its turn comes.
        pairs: what to write; None for the pairs of the adapter. Others, of the same format, may be added.
        check: is given what was written, read again, before it takes its place; raises to prevent that.

    Raises:
        OSError: if files cannot be read or written, the target is in use, or a link leads out of the source.
        ValueError: for what the format cannot express, factors of other shapes, or a source that changes meanwhile.
    """
    with _place(adapter, target) as path:
        write_plan(plan_of(adapter, pairs), factors, path, check)


def write_plan(plan: Plan, factors: NewFactors, path: Path, check: Callable[[Adapter], None] | None = None) -> None:
    """Writes what is planned, and has it checked (errors as of `write_adapter`).

    Args:
        plan: the plan.
        factors: gives the new factors of a pair when its turn comes.
        path: file of the tensors; those of PEFT are called so in a folder of their own.
        check: as of `write_adapter`.
    """
    if plan.format == "peft":
        write_peft_folder(plan, factors, path.parent)
    elif plan.format == "diffusers":
        write_diffusers_file(plan, factors, path)
    else:
        write_kohya_file(plan, factors, path)
    if check is not None:
        check(read_adapter(path.parent if plan.format == "peft" else path))


@contextmanager
def new_place(target: str | os.PathLike[str], format: Format) -> Iterator[Path]:
    """Where the tensors of a new adapter are written, before it takes its place.

    Args:
        target: as of `copied_adapter`.
        format: of what is written.

    Yields:
        The file, alone in a new folder where the target is a folder.

    Raises:
        OSError: if it cannot be written or is in use.
        ValueError: if the target has no proper name.
    """
    target = Path(target)
    if format != "peft" and target.suffix == SUFFIX:
        if os.path.lexists(target):
            raise FileExistsError(f"{target} exists; nothing was written")
        with whole_file(target) as (path, _):
            yield path
    elif format == "kohya":
        raise ValueError(f"{target} does not end with {SUFFIX}: an adapter of kohya's scripts is one such file")
    elif target.suffix == SUFFIX:
        raise ValueError(f"{target} ends with {SUFFIX}, which a file does: an adapter of PEFT is a folder")
    else:
        with whole_folder(final_folder(target)) as folder:
            yield folder / (WEIGHTS if format == "peft" else FILE)


@contextmanager
def _place(adapter: Adapter, target: str | os.PathLike[str]) -> Iterator[Path]:
    """As `new_place`, with the other files of the adapter's folder."""
    files = files_to_carry(adapter.path) if adapter.path.is_dir() else []
    with new_place(target, adapter.format) as path:
        if Path(target).suffix != SUFFIX or adapter.format == "peft":
            for file in files:
                if file.name not in OWN_FILES[adapter.format]:
                    shutil.copy2(file, path.parent / file.name)
        yield path
