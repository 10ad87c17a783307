"""The packages know of each other only what they should, under one import name, and importing the theory is cheap."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("conditioning", "synthetic", "llm", "figures")
LLM_PACKAGES = ("llm.adapters", "llm.data", "llm.comparison", "llm.curvature")
ALLOWED = {
    "lorakappa/shared": set(),
    "conditioning": {"shared"},
    "figures": {"shared"},
    "synthetic": {"shared", "conditioning"},
    "llm/adapters": {"shared", "conditioning"},
    "llm/data": {"shared"},
    "llm/comparison": {"shared", "conditioning", "llm.adapters", "llm.data"},
    "llm/curvature": {"shared", "conditioning", "llm.adapters", "llm.data"},
}
"""Which packages a folder may import beside itself; `figures` draws what the others saved, so commands may call it."""


def imported(file, *, for_types=True):
    """(line, dotted name) of everything that a file imports, at any depth; without what only annotations need."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    left_out = set() if for_types else {id(inner) for node in typing for inner in ast.walk(node)}
    for node in (node for node in ast.walk(tree) if id(node) not in left_out):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def source_files():
    """All Python files of the project."""
    folders = [*PACKAGES, "lorakappa/shared", "tests", "benchmarks"]
    return [file for folder in folders for file in (ROOT / folder).rglob("*.py")] + [*(ROOT / "lorakappa").glob("*.py")]


@pytest.mark.parametrize("folder", ALLOWED)
def test_packages_import_only_what_they_may(folder):
    own = folder.removeprefix("lorakappa/").replace("/", ".")
    allowed = {own, *ALLOWED[folder]}
    for file in (ROOT / folder).rglob("*.py"):
        here = allowed | {"figures"} if file.name == "command.py" else allowed
        for line, name in imported(file):
            if name.startswith("lorakappa."):
                used = name.removeprefix("lorakappa.")
                assert any(used == package or used.startswith(f"{package}.") for package in here), (
                    f"{file.relative_to(ROOT)}:{line} imports {name}"
                )


def test_comparison_and_curvature_do_not_know_each_other():
    for folder, other in (("comparison", "curvature"), ("curvature", "comparison")):
        assert f"llm.{other}" not in ALLOWED[f"llm/{folder}"]
        assert (ROOT / "llm" / folder).is_dir()
    assert {f"llm/{path.name}" for path in (ROOT / "llm").iterdir() if (path / "__init__.py").is_file()} <= set(ALLOWED)


def test_no_module_imports_itself_through_others():
    graph = {}
    for file in source_files():
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        names = [name.removeprefix("lorakappa.") for _, name in imported(file, for_types=False)]
        graph[module.removeprefix("lorakappa.")] = {name for full in names for name in (full, full.rpartition(".")[0])}
    for module, used in graph.items():
        graph[module] = used & graph.keys() - {module}
    list(TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle


def test_nothing_is_imported_under_a_bare_name():
    for file in source_files():
        for line, name in imported(file):
            assert name.split(".")[0] not in PACKAGES, f"{file.relative_to(ROOT)}:{line} imports {name}"


@pytest.mark.parametrize(
    "line", [f"import {package}.engine" for package in PACKAGES] + ["from llm.adapters import pairs"]
)
def test_lint_refuses_bare_names(line):
    command = [sys.executable, "-m", "ruff", "check", "--select=TID251", "--stdin-filename=synthetic/new.py", "-"]
    done = subprocess.run(command, input=f"{line}\n", capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert "is banned: import lorakappa." in done.stdout


def test_a_module_imported_under_its_bare_name_is_the_one_of_the_package():
    code = """
from conditioning.bounds import KappaBounds
import conditioning.verification.claim, conditioning.claims.model2, sys
import lorakappa.conditioning
print(KappaBounds is lorakappa.conditioning.KappaBounds)
print([name for name, module in sys.modules.items() if name.startswith("conditioning")
       and module is not sys.modules[f"lorakappa.{name}"]])"""
    assert python("-c", code).splitlines() == ["True", "[]"]


def test_each_folder_is_linked_under_the_import_name():
    for package in PACKAGES:
        assert (ROOT / "lorakappa" / package).samefile(ROOT / package) or not (ROOT / ".git").exists()


def python(*arguments):
    """Runs Python in the checkout and returns what it prints."""
    settings = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, **settings).stdout


def test_importing_the_theory_does_not_load_torch_or_matplotlib():
    heavy = {"torch", "matplotlib", "transformers", "peft"}
    code = f"""
import sys, lorakappa.conditioning.claims, lorakappa.llm
lorakappa.balance, lorakappa.conditioning.hessian
print({heavy} & set(sys.modules))"""
    assert python("-c", code).strip() == "set()"


LIGHT = (
    "comparison.cells",
    "comparison.claims",
    "comparison.presets",
    "comparison.protocol",
    "comparison.settings",
    "comparison.studies.findings",
    "comparison.studies.outcomes",
    "comparison.studies.stages",
    "comparison.summary",
    "comparison.workers",
    "curvature.tables",
    "data.models",
    "data.sources",
)


def test_what_only_describes_fine_tunes_does_not_load_torch():
    imports = ", ".join(f"lorakappa.llm.{module}" for module in LIGHT)
    code = f"import sys, {imports}; print({{'torch', 'transformers', 'peft', 'datasets'}} & set(sys.modules))"
    assert python("-c", code).strip() == "set()"


def test_the_face_costs_nothing():
    code = "import sys, lorakappa; print({'numpy', 'flint', 'torch'} & set(sys.modules))"
    assert python("-c", code).strip() == "set()"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_run_under_its_bare_name_is_the_package_itself(package, tmp_path):
    code = f"""
import collections, os, runpy, sys
sys.argv = ["{package}", "--help"]
try:
    runpy.run_module("{package}", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code, stop
modules = {{id(module): module for name, module in sys.modules.items() if name != "__main__"}}.values()
paths = [os.path.realpath(module.__file__) for module in modules if getattr(module, "__file__", None)]
files = collections.Counter(paths)
print([file for file, count in files.items() if count > 1 and file.startswith("{ROOT}") and "/.venv/" not in file])
print(sys.modules["{package}"].__name__)"""
    assert python("-c", code).splitlines()[-2:] == ["[]", f"lorakappa.{package}"]


FACES = ["", *(f".{package}" for package in PACKAGES), *(f".{name}" for name in LLM_PACKAGES)]


@pytest.mark.parametrize("package", FACES)
def test_the_public_names_exist_and_are_documented(package):
    face = import_module(f"lorakappa{package}")
    assert face.__doc__
    for name in face.__all__:
        assert name in dir(face)
        assert getattr(face, name).__doc__ or name.isupper(), f"{name} has no docstring"
