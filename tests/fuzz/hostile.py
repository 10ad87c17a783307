"""Strategies for what nobody should pass: texts, numbers, files that are not what their names say."""

import io
import json
import os
import socket
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

TEXTS = [
    "", " ", "0", "-1", "1e999", "nan", "inf", "-inf", "1e-320", "1e308", "-1e308", "1e20", "9223372036854775807",
    "99999999999999999999", "999999999999", "1" * 5000, "½", "٣", "é", "\U0001f600", "[red]x[/red]", "[/x]", "$x^",
    "a\nb", "%s", "{0}", "{", "--", "-", ",", ",,", "a,b", "nan,nan", "1,1", "x=1", "lora:lambda=", "lora@0", "lora@",
    "0x10", "1_0", "True", "None", "a" * 300, "\udcff", "a:b:c", "1:2:0", "1e-300:1e300:1000000000", "auto:999999999",
    "1:1:999999999", ":", "=", "@", "all",
]  # fmt: skip

NUMBERS = [
    "0",
    "-1",
    "nan",
    "inf",
    "-inf",
    "1e308",
    "-1e308",
    "1e-320",
    "5000000",
    "999999999999",
    "99999999999999999999",
    "x",
]

texts = st.one_of(
    st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.text(max_size=12).map(lambda s: s.replace("\0", ""))
)
"""What an option of any type may be given."""


@dataclass(frozen=True)
class File:
    """A file to be made in a case's folder.

    Attributes:
        kind: of `MAKERS`, or "mutated".
        suffix: of its name.
        seed: of what is random in it.
    """

    kind: str
    suffix: str
    seed: int = 0


def _fifo(path, rng):
    os.mkfifo(path)


def _socket(path, rng):
    with socket.socket(socket.AF_UNIX) as made:
        directory = os.getcwd()
        os.chdir(path.parent)  # the path of a socket must be short
        try:
            made.bind(path.name)
        finally:
            os.chdir(directory)


