"""DeepMind Mathematics: generated questions right, reproducible and kept apart."""

import itertools
import os
import random
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from lorakappa.llm.data import mathematics
from lorakappa.llm.data.mathematics import (
    LEVELS,
    TOPIC_MODULES,
    TRAINING_LEVELS,
    extrapolating,
    generate,
    generate_topics,
    module_names,
)

SLOW = ("probability__", "comparison__sort_more", "polynomials__expand", "calculus__", "arithmetic__simplify_surd")


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


def test_topics_are_the_modules_of_the_same_questions():
    modules = ["numbers__place_value", "comparison__pair", "arithmetic__add_or_sub"]
    pairs = generate(modules, TRAINING_LEVELS, 31, seed=0)
    topics = generate_topics(modules, TRAINING_LEVELS, 31, seed=0)
    assert [question for question, _ in topics] == [question for question, _ in pairs]
    assert sorted(Counter(topic for _, topic in topics).values()) == [9, 10, 12]
    for question, topic in topics:
        assert (topic == "place_value") == ("digit of" in question)
        assert topic in ("place_value", "pair", "add_or_sub")
    others = generate_topics(modules, TRAINING_LEVELS, 31, seed=0, exclude=[question for question, _ in topics])
    assert not {question for question, _ in topics} & {question for question, _ in others}


def test_topics_by_default_are_there_and_differ():
    assert set(TOPIC_MODULES) <= set(module_names("train-easy")) & set(module_names("interpolate"))
    assert len({name.partition("__")[2] for name in TOPIC_MODULES}) == len(set(TOPIC_MODULES)) == len(TOPIC_MODULES)


def test_levels_share_a_range_of_entropies():
    assert [mathematics._third(index, (3.0, 9.0)) for index in range(3)] == [(3.0, 5.0), (5.0, 7.0), (7.0, 9.0)]


def test_what_is_longer_than_the_longest_of_the_official_files_is_dropped(monkeypatch):
    lengths = [(160, 30), (160, 31), (161, 30), (159, 29)]
    drawn = itertools.cycle([SimpleNamespace(question="q" * q, answer="a" * a) for q, a in lengths])
    monkeypatch.setitem(mathematics._all_generators()["train-easy"], "numbers__gcd", lambda: next(drawn))
    found = generate(["numbers__gcd"], ["train-easy"], 2, seed=0)
    assert sorted((len(q), len(a)) for q, a in found) == [(159, 29), (160, 30)]


def test_extrapolation_belongs_to_the_longest_name():
    regular, harder = module_names("interpolate"), module_names("extrapolate")
    found = extrapolating(["arithmetic__mul", "numbers__gcd", "measurement__conversion"], regular, harder)
    assert found == ("arithmetic__mul_big", "measurement__conversion")
    assert len(extrapolating(regular, regular, harder)) == 15
    assert extrapolating(["numbers__gcd"], regular, harder) == ()
