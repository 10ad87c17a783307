"""What a fine-tune leaves on disk when it fails: the checkpoint that it goes on from, and nothing else."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def nothing_left(work: Path) -> Iterator[None]:
    """Context of a training whose folder for checkpoints does not outlive a failure, unless there is a checkpoint.

    Args:
        work: the folder; it, and the folders it lies in, are removed again if the training made them for nothing.
    """
    made = [folder for folder in (work, *work.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        if not any(work.glob("checkpoint-*")):
            shutil.rmtree(work, ignore_errors=True)
            for folder in made[1:]:  # innermost first
                try:
                    folder.rmdir()
                except OSError:
                    break
        raise


def save_adapter(model: Any, folder: Path, **options: Any) -> None:
    """PEFT's `save_pretrained`, whole or not at all: what lay in the folder is replaced file by file at the end.

    Args:
        model: of PEFT.
        folder: to write; created if need be.
        options: of `save_pretrained`.

    Raises:
        OSError: if it cannot be written.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        model.save_pretrained(str(temporary), **options)
        folder.mkdir(exist_ok=True)
        for file in sorted(temporary.iterdir()):
            if file.is_file():
                file.chmod(0o644)
            os.replace(file, folder / file.name)
    except BaseException:
        _remove(temporary)
        for parent in made:  # innermost first
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise
    _remove(temporary)


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
