"""Files written whole or not at all: into a hidden temporary beside the target, which then takes its place.

A symbolic link is followed, so that the file it names is replaced and not the link. What is no regular file (a device,
a pipe, a socket, a folder) is refused. A temporary is locked while it is written: one without a lock was left by a
process that was killed, and goes at the next write of the same file.
"""

import contextlib
import errno
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform != "win32":
    import fcntl

LONGEST_NAME = 200
"""Bytes of a name up to which the temporary's is made of it; file systems end at about 255."""

PART = ".part"
"""How the name of a temporary ends."""


def ensure_writable(path: str | os.PathLike[str]) -> None:
    """Checks that a file can be written: before long work, not after it.

    Args:
        path: the file to be written later.

    Raises:
        OSError: if the folder cannot be created or written, or the path is no regular file, or a read-only one.
    """
    target = _target(path)
    with _folder(target.parent) as folder:
        with _named(folder, "cannot write into {path}: {why}"), tempfile.TemporaryFile(dir=folder):
            pass
        _target(path)  # now that the folder is there, whether its file system takes the name


def ensure_folder(folder: str | os.PathLike[str]) -> None:
    """Checks that files can be written into a folder, creating it for the check only: before long work, not after.

    Args:
        folder: the folder for files to be written later; it need not exist, and is left as it was.

    Raises:
        OSError: if it cannot be created or written.
    """
    with (
        _folder(Path(folder)) as path,
        _named(path, "cannot write into {path}: {why}"),
        tempfile.TemporaryFile(dir=path),
    ):
        pass


def write_whole(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> Path:
    """Writes a file in one piece.

    An existing file keeps its permissions, a new one gets those that the process gives to new files.

    Args:
        path: file to write; its folder is created.
        write: writes the contents to a stream.

    Returns:
        The path.

    Raises:
        OSError: naming the file, if it cannot be written or is no regular one; whatever was there is untouched.
    """
    with whole_file(path) as (_, stream):
        write(stream)
    return Path(path)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[tuple[Path, IO[bytes]]]:
    """As `write_whole`, for what has to be read again before it takes its place.

    Args:
        path: file to write; its folder is created.

    Yields:
        A temporary file beside it, by name and as a stream; it becomes the file where the block succeeds.

    Raises:
        OSError: naming the file, if it cannot be written or is no regular one; whatever was there is untouched.
    """
    target = _target(path)
    with _named(target.parent, "cannot write into {path}: {why}"):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _named(path, "cannot write {path}: {why}"):
        _remove_leftovers(target)
        with _temporary(target) as (temporary, stream):
            yield temporary, stream
            stream.flush()
            _to_disk(stream)
            _keep_owner_and_mode(stream, target)
            os.replace(temporary, target)


def _target(path: str | os.PathLike[str]) -> Path:
    """The file that a path names, links followed, if it can be replaced by another one.

    Raises:
        OSError: if it is no regular file, read-only, or where standard output goes.
    """
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "a name cannot contain the character 0", os.fspath(path).replace("\0", "�"))
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):  # of the folder, its own check says more
        return Path(os.path.realpath(path))
    except OSError as error:
        raise OSError(error.errno, f"cannot write {os.fspath(path)}: {_why(error)}") from None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{os.fspath(path)} is a folder; name a file to write")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{os.fspath(path)} is {_kind(found.st_mode)} and no file; name a file to write")
    if any(os.path.samestat(found, stream) for stream in _standard_streams()):
        raise OSError(f"{os.fspath(path)} is where the output of this command goes; name another file to write")
    if not os.access(path, os.W_OK):
        raise PermissionError(f"cannot write {os.fspath(path)}: it is read-only")
    return Path(os.path.realpath(path))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def _standard_streams() -> Iterator[os.stat_result]:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # none, closed, or without a descriptor
            yield os.fstat(stream.fileno())


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A folder that is there inside, and as it was outside."""
    missing = [parent for parent in (path, *path.parents) if not parent.exists()]
    try:
        with _named(path, "cannot write into {path}: {why}"):
            path.mkdir(parents=True, exist_ok=True)
        yield path
    finally:
        for created in missing:
            with contextlib.suppress(OSError):  # never made, or filled by somebody else
                created.rmdir()


@contextmanager
def _named(path: str | os.PathLike[str], message: str) -> Iterator[None]:
    """Context whose OSErrors say which file or folder they are about."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # one of those that name it already
            raise
        raise OSError(error.errno, message.format(path=os.fspath(path), why=_why(error))) from None


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def stem(target: Path) -> str:
    """What the names of the temporaries of a file or folder have in common."""
    import hashlib

    name = os.fsencode(target.name)
    return target.name if len(name) <= LONGEST_NAME else hashlib.sha256(name).hexdigest()[:16]


@contextmanager
def _temporary(target: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new, locked file beside the target; it is gone afterwards unless it was renamed."""
    while True:
        path = target.with_name(f".{stem(target)}.{os.urandom(4).hex()}{PART}")
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            continue
        with os.fdopen(handle, "w+b") as stream:
            if not lock(handle) or is_open(path, handle):  # or somebody tidied up before it was locked
                try:
                    yield path, stream
                finally:
                    if is_open(path, handle):  # not yet renamed; unlinked under the lock, so that no other one goes
                        path.unlink(missing_ok=True)
                return


def lock(handle: int, *, wait: bool = True) -> bool:
    """Locks an open file or folder; False if it is locked elsewhere, or there are no locks: then leftovers stay."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def is_open(path: Path, handle: int) -> bool:
    """Whether a descriptor is of what a path names now."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def is_temporary(name: str, target: Path) -> bool:
    """Whether a name is that of a temporary of a file or folder."""
    return re.fullmatch(rf"\.{re.escape(stem(target))}\.[a-z0-9_]{{8}}{re.escape(PART)}", name) is not None


def _remove_leftovers(target: Path) -> None:
    """Removes the temporaries of writes of this file that nobody is at any more."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(target.parent):
            if is_temporary(entry.name, target) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    handle = os.open(entry.path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
                    try:
                        if lock(handle, wait=False):
                            os.unlink(entry.path)
                    finally:
                        os.close(handle)


def _to_disk(stream: IO[bytes]) -> None:
    try:
        os.fsync(stream.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # file systems that cannot
            raise


def _keep_owner_and_mode(stream: IO[bytes], target: Path) -> None:
    """Gives a new file the permissions, and where possible the owner, of the one whose place it takes."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        return
    new = os.fstat(stream.fileno())
    if hasattr(os, "fchown") and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(stream.fileno(), old.st_uid, old.st_gid)
    if hasattr(os, "fchmod"):
        os.fchmod(stream.fileno(), stat.S_IMODE(old.st_mode))
