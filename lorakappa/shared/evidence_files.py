"""Evidence as files: records packed, read with care, known by their digest, and conclusions compared with older ones.

What evidence of fine-tunes and of simulations have in common; what their records say is theirs.
"""

import hashlib
import lzma
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 30
"""Of records, unpacked: a file that claims more is not read."""


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def pack(content: bytes) -> bytes:
    """Content in xz's format, as small as it gets; the same bytes for the same content."""
    return lzma.compress(content, preset=9)


def unpacked(file: Path) -> bytes:
    """The content of a file that was written by `pack`.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is damaged or unpacks to more than `MOST_BYTES`.
    """
    try:
        with lzma.open(file) as stream:
            content = stream.read(MOST_BYTES + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{file} is damaged: {error}") from None
    if len(content) > MOST_BYTES:
        raise ValueError(f"{file} unpacks to more than {MOST_BYTES} bytes")
    return content


def refuse(folder: Path, faults: Sequence[str]) -> None:
    """Raises ValueError with the first fault of evidence in a folder, if there is one."""
    if faults:
        raise ValueError(f"{folder}: {faults[0]}" + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""))


def difference(new: Any, old: Any, tolerance: float, name: str = "") -> str | None:
    """Where two conclusions differ, as a line; None if nowhere.

    Args:
        new: JSON-like data.
        old: likewise.
        tolerance: up to which two floats are the same, relatively or absolutely.
        name: of the place, for the line.
    """
    if isinstance(new, dict) and isinstance(old, dict) and new.keys() == old.keys():
        places = (difference(new[key], old[key], tolerance, f"{name}.{key}".lstrip(".")) for key in new)
        return next((place for place in places if place is not None), None)
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        pairs = enumerate(zip(new, old, strict=True))
        places = (difference(a, b, tolerance, f"{name}[{i}]") for i, (a, b) in pairs)
        return next((place for place in places if place is not None), None)
    if isinstance(new, float) and isinstance(old, float | int):
        same = math.isclose(new, old, rel_tol=tolerance, abs_tol=tolerance)
        return None if same else f"{name} is {new:g}, not {old:g}"
    return None if new == old else f"{name} is {new!r}, not {old!r}"
