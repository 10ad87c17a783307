"""What cannot be simulated is told in one line, before anything is drawn, and nothing is ignored in silence."""

import os
import tracemalloc

import numpy as np
import pytest

from lorakappa.shared import memory
from lorakappa.synthetic.stepping import Block
from tests.test_command_line import call

SMALL = ["--shape", 4, 3, "--rank", 2, "--steps", 2, "--step-sizes", "0.1", "--seeds", 2]


def refused(monkeypatch, capsys, tmp_path, *arguments):
    """The one line that a command line is answered with."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = call(monkeypatch, capsys, "synthetic", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convergence", "--shape", 1000000, 1000000), "problems of shape 1000000×1000000 would take"),
        (("convergence", "--step-sizes", "auto:999999999"), "at most 1000000 step sizes"),
        (("convergence", "--step-sizes", "1:2:999999999"), "N must be at most 1000000"),
        (("convergence", "--step-sizes", "auto:1000000"), "trajectories"),
        (("convergence", "--steps", 10**18), "not enough memory: 400 trajectories"),
        (("convergence", "--steps", 10**20), "'--steps'"),
        (("convergence", "--seeds", 99999999999999999999), "'--seeds'"),
        (("rates", "--instances", 999999999), "999999999 problems"),
        (("rates", "--shape", 100000, 2, "--rank", 2), "a Hessian of 200004×200004"),
        (("kappa-histogram", "--draws", 999999999), "999999999 draws"),
        (("kappa-histogram", "--limits", 999999999), "999999999 problems"),
        (("settle", "--shape", 100000, 3, "--rank", 3), "a Hessian of 300009×300009"),
        (("settle", "--seeds", 10**6), "not enough memory"),
        (("settle", "--seeds", 10**12), "'--seeds'"),
        (("duel", "--shapes", "4x4,99999999x99999999"), "99999999×99999999"),
        (("ratios", "--shapes", "99999999x99999999"), "99999999×99999999"),
        (("phase", "--seeds", 10**6), "not enough memory"),
    ],
)
def test_work_that_cannot_fit_is_refused_at_once(arguments, message, monkeypatch, capsys, tmp_path):
    """No step is taken, nothing large is decomposed, and no more is allocated than modules and small problems need."""

    def work(*_, **__):
        raise AssertionError("this is work")  # a bug: exit code 70

    def small_only(decompose):
        return lambda M, *rest, **options: work() if np.size(M) > 10**5 else decompose(M, *rest, **options)

    monkeypatch.setattr(memory, "available", lambda: 8 * 2**30)
    monkeypatch.setattr(Block, "step", work)
    for name in ("svd", "eigh", "qr"):
        monkeypatch.setattr(np.linalg, name, small_only(getattr(np.linalg, name)))
    tracemalloc.start()
    try:
        assert message in refused(monkeypatch, capsys, tmp_path, *arguments)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def target(kind, path):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        np.savez(path.with_suffix(".npz"), np.eye(4, 3))
        path = path.with_suffix(".npz")
        path.write_bytes(path.read_bytes()[:100])
    elif kind == "object":
        np.save(path, np.asarray([None], dtype=object))
    elif kind == "lying":
        with path.open("wb") as stream:
            header = {"descr": "<f8", "fortran_order": False, "shape": (1000000, 1000000)}
            np.lib.format.write_array_header_1_0(stream, header)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "bytes":
        path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': '(((((")
    elif kind == "no text":
        path = path.with_suffix(".txt")
        path.write_text("")
    else:
        odd = {"complex": np.eye(4, 3) * 1j, "nan": np.full((4, 3), np.nan), "cube": np.ones((4, 3, 2)), "words": "x"}
        np.save(path, odd[kind])
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "is no target"),
        ("truncated", "is no target"),
        ("object", "is no target"),
        ("lying", "is no target"),
        ("bytes", "is no target"),
        ("no text", "is no target"),
        ("fifo", "is no regular file"),
        ("folder", "is a folder; name a file to read"),
        ("complex", "holds complex128 entries; a target has real numbers"),
        ("words", "a target has real numbers"),
        ("nan", "contains NaN or infinity"),
        ("cube", "holds an array of shape (4, 3, 2)"),
    ],
)
def test_a_file_that_is_no_target_is_named(kind, message, monkeypatch, capsys, tmp_path):
    path = target(kind, tmp_path / "z.npy")
    line = refused(monkeypatch, capsys, tmp_path, "convergence", *SMALL, "--target", path)
    assert message in line
    assert path.name in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convergence", "--methods", "lora,balora", "--lambdas", "1,2"), "--lambdas has no effect"),
        (("duel", "--methods", "lora,ilora:lambda=1", "--lambdas", "2"), "--lambdas has no effect"),
        (("kappa-histogram", "--limits", 0, "--start", "gaussian"), "start has no effect"),
        (("kappa-histogram", "--limits", 0, "--steps", 7), "steps has no effect"),
        (("phase", "--methods", "lora,lora"), "two different methods, not lora with itself"),
        (("rates", "--rules", "gd,gd"), "each rule can be asked for once"),
        (("ratios", "--lambdas", "1,1"), "each λ can be asked for once"),
    ],
)
def test_an_option_without_effect_is_refused(arguments, message, monkeypatch, capsys, tmp_path):
    assert message in refused(monkeypatch, capsys, tmp_path, *arguments)


@pytest.mark.parametrize("method", ["ilora:power=-1e308", "ilora:power=1e308", "ilora:factor=1e301"])
def test_options_beyond_all_numbers_are_refused(method, monkeypatch, capsys, tmp_path):
    assert "must be at most" in refused(monkeypatch, capsys, tmp_path, "convergence", *SMALL, "--methods", method)


def test_cheap_arguments_are_looked_at_before_anything_is_drawn(monkeypatch, capsys, tmp_path):
    from lorakappa.synthetic import problems

    monkeypatch.setattr(problems, "generators", lambda *_: pytest.fail("drawn already"))
    for arguments in (
        ("convergence", "--step-sizes", "x"),
        ("settle", "--step-sizes", "x"),
        ("phase", "--step-sizes", "x"),
        ("phase", "--methods", "lora,nosuch"),
        ("duel", "--optimizer", "newton"),
        ("duel", "--decays", "0.5,7"),
        ("ratios", "--step-sizes", "x"),
        ("phase", "--init-stds", "0.1,0"),
    ):
        refused(monkeypatch, capsys, tmp_path, *arguments)