def _npz_that_lies(path, rng):
    """An archive whose array claims 10¹² entries."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (1_000_000, 1_000_000)}
    )
    if path.suffix == ".npy":
        path.write_bytes(header.getvalue() + bytes(64))
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ABZ":
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(64))


def _pickle(path, rng):
    array = np.asarray([{"a": 1}], dtype=object)
    (np.save if path.suffix == ".npy" else np.savez)(path, array)


def _array(path, array):
    (np.save if path.suffix == ".npy" else np.savez)(path, array)


MAKERS = {
    "missing": lambda path, rng: None,
    "folder": lambda path, rng: path.mkdir(),
    "full folder": lambda path, rng: (path.mkdir(), (path / "kept.txt").write_text("kept")),
    "empty": lambda path, rng: path.write_bytes(b""),
    "text": lambda path, rng: path.write_text("not what you think\n1 2 3\n"),
    "binary": lambda path, rng: path.write_bytes(rng.bytes(200)),
    "nul": lambda path, rng: path.write_bytes(bytes(100)),
    "fifo": _fifo,
    "socket": _socket,
    "dangling": lambda path, rng: path.symlink_to("nowhere"),
    "loop": lambda path, rng: path.symlink_to(path.name),
    "lying header": _npz_that_lies,
    "pickle": _pickle,
    "complex": lambda path, rng: _array(path, np.ones((4, 3)) * (1 + 1j)),
    "nan array": lambda path, rng: _array(path, np.full((4, 3), np.nan)),
    "huge array": lambda path, rng: _array(path, np.full((4, 3), 1e300)),
    "tiny array": lambda path, rng: _array(path, np.diag([1e-300, 1e-310, 1e-320])),
    "wrong shape": lambda path, rng: _array(path, np.ones((2, 2, 2))),
    "scalar": lambda path, rng: _array(path, np.float64(3)),
    "no rows": lambda path, rng: _array(path, np.empty((0, 3))),
    "words": lambda path, rng: _array(path, np.asarray(["a", "b"])),
    "null": lambda path, rng: path.write_text("null\n"),
    "deep": lambda path, rng: path.write_text("[" * 100_000 + "]" * 100_000),
    "deep object": lambda path, rng: path.write_text('{"a":' * 100_000 + "1" + "}" * 100_000),
    "list": lambda path, rng: path.write_text("[1, 2, 3]\n"),
    "string": lambda path, rng: path.write_text('"x"\n'),
    "big number": lambda path, rng: path.write_text('{"prompt": ' + "9" * 5000 + ', "completion": 1e999}\n'),
    "bom": lambda path, rng: path.write_bytes(b"\xef\xbb\xbf" + b'{"prompt": "a", "completion": "b"}\n' * 3),
    "utf-16": lambda path, rng: path.write_bytes('{"prompt": "a", "completion": "b"}\n'.encode("utf-16")),
    "latin": lambda path, rng: path.write_bytes('{"prompt": "é", "completion": "b"}\n'.encode("latin-1")),
    "gzip": lambda path, rng: path.write_bytes(b"\x1f\x8b\x08" + rng.bytes(100)),
    "mixed": lambda path, rng: path.write_text(
        '{"prompt": "a", "completion": "b"}\n{"prompt": [1], "completion": {}}\n'
    ),
    "nulls": lambda path, rng: path.write_text('{"prompt": "a", "completion": "b"}\nnull\n{"prompt": null}\n'),
    "wide": lambda path, rng: path.write_text(",".join(f"c{i}" for i in range(20_000)) + "\n"),
    "constants": lambda path, rng: path.write_text('{"prompt": NaN, "completion": Infinity}\n'),
    "surrogate": lambda path, rng: path.write_text('{"prompt": "\\ud800", "completion": "\\udfff"}\n' * 40),
}
"""By kind: makes the file at a path."""


def files(suffix, kinds=tuple(MAKERS)):
    """Any of the files that are wrong."""
    usable = [kind for kind in kinds if suffix in (".npy", ".npz") or kind not in ARRAYS]
    return st.builds(File, st.sampled_from(usable), st.just(suffix), st.integers(0, 1000))


ARRAYS = {
    "lying header", "pickle", "complex", "nan array", "huge array", "tiny array", "wrong shape", "scalar", "no rows",
    "words",
}  # fmt: skip


def make(file, path):
    """Makes a file at a path and returns the path as an argument."""
    MAKERS[file.kind](path, np.random.default_rng(file.seed))
    return path.name


JUNK = [
    None, True, [], {}, [[]], "", "x", -1, 0, 1.5, 1e308, "nan", "inf", "1/0", "1e999999999", [None], [1, "a"],
    {"a": 1}, "[/x]", "$x^", "\ud800", "a" * 2000, list(range(3)), 10**30,
]  # fmt: skip


def mutate_json(value, rng):
    """The value with one entry, at any depth, replaced by junk, removed, doubled or renamed."""
    paths = list(_paths(value))
    path = paths[rng.integers(len(paths))]
    if not path:
        return JUNK[rng.integers(len(JUNK))]
    copied = json.loads(json.dumps(value))
    place = copied
    for key in path[:-1]:
        place = place[key]
    action = rng.integers(4)
    if action == 0:
        del place[path[-1]]
    elif action == 1 and isinstance(place, dict):
        place[f"{path[-1]}x"] = place.pop(path[-1])
    elif action == 1:
        place.append(place[path[-1]])
    else:
        place[path[-1]] = JUNK[rng.integers(len(JUNK))]
    return copied


def _paths(value, path=()):
    yield path
    if len(path) < 6 and isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(min(len(value), 4)):
            yield from _paths(value[key], (*path, key))


def mutate_bytes(content, rng):
    """The bytes cut short, with some changed, or doubled."""
    action = rng.integers(4)
    if action == 0 or len(content) < 4:
        return content[: rng.integers(len(content) + 1)]
    if action == 1:
        changed = bytearray(content)
        for _ in range(rng.integers(1, 8)):
            changed[rng.integers(len(changed))] = rng.integers(256)
        return bytes(changed)
    if action == 2:
        at = rng.integers(len(content))
        return content[:at] + rng.bytes(5) + content[at:]
    return content + content


def mutate_arrays(arrays, rng):
    """Named arrays with one of them changed in shape, dtype or entries, removed or renamed."""
    changed = dict(arrays)
    name = sorted(changed)[rng.integers(len(changed))]
    value = np.asarray(changed[name])
    action = rng.integers(9)
    if action == 0:
        del changed[name]
    elif action == 1:
        changed[f"{name}x"] = changed.pop(name)
    else:
        with np.errstate(all="ignore"):
            changed[name] = [
                lambda: value.ravel(),
                lambda: value[None],
                lambda: value[:0] if value.ndim else value[None][:0],
                lambda: np.full(value.shape, np.nan),
                lambda: np.full(value.shape, "x"),
                lambda: value.astype(complex) if value.dtype.kind in "fiub" else np.full(value.shape, 1j),
                lambda: np.full(value.shape, [1e308, -1e308, np.inf, 0.0, 1e-320][rng.integers(5)]),
            ][action - 2]()
    return changed


def mutated_file(path, rng):
    """Changes a .json or .npz file in place, in its data or in its bytes."""
    path = Path(path)
    if rng.integers(3) == 0:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    elif path.suffix == ".json":
        path.write_text(json.dumps(mutate_json(json.loads(path.read_text()), rng)), encoding="utf-8")
    elif path.suffix == ".npz":
        with np.load(path) as archive:
            arrays = mutate_arrays({name: archive[name] for name in archive.files}, rng)
        np.savez(path, **arrays)
    else:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
