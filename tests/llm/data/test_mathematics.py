"""DeepMind Mathematics: official files read as they are, generated questions right, reproducible and kept apart."""

import itertools
import os
import random
import subprocess
import sys
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest

from lorakappa.llm.data import mathematics
from lorakappa.llm.data.mathematics import (
    LEVELS,
    TRAINING_LEVELS,
    extrapolating,
    generate,
    is_official,
    module_names,
    official_names,
    read_official,
)

SLOW = ("probability__", "comparison__sort_more", "polynomials__expand", "calculus__", "arithmetic__simplify_surd")


@pytest.fixture
def official(tmp_path):
    """A folder laid out like the official one."""
    root = tmp_path / "mathematics_dataset-v1.0"
    for level in LEVELS:
        (root / level).mkdir(parents=True)
        for module in ("numbers__gcd", "numbers__place_value"):
            name = f"{module}_big" if level == "extrapolate" else module
            lines = [line for i in range(20) for line in (f"{module} {level} {i}?", str(i))]
            (root / level / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def tarball(official):
    path = official.parent / "mathematics_dataset-v1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(official, official.name)
    return path


def test_every_module_of_the_package_generates_questions():
    names = {level: module_names(level) for level in LEVELS}
    assert {level: len(found) for level, found in names.items()} == {
        **dict.fromkeys((*TRAINING_LEVELS, "interpolate"), 56),
        "extrapolate": 15,
    }
    for level in ("train-hard", "extrapolate"):
        quick = [name for name in names[level] if not name.startswith(SLOW)]
        pairs = generate(quick, [level], 2 * len(quick), seed=0)
        assert len({question for question, _ in pairs}) == 2 * len(quick)
        assert all(0 < len(q) <= 160 and 0 < len(a) <= 30 and (q + a).isprintable() for q, a in pairs)
        assert not any("np." in q + a or "Float" in q + a for q, a in pairs)


@pytest.mark.slow
def test_every_module_generates_many_questions():
    for level in ("train-medium", "interpolate"):
        for name in module_names(level):
            assert len(generate([name], [level], 40, seed=1)) == 40


def test_the_same_seed_gives_the_same_questions_in_every_process():
    modules = ["arithmetic__add_or_sub_in_base", "numbers__is_factor_composed", "calculus__differentiate"]
    code = (
        f"from lorakappa.llm.data.mathematics import generate; print(generate({modules}, ['train-easy'], 12, seed=7))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": h}, capture_output=True, check=True
        ).stdout
        for h in ("1", "2")
    }
    assert found == {(str(generate(modules, ["train-easy"], 12, seed=7)) + "\n").encode()}
    assert generate(modules, ["train-easy"], 12, seed=8) != generate(modules, ["train-easy"], 12, seed=7)


def test_answers_are_right():
    for question, answer in generate(["numbers__place_value"], ["interpolate"], 50, seed=0):
        words = question.split()
        place = ["units", "tens", "hundreds", "thousands", "ten thousands", "hundred thousands"]
        digit = " ".join(words[3 : words.index("digit")])
        if digit in place:
            assert words[-1].rstrip("?")[-1 - place.index(digit)] == answer


def test_levels_differ_in_difficulty():
    lengths = {
        level: np.mean([len(q) for q, _ in generate(["numbers__is_prime"], [level], 100, seed=0)])
        for level in TRAINING_LEVELS
    }
    assert lengths["train-easy"] + 1 < lengths["train-medium"] < lengths["train-hard"] - 1


def test_shares_are_equal_and_excluded_questions_are_not_drawn():
    modules = ["numbers__is_factor", "numbers__place_value"]
    pairs = generate(modules, TRAINING_LEVELS, 31, seed=0)
    digits = sum("digit" in question for question, _ in pairs)
    assert (len(pairs), digits) == (31, 15)
    others = generate(modules, TRAINING_LEVELS, 31, seed=0, exclude=[question for question, _ in pairs])
    assert not {question for question, _ in pairs} & {question for question, _ in others}


def test_global_random_states_and_libraries_are_left_alone():
    import sympy.core.random
    import sympy.solvers.diophantine

    states = random.getstate(), np.random.get_state(), sympy.core.random.rng.getstate()  # noqa: NPY002
    generate(["numbers__list_prime_factors", "arithmetic__mixed"], ["train-easy"], 6, seed=0)
    assert random.getstate() == states[0]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), states[1], strict=True))  # noqa: NPY002
    assert sympy.core.random.rng.getstate() == states[2]
    assert "object" not in vars(np)
    assert not hasattr(np.zeros(1), "itemset")
    assert not hasattr(sys.modules["sympy.solvers.diophantine"], "base_solution_linear")
    assert random.randint.__func__ is random.Random.randint


