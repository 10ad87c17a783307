"""Array files that anybody may have made: read, or refused in one line before anything is allocated."""

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from lorakappa.shared import memory
from lorakappa.shared.array_files import read_array, read_npz


def npy(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def header(text):
    """A version 1 .npy header that says this."""
    body = text.encode().ljust(118 - 10 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name if "." in name else f"{name}.npy", content)
    return path


ARRAYS = {
    "C": np.arange(6.0).reshape(2, 3),
    "F": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "big": np.arange(4, dtype=">i4"),
    "scalar": np.asarray(3.5),
    "none": np.zeros((0, 3)),
    "texts": np.asarray(["gd", "κ"]),
    "complex": np.asarray([1 + 2j]),
    "flags": np.asarray([True, False]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read_as_numpy_reads_it(save, tmp_path):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    np.savez(tmp_path / "one.npz", A=ARRAYS["C"])
    np.testing.assert_array_equal(read_array(tmp_path / "one.npz"), ARRAYS["C"])
    np.save(tmp_path / "one.npy", ARRAYS["F"])
    np.testing.assert_array_equal(read_array(tmp_path / "one.npy"), ARRAYS["F"])
    with pytest.raises(ValueError, match="holds 8 arrays; exactly one is needed"):
        read_array(tmp_path / "a.npz")


def test_every_truncation_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "whole.npz", A=np.random.default_rng(0).random((20, 20)), B=np.eye(3))
    whole = (tmp_path / "whole.npz").read_bytes()
    part = tmp_path / "part.npz"
    for length in range(0, len(whole), 37):
        part.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"part\.npz"):
            read_npz(part)
    np.save(tmp_path / "whole.npy", np.arange(50.0))
    whole, part = (tmp_path / "whole.npy").read_bytes(), tmp_path / "part.npy"
    for length in range(0, len(whole), 7):
        part.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"part\.npy"):
            read_array(part)


def test_every_flipped_byte_is_refused_or_harmless(tmp_path):
    arrays = {"A": np.random.default_rng(0).random((5, 4)), "B": np.eye(3)}
    np.savez_compressed(tmp_path / "whole.npz", **arrays)
    whole = (tmp_path / "whole.npz").read_bytes()
    for place in range(0, len(whole), 3):
        (tmp_path / "bad.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = read_npz(tmp_path / "bad.npz")
        except ValueError as refusal:
            found = {}
            said = str(refusal)
        else:
            said = "bad.npz"
        assert "bad.npz" in said
        for name in set(arrays) & set(found):
            np.testing.assert_array_equal(found[name], arrays[name])


HEADERS = {
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}": "1,000,000,000,000 entries .* .7.28 TiB.",
    f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**18}, {10**18})}}": "claims about 10.36 entries",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-5,)}": "impossible shape|no array",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3,)}": "cut short",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}": "pickled objects",
    "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}": "neither numbers nor texts",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (0,)}": "neither numbers nor texts",
    "{'descr': '|V8', 'fortran_order': False, 'shape': (0,)}": "neither numbers nor texts",
    "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}": "impossible shape",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 99999999999999999999)}": "impossible shape",
    "{'descr': '<q9', 'fortran_order': False, 'shape': (1,)}": "no array that NumPy can read",
    "[" * 60: "no array that NumPy can read",
    "__import__('os').getcwd()": "no array that NumPy can read",
}


@pytest.mark.parametrize("text", HEADERS)
def test_what_a_header_claims_is_checked_before_memory_is_taken(text, tmp_path):
    content = header(text) + bytes(16)
    (tmp_path / "a.npy").write_bytes(content)
    archive(tmp_path / "a.npz", A=content)
    tracemalloc.start()
    try:
        for read, name in ((read_array, "a.npy"), (read_npz, "a.npz")):
            with pytest.raises(ValueError, match=HEADERS[text]) as caught:
                read(tmp_path / name)
            assert name in str(caught.value)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_bomb_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1e6)
    zeros = npy(np.zeros(1_000_000))
    path = archive(tmp_path / "bomb.npz", A=zeros)
    assert path.stat().st_size < 20_000
    with pytest.raises(memory.TooLargeError, match=r"would take 7.63 MiB of memory, but only 977 KiB are free"):
        read_npz(path)
    path = archive(tmp_path / "many.npz", **{f"A{i}": npy(np.zeros(10_000)) for i in range(20)})
    with pytest.raises(memory.TooLargeError, match=r"many.npz would take 1.53 MiB"):
        read_npz(path)


def test_what_is_no_archive_of_arrays_is_said_to_be_none(tmp_path):
    for name, content in {"empty": b"", "text": b"not an archive", "one": npy(np.eye(2))}.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
    archive(tmp_path / "strange.npz", **{"notes.txt": b"hello"})
    archive(tmp_path / "garbage.npz", A=b"garbage")
    archive(tmp_path / "longer.npz", A=npy(np.eye(2)) + b"more")
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as file:
        file.writestr("A.npy", npy(np.eye(2)))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("A.npy", npy(np.eye(2)))
    expected = {
        "empty": "is empty",
        "text": "is not an .npz archive of arrays: File is not a zip file",
        "one": "holds a single array, not an archive of named ones",
        "strange": "holds 'notes.txt', which is no array",
        "garbage": "'A' in .* holds no array that NumPy can read",
        "longer": "'A' in .* holds more than its header says",
        "twice": "holds two arrays of one name",
    }
    for name, message in expected.items():
        with pytest.raises(ValueError, match=message):
            read_npz(tmp_path / f"{name}.npz")


def test_a_pipe_is_not_waited_for_and_a_folder_is_none(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(OSError, match=r"pipe.npz is no regular file"):
        read_npz(tmp_path / "pipe.npz")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file to read"):
        read_npz(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "none.npz")


def test_sizes_in_words():
    assert memory.in_words(500) == "500 bytes"
    assert memory.in_words(8e12) == "7.28 TiB"
    assert memory.in_words(1e60).startswith("10^")
    assert memory.available() > 0
    memory.check_memory(1, "a little")
    with pytest.raises(memory.TooLargeError, match="all of it would take 867 EiB of memory, but only"):
        memory.check_memory(1e21, "all of it")
