"""The vocabulary of methods: each package does what it says, figures draw what it is called, and λ fill open names."""

import subprocess
import sys

import pytest

from lorakappa.figures.style import LOOKS
from lorakappa.llm.comparison import methods as fine_tunes
from lorakappa.shared.methods import (
    BOTH,
    DIFFERENCES,
    VOCABULARY,
    at_strengths,
    differences,
    names,
    parse_method_name,
)
from lorakappa.synthetic import methods as simulator


def test_each_package_implements_exactly_its_names():
    assert list(simulator.PARTS) == names("synthetic")
    assert list(fine_tunes.RECIPES) == names("llm")
    assert set(VOCABULARY) == set(names("synthetic")) | set(names("llm"))


def test_a_map_follows_where_the_vocabulary_says_so():
    for name in names("synthetic"):
        assert (simulator.parse_method(name).new_map is not None) == VOCABULARY[name].has_map, name
    for name, recipe in fine_tunes.RECIPES.items():
        assert (recipe.step_map is not None) == VOCABULARY[name].has_map, name


def test_each_implementation_uses_all_options_of_its_method():
    class Watched(dict):
        def __init__(self, values):
            super().__init__(values)
            self.read = set()

        def __getitem__(self, key):
            self.read.add(key)
            return super().__getitem__(key)

        def get(self, key, default=None):
            if key in self:
                self.read.add(key)
            return super().get(key, default)

    for name in names("synthetic"):
        options = Watched(parse_method_name(name, "synthetic").options)
        simulator.PARTS[name](options)
        assert options.read == set(options), name
    for name, recipe in fine_tunes.RECIPES.items():
        options = Watched(parse_method_name(name, "llm").options)
        if recipe.step_map is not None:
            recipe.step_map(options, 1)
        used = {"damping", "lr-ratio"} if recipe.optimizer is not None else set()  # `optimizer` needs a model
        assert set(options) - used == options.read, name


@pytest.mark.parametrize("name", VOCABULARY)
def test_figures_draw_every_label(name):
    assert LOOKS[name].label == VOCABULARY[name].label
    assert len(LOOKS) == len(VOCABULARY)


def test_descriptions():
    assert len({method.label for method in VOCABULARY.values()}) == len(VOCABULARY)
    for name, method in VOCABULARY.items():
        assert len(method.summary) > 20, name
        assert method.packages in (BOTH, ("llm",), ("synthetic",)), name
        for package in method.packages:
            for key, option in method.options(package).items():
                assert option.read(str(option.default)) == option.default, key
                assert option.summary
                assert option.range
    assert VOCABULARY["pilora"].show_options("llm") == "lambda=1, factor=1, power=1, trained=no, damping=0.01"
    assert VOCABULARY["lora"].show_options("llm") == ""


def test_differences_are_stated_and_are_all_there_are():
    for method in VOCABULARY.values():
        if method.packages == BOTH:
            here, there = (method.options(package) for package in BOTH)
            differ = {key for key in here | there if here.get(key) != there.get(key)}
            assert differ == set(DIFFERENCES) & set(method.defined)
    assert parse_method_name("scaled-gd", "synthetic").options == {"damping": 1e-6}
    assert parse_method_name("scaled-gd", "llm").options == {"damping": 1e-2}
    damping, moments, decay, mode = differences()
    assert decay.startswith("decay is 0.9 in synthetic and 0.99 in llm: a simulation is over")
    assert damping.startswith("damping is 1e-06 in synthetic and 0.01 in llm: exact gradients")
    assert mode.startswith("mode is matrix in synthetic only: the number of RefLoRA-S is reflora-scalar")
    assert moments.startswith("moments is keep in llm only: the simulator always keeps")


@pytest.mark.parametrize("package", BOTH)
def test_a_period_needs_a_map(package):
    for name in names(package):
        if VOCABULARY[name].has_map:
            assert parse_method_name(f"{name}@7", package).every == 7
        else:
            with pytest.raises(ValueError, match=f"{name} does nothing after a step that @7 could make rarer"):
                parse_method_name(f"{name}@7", package)


def test_old_options_name_their_successors():
    for old, new in (("ilora:scale=2", "factor"), ("pilora:scale=2", "factor"), ("lora-plus:ratio=4", "lr-ratio")):
        for package in BOTH:
            with pytest.raises(ValueError, match=f"it is called {new} now"):
                parse_method_name(old, package)


@pytest.mark.parametrize("package", BOTH)
def test_strengths_fill_an_open_lambda_only(package):
    variants = at_strengths("ilora:factor=2@3", [0.5, 2], package)
    assert variants == ["ilora:factor=2,lambda=0.5@3", "ilora:factor=2,lambda=2@3"]
    assert parse_method_name(at_strengths("pilora", (0.5,), package)[0], package).options["lambda"] == 0.5
    for name in ("lora", "ilora:lambda=3", "ilora: lambda = 3", "scaled-gd:damping=1"):
        assert at_strengths(name, [0.5, 2], package) == [name]
    assert at_strengths("ilora", [], package) == ["ilora"]
    for bad in (-1.0, 0.0, float("inf")):
        with pytest.raises(ValueError, match="lambda must be finite and > 0"):
            at_strengths("ilora", [bad], package)
    tuned = [name for name in names(package) if len(at_strengths(name, (1, 2), package)) == 2]
    assert tuned == ["ilora", "pilora", "ilora-balanced"]
    assert at_strengths("ilora:lambda=1", (2, 3), package) == ["ilora:lambda=1"]
    (small,) = at_strengths("ilora:factor=2@5", (1e-3,), package)
    assert small == "ilora:factor=2,lambda=0.001@5"
    chosen = parse_method_name(small, package)
    assert chosen.options == {"lambda": 1e-3, "factor": 2.0, "power": 1.0, "trained": "no"}
    assert chosen.every == 5


def test_the_vocabulary_costs_nothing():
    code = "import sys, lorakappa.shared.methods; print({'numpy', 'torch', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
