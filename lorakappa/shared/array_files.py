"""Reads arrays from .npy and .npz files that anybody may have made.

Sizes are taken from the headers and checked against the file and the memory before anything is allocated. Only numbers
and texts are read: no pickles, no structures, no dates.
"""

import errno
import os
import stat
from typing import IO, TYPE_CHECKING, Any

from lorakappa.shared.memory import check_memory, in_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KINDS = "biufcUS"
"""Kinds of dtypes that are read: truth values, numbers, texts."""

CHUNK = 1 << 24
"""Bytes read at a time."""

MAGIC = b"\x93NUMPY"


def read_npz(path: str | os.PathLike[str]) -> "dict[str, NDArray[Any]]":
    """Reads every array of an .npz file (pickled objects are refused).

    Args:
        path: file written by `write_npz` or `numpy.savez`.

    Returns:
        Name to array.

    Raises:
        OSError: if the file cannot be read or is no regular one.
        ValueError: if it is no .npz archive of plain arrays, or is cut short.
        TooLargeError: if the arrays do not fit into memory, before anything is allocated.
    """
    with _open(path) as stream:
        start = stream.read(len(MAGIC))
        if start == MAGIC:
            raise ValueError(f"{os.fspath(path)} holds a single array, not an archive of named ones")
        stream.seek(0)
        return _archive(path, stream)


def read_array(path: str | os.PathLike[str]) -> "NDArray[Any]":
    """Reads the one array of an .npy file, or of an .npz file that holds just one.

    Args:
        path: file written by `numpy.save` or `numpy.savez`.

    Returns:
        The array.

    Raises:
        OSError: if the file cannot be read or is no regular one.
        ValueError: if it holds no plain array, or several, or is cut short.
        TooLargeError: if the array does not fit into memory, before anything is allocated.
    """
    with _open(path) as stream:
        start = stream.read(len(MAGIC))
        stream.seek(0)
        if start == MAGIC:
            return _array(os.fspath(path), stream, os.fstat(stream.fileno()).st_size)
        arrays = _archive(path, stream)
    if len(arrays) != 1:
        raise ValueError(f"{os.fspath(path)} holds {len(arrays)} arrays; exactly one is needed")
    return next(iter(arrays.values()))


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Opens a file for reading; what would block or never end is refused.

    Raises:
        OSError: if it cannot be read or is no regular file.
    """
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(f"{os.fspath(path)} is a folder; name a file to read")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{os.fspath(path)} is no regular file; name a file to read")
    return open(path, "rb")


def _open(path: str | os.PathLike[str]) -> IO[bytes]:
    stream = open_regular(path)
    if not os.fstat(stream.fileno()).st_size:
        stream.close()
        raise ValueError(f"{os.fspath(path)} is empty")
    return stream


def _archive(path: str | os.PathLike[str], stream: IO[bytes]) -> "dict[str, NDArray[Any]]":
    import zipfile

    where = os.fspath(path)
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
            names = [entry.filename.removesuffix(".npy") for entry in entries]
            if len(set(names)) < len(names):
                raise ValueError(f"{where} holds two arrays of one name")
            check_memory(sum(entry.file_size for entry in entries), f"reading {where}")
            arrays = {}
            for name, entry in zip(names, entries, strict=True):
                if not entry.filename.endswith(".npy"):
                    raise ValueError(f"{where} holds {entry.filename!r}, which is no array")
                with archive.open(entry) as member:
                    arrays[name] = _array(f"{name!r} in {where}", member, entry.file_size)
            return arrays
    except (ValueError, MemoryError):
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # that is a place in the file where there is none
            raise OSError(error.errno, error.strerror, where) from None
        raise ValueError(f"{where} is not an .npz archive of arrays: {error}") from None
    except Exception as error:  # whatever zipfile and zlib make of garbage
        raise ValueError(f"{where} is not an .npz archive of arrays: {error or type(error).__name__}") from None


def _array(what: str, stream: IO[bytes], size: int) -> "NDArray[Any]":
    """An array from a stream of so many bytes."""
    import numpy as np

    shape, fortran, dtype = _header(what, stream)
    count = 1
    for length in shape:
        count *= length
    needed = count * dtype.itemsize
    if needed > size:
        claimed = f"{count:,}" if count < 10**15 else f"about 10^{len(str(count)) - 1}"
        raise ValueError(
            f"{what} claims {claimed} entries of {dtype} ({in_words(needed)}), but there are only {in_words(size)}: "
            "it is cut short or damaged"
        )
    check_memory(needed, f"reading {what}")
    flat = np.empty(needed, dtype=np.uint8)
    done = 0
    while done < needed:
        part = stream.read(min(CHUNK, needed - done))
        if not part:
            raise ValueError(f"{what} is cut short: {in_words(done)} of {in_words(needed)} are there")
        flat[done : done + len(part)] = np.frombuffer(part, dtype=np.uint8)
        done += len(part)
    if stream.read(1):  # reading to the end also makes zipfile compare the checksum
        raise ValueError(f"{what} holds more than its header says")
    values = flat.view(dtype) if needed else np.empty(count, dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _header(what: str, stream: IO[bytes]) -> "tuple[tuple[int, ...], bool, np.dtype[Any]]":
    import numpy as np
    from numpy.lib import format

    readers = {(1, 0): format.read_array_header_1_0, (2, 0): format.read_array_header_2_0}
    try:
        version = format.read_magic(stream)
        shape, fortran, dtype = readers[version](stream)
    except Exception as error:  # NumPy parses the header as Python: anything may come of it
        why = "pickled objects" if "allow_pickle" in str(error) else f"no array that NumPy can read: {error}"
        raise ValueError(f"{what} holds {why}") from None
    if dtype.hasobject:
        raise ValueError(f"{what} holds pickled objects, which are not read (allow_pickle)")
    if dtype.kind not in KINDS or dtype.names or dtype.subdtype:
        raise ValueError(f"{what} holds {dtype} entries, neither numbers nor texts")
    possible = all(0 <= length < 2**63 for length in shape) and len(shape) <= 32
    if not possible or (dtype.itemsize == 0 and 0 not in shape):
        raise ValueError(f"{what} has the impossible shape {shape} of {dtype}")
    return shape, fortran, np.dtype(dtype)
