"""Folders that are written whole or not at all, and links that lead out of a folder."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PART = ".part"


def final_folder(target: Path) -> Path:
    """The folder that a target names, behind any link, checked before any work.

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

    Raises:
        OSError: if it cannot be written, naming the final folder or file.
    """
    created = [parent for parent in final.parents if not parent.exists()]
    temporary, lock, done = final, None, False
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{final.name.encode()[:100].decode(errors='ignore')}."
        _remove_abandoned(final.parent, prefix)
        temporary, lock = _locked_folder(final.parent, prefix)
        yield temporary
        temporary.chmod(0o755)
        if os.name == "nt" and final.exists():
            final.rmdir()
        temporary.rename(final)  # also over an empty folder
        done = True
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(_place(error, temporary, final))) from error
    finally:
        if temporary is not final:
            shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)
        for parent in created if not done else ():
            with suppress(OSError):  # somebody else's by now
                parent.rmdir()


def files_to_carry(folder: Path) -> list[Path]:
    """The files of a folder, without its folders, pipes, devices and sockets; links only where they stay inside.

    A link may lead to a file in the folder or, in a snapshot of the Hugging Face Hub, to that repository's blobs.

    Raises:
        OSError: naming a link that leads elsewhere or nowhere: what it leads to is nobody's to publish by accident.
    """
    home = Path(os.path.realpath(folder))
    allowed = [home, *(parent.parent / "blobs" for parent in home.parents if parent.name == "snapshots")]
    files = []
    for file in sorted(folder.iterdir()):
        end = Path(os.path.realpath(file))
        if file.is_symlink() and not end.exists():
            raise FileNotFoundError(f"{file} is a link to nowhere; remove it or restore {end}")
        if not file.is_file():
            continue
        if file.is_symlink() and not any(end.is_relative_to(root) for root in allowed):
            raise PermissionError(
                f"{file} is a link to {end}, outside of the adapter's folder; put a copy in its place or remove it"
            )
        files.append(file)
    return files


def _place(error: OSError, temporary: Path, final: Path) -> Path:
    """The file that an error is about, by the name it was to have rather than that of its temporary place."""
    names = [Path(name) for name in (error.filename2, error.filename) if isinstance(name, str | os.PathLike)]
    inside = [final / name.relative_to(temporary) for name in names if name.is_relative_to(temporary)]
    beside = [final for name in names if name.parent == final.parent]
    return [*inside, *beside, *reversed(names), final][0]


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int | None]:
    """A new folder with a lock that ends with this process, however it ends."""
    while True:
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=prefix, suffix=PART))
        try:
            return temporary, _lock(temporary)
        except (BlockingIOError, FileNotFoundError):  # somebody took it for abandoned before it was locked
            continue


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Removes temporary folders whose writer is no more: nobody holds their lock."""
    ours = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}" + re.escape(PART))
    for entry in parent.iterdir():
        if ours.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
            with suppress(OSError):
                if (lock := _lock(entry)) is not None:
                    shutil.rmtree(entry, ignore_errors=True)
                    os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None where there are no locks.

    Raises:
        BlockingIOError: if another holds it.
        FileNotFoundError: if the folder has just been removed.
    """
    try:
        import fcntl
    except ImportError:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(descriptor), folder.stat()):
            raise FileNotFoundError(folder)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None
    return descriptor