def test_a_module_that_fails_is_one_clear_error(monkeypatch):
    def broken():
        raise AttributeError("'numpy.ndarray' object has no attribute 'itemset'")

    monkeypatch.setitem(mathematics._all_generators()["train-easy"], "numbers__gcd", broken)
    with pytest.raises(ValueError, match=r"cannot generate numbers__gcd .* NumPy .*itemset.*official files instead"):
        generate(["numbers__gcd"], ["train-easy"], 1, seed=0)


def test_generation_says_what_it_cannot_do(monkeypatch):
    with pytest.raises(ValueError, match=r"no module numbers__place_valu; .*numbers__place_value"):
        generate(["numbers__place_valu"], ["train-easy"], 1, seed=0)
    with pytest.raises(ValueError, match="level must be one of"):
        generate(["numbers__gcd"], ["train"], 1, seed=0)
    two = itertools.cycle([SimpleNamespace(question="1+1?", answer="2"), SimpleNamespace(question="2+1?", answer="3")])
    monkeypatch.setitem(mathematics._all_generators()["train-easy"], "numbers__gcd", lambda: next(two))
    assert len(generate(["numbers__gcd"], ["train-easy"], 2, seed=0)) == 2
    with pytest.raises(ValueError, match=r"gcd at level train-easy has only 1 questions .* not 2; ask for fewer"):
        generate(["numbers__gcd"], ["train-easy"], 2, seed=0, exclude=["1+1?"])
    monkeypatch.setitem(sys.modules, "mathematics_dataset.modules.modules", None)
    mathematics._all_generators.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"needs the package mathematics_dataset .*official files"):
            module_names("train-easy")
    finally:
        mathematics._all_generators.cache_clear()


def test_extrapolation_belongs_to_the_longest_name():
    regular, harder = module_names("interpolate"), module_names("extrapolate")
    found = extrapolating(["arithmetic__mul", "numbers__gcd", "measurement__conversion"], regular, harder)
    assert found == ("arithmetic__mul_big", "measurement__conversion")
    assert len(extrapolating(regular, regular, harder)) == 15
    assert extrapolating(["numbers__gcd"], regular, harder) == ()


def test_folder_and_tarball_give_the_same_questions(official, tarball):
    assert is_official(official)
    assert is_official(tarball)
    assert not is_official(official / "train-easy")
    assert official_names(official) == official_names(tarball)
    arguments = (["numbers__gcd", "numbers__place_value"], TRAINING_LEVELS, 12)
    pairs = read_official(official, *arguments, seed=0)
    assert pairs == read_official(tarball, *arguments, seed=0)
    assert pairs != read_official(official, *arguments, seed=1)
    assert {(q.split()[0], q.split()[1]) for q, _ in pairs} == {
        (module, level) for module in arguments[0] for level in TRAINING_LEVELS
    }
    assert all(question.endswith(f" {answer}?") for question, answer in pairs)
    rest = read_official(official, *arguments, seed=0, exclude=[question for question, _ in pairs])
    assert not {question for question, _ in pairs} & {question for question, _ in rest}


def test_what_is_wrong_with_official_files_is_said(official, tarball):
    def read(source=official, module="numbers__gcd", level="train-easy", count=1):
        return read_official(source, [module], [level], count, seed=0)

    with pytest.raises(ValueError, match="no module numbers__gdc; there are 2, such as numbers__gcd"):
        read(module="numbers__gdc")
    with pytest.raises(ValueError, match="has only 20 questions that are not in use, not 21"):
        read(count=21)
    text = (official / "train-easy" / "numbers__gcd.txt").read_text()
    (official / "train-easy" / "numbers__gcd.txt").write_text(text + "one more?\n")
    with pytest.raises(ValueError, match=r"train-easy/numbers__gcd.txt in .* has 41 lines: an odd number"):
        read()
    (official / "train-easy" / "numbers__gcd.txt").write_text("")
    with pytest.raises(ValueError, match=r"train-easy/numbers__gcd.txt in .* is empty"):
        read()
    only = official / "only"
    (only / "interpolate").mkdir(parents=True)
    (only / "interpolate" / "numbers__gcd.txt").write_text("a\nb\n")
    with pytest.raises(ValueError, match="level train-easy: there is no such level"):
        read(only)
    with pytest.raises(ValueError, match=r"has none of the folders train-easy, .*name mathematics_dataset-v1.0 itself"):
        read(official.parent / "mathematics_dataset-v1.0" / "interpolate")
    tarball.write_bytes(tarball.read_bytes()[:300])
    with pytest.raises(ValueError, match="damaged or no tarball"):
        read(tarball)
    with pytest.raises(FileNotFoundError):
        read(official / "nowhere.tar.gz")
