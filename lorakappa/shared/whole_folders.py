"""Folders written whole or not at all, as `whole_files` does with files: beside the target first, under a lock."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lorakappa.shared.whole_files import PART, is_open, is_temporary, lock, stem


def final_folder(target: str | os.PathLike[str]) -> Path:
    """The folder that a target names, behind any link, checked before any work.

    Args:
        target: folder to write; must not exist or be empty.

    Returns:
        For `whole_folder`.

    Raises:
        OSError: if it is in use, or cannot be replaced by a new folder.
    """
    final = Path(os.path.realpath(target))
    if final.is_symlink():
        raise OSError(f"{target} is a link that leads in a circle; nothing was written")
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise FileExistsError(f"{target} exists and is not an empty folder; nothing was written")
    if final.exists() and (os.path.ismount(final) or final.samefile(os.curdir)):
        what = "a mount point" if os.path.ismount(final) else "the current folder"
        raise OSError(f"{target} is {what}, which a whole new folder cannot take the place of; name a folder inside it")
    return final


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A temporary folder beside the final one, renamed to it where the block succeeds and removed where it fails.

    What writes killed earlier have left beside it is removed first.

    Args:
        final: as `final_folder` gives it.

    Yields:
        The temporary folder, to be filled.

    Raises:
        OSError: if it cannot be written, naming the final folder or file.
    """
    created = [parent for parent in final.parents if not parent.exists()]
    temporary, handle, done = final, None, False
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(final)
        temporary, handle = _locked_folder(final)
        yield temporary
        temporary.chmod(0o755)
        if os.name == "nt" and final.exists():
            final.rmdir()
        temporary.rename(final)  # also over an empty folder
        done = True
    except OSError as error:
        if error.errno is None:
            raise
        said = (error.strerror or "").replace(str(temporary), str(final))
        if said and said != error.strerror:  # it names its file already, as those of `whole_files` do
            raise OSError(error.errno, said) from error
        raise OSError(error.errno, said, str(_place(error, temporary, final))) from error
    finally:
        if temporary is not final:
            shutil.rmtree(temporary, ignore_errors=True)
        if handle is not None:
            os.close(handle)
        for parent in created if not done else ():
            with suppress(OSError):  # somebody else's by now
                parent.rmdir()


def _place(error: OSError, temporary: Path, final: Path) -> Path:
    """The file that an error is about, by the name it was to have rather than that of its temporary place."""
    names = [Path(name) for name in (error.filename2, error.filename) if isinstance(name, str | os.PathLike)]
    inside = [final / name.relative_to(temporary) for name in names if name.is_relative_to(temporary)]
    beside = [final for name in names if name.parent == final.parent]
    return [*inside, *beside, *reversed(names), final][0]


def _locked_folder(final: Path) -> tuple[Path, int | None]:
    """A new folder beside the final one, with a lock that ends with this process, however it ends."""
    while True:
        path = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{stem(final)}.", suffix=PART))
        with suppress(FileNotFoundError):  # somebody took it for abandoned before it was locked
            handle = _opened(path)
            if handle is None or not lock(handle) or is_open(path, handle):
                return path, handle
            os.close(handle)


def _opened(folder: str | os.PathLike[str]) -> int | None:
    """A descriptor of a folder, to lock it; None on systems where folders have none."""
    return None if sys.platform == "win32" else os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)


def _remove_leftovers(final: Path) -> None:
    """Removes the temporary folders of writes of this folder that nobody is at any more."""
    with suppress(OSError):
        for entry in os.scandir(final.parent):
            if is_temporary(entry.name, final) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    if (handle := _opened(entry.path)) is not None:
                        try:
                            if lock(handle, wait=False):
                                shutil.rmtree(entry.path, ignore_errors=True)
                        finally:
                            os.close(handle)
