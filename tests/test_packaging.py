"""What is built holds what it should, installs beside PyPI's `llm`, and leaves it alone.

Environments are empty but for what pip puts there; the registry that pip is set up for must be within reach.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parent.parent
FOLDERS = ("conditioning", "synthetic", "llm", "figures")
OTHER_FILES = ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")
NEIGHBOUR = "llm==0.36"
"""The distribution that owns the import name `llm`, and a command of that name."""

slow = pytest.mark.slow


def run(*command, cwd, fails=False, **variables):
    """Output of a command that must succeed, or of one that must fail, without what Python is told from outside."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment | variables, capture_output=True, text=True
    )
    assert (done.returncode != 0) == fails, f"{command} exited with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout + (done.stderr if fails else "")


class Environment:
    """A virtual environment without pip of its own: this one's installs into it."""

    def __init__(self, folder):
        self.folder = folder
        self.bin, self.packages = (
            Path(sysconfig.get_path(name, "venv", {"base": str(folder), "platbase": str(folder)}))
            for name in ("scripts", "purelib")
        )

    @classmethod
    def create(cls, folder):
        run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
        return cls(folder)

    def pip(self, action, *arguments):
        pip = (sys.executable, "-m", "pip", "--python", self.folder, "--disable-pip-version-check")
        return run(*pip, action, *arguments, cwd=self.folder)

    def install(self, *what):
        return self.pip("install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", *what)

    def python(self, *arguments, cwd, **settings):
        return run(self.bin / "python", *arguments, cwd=cwd, **settings)

    def module(self, name, *arguments, cwd, **settings):
        return self.python("-m", f"lorakappa.{name}", *arguments, cwd=cwd, **settings)


def copy_checkout(target, links="kept"):
    """Copies what is built and installed from, the links in lorakappa/ as links, as copies or as Git's text files."""
    for name in (*FOLDERS, "lorakappa"):
        ignored = shutil.ignore_patterns("__pycache__", "gallery")
        shutil.copytree(ROOT / name, target / name, symlinks=links != "copied", ignore=ignored)
    for name in OTHER_FILES:
        shutil.copy(ROOT / name, target / name)
    for name in FOLDERS:
        link = target / "lorakappa" / name
        if links == "text":
            link.unlink()
            link.write_text(f"../{name}")
        assert link.is_symlink() == (links == "kept")
    return target


def build(source, target, *arguments):
    """Runs `python -m build`, which gets setuptools from the registry, and returns the files."""
    run(sys.executable, "-m", "build", "--outdir", target, *arguments, source, cwd=source)
    return sorted(target.iterdir())


def contents(wheel):
    """File name to bytes, but for the list of files and hashes, which follows from them."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("RECORD")}


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Makes a folder once, whichever pytest-xdist worker comes first."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def make(name, fill):
        with FileLock(root / f"{name}.lock"):
            if not (root / f"{name}.made").exists():
                (root / name).mkdir()
                fill(root / name)
                (root / f"{name}.made").touch()
        return root / name

    return make


@pytest.fixture(scope="session")
def built(once):
    """The sdist, and the wheel that was built from it, by name."""

    def fill(folder):
        (folder / "source").mkdir()
        build(copy_checkout(folder / "source"), folder / "dist")

    sdist, wheel = sorted((once("built", fill) / "dist").iterdir(), key=lambda file: file.suffix)
    return {"sdist": sdist, "wheel": wheel}


@pytest.fixture(scope="session")
def base(once, built):
    """An environment with the wheel and what it depends on: no torch. Tests leave it as it is."""

    def fill(folder):
        Environment.create(folder).install(built["wheel"])

    return Environment(once("base", fill))


def test_every_package_is_named_in_pyproject():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {file.parent.relative_to(ROOT) for name in FOLDERS for file in (ROOT / name).rglob("__init__.py")}
    found |= {file.parent.relative_to(ROOT / "lorakappa") for file in (ROOT / "lorakappa/shared").rglob("__init__.py")}
    assert setuptools["packages"] == sorted(["lorakappa", *(".".join(["lorakappa", *path.parts]) for path in found)])
    assert setuptools["package-dir"] == {f"lorakappa.{name}": name for name in FOLDERS}


@slow
def test_the_wheel_holds_the_packages_and_nothing_else(built):
    files = set(contents(built["wheel"]))
    wanted = {f"lorakappa/{file.name}" for file in (ROOT / "lorakappa").glob("*.py*")} | {"lorakappa/py.typed"}
    sources = [(ROOT, name) for name in FOLDERS] + [(ROOT / "lorakappa", "shared")]
    for root, name in sources:
        for pattern in (
            "*.py",
            "*.pyi",
            "sources/*.toml",
            "studies/*.toml",
            "evidence/*.json",
            "evidence/*.xz",
            "tiny/*",
            "report/page.*",
            "report/*.woff2",
            "report/*.txt",
            "report/*.json",
            "proofs/*.v",
            "proofs/*.json",
            "certificates/*.json",
            "schemas/*.json",
        ):
            files_of = (root / name).rglob(pattern)
            shipped = [file for file in files_of if file.suffix != ".py" or (file.parent / "__init__.py").is_file()]
            wanted |= {f"lorakappa/{file.relative_to(root).as_posix()}" for file in shipped}
    assert {"lorakappa/llm/data/tiny/model.safetensors", "lorakappa/conditioning/__init__.pyi"} <= wanted
    assert {name for name in files if ".dist-info/" not in name} == wanted
    assert not [name for name in files if "test" in Path(name).name or "gallery" in name]
    assert {name.partition("/")[0].partition("-")[0] for name in files} == {"lorakappa"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files)


@slow
def test_the_sdist_holds_the_sources_as_plain_files(built):
    with tarfile.open(built["sdist"]) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert all(member.isfile() or member.isdir() for member in members)
    assert {*OTHER_FILES, "llm/adapters/__init__.pyi", "llm/data/tiny/config.json", "lorakappa/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests", "lorakappa/llm", "figures/gallery"))]


@slow
@pytest.mark.parametrize("links", ["kept", "copied", "text"])
def test_the_wheel_is_the_same_from_the_sdist_and_from_any_checkout(built, links, tmp_path):
    """Text files are what Git makes of links where the platform has none."""
    (tmp_path / "source").mkdir()
    (wheel,) = build(copy_checkout(tmp_path / "source", links), tmp_path / "dist", "--wheel")
    assert contents(wheel) == contents(built["wheel"])


def check_ours(environment, folder):
    """The commands run, from a folder that has nothing to do with it."""
    assert "Usage" in run(environment.bin / "lorakappa", "--help", cwd=folder)
    assert "invariance" in environment.module("conditioning", "list", cwd=folder)
    assert "Usage" in environment.module("llm", "--help", cwd=folder)


def check_theirs(environment, folder):
    """Their command, and the import name `llm`."""
    settings = {"cwd": folder, "LLM_USER_PATH": str(folder / "llm")}
    assert NEIGHBOUR.partition("==")[2] in run(environment.bin / "llm", "--version", **settings)
    code = "import llm; print(llm.Model.__module__, hasattr(llm, 'balance_model'))"
    assert environment.python("-c", code, **settings).split() == ["llm.models", "False"]


@slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_beside_the_other_llm_both_work_and_survive_either_being_uninstalled(built, kind, tmp_path):
    folder = tmp_path / "unrelated"
    folder.mkdir()
    environment = Environment.create(tmp_path / "environment")
    environment.install(NEIGHBOUR, built[kind])
    check_ours(environment, folder)
    check_theirs(environment, folder)

    if kind == "wheel":  # what pip makes of the sdist is the same
        environment.pip("uninstall", "--yes", "llm")
        check_ours(environment, folder)
        environment.python("-c", "import llm", cwd=folder, fails=True)
        environment.install("--no-deps", NEIGHBOUR)
        check_theirs(environment, folder)

    environment.pip("uninstall", "--yes", "lorakappa")
    check_theirs(environment, folder)
    environment.python("-c", "import lorakappa", cwd=folder, fails=True)
    assert not list(environment.packages.glob("lorakappa*"))


@slow
def test_a_stray_pyproject_in_site_packages_does_not_confuse_the_two(base, tmp_path):
    shutil.copytree(base.packages / "lorakappa", tmp_path / "lorakappa")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm/__init__.py").write_text("raise RuntimeError('of somebody else')")
    code = "import lorakappa.llm; print(lorakappa.llm.__file__)"
    found = base.python("-c", code, cwd=tmp_path.parent, PYTHONPATH=str(tmp_path)).strip()
    assert Path(found) == tmp_path / "lorakappa/llm/__init__.py"


@slow
@pytest.mark.parametrize("links", ["kept", "text"])
def test_an_editable_install_works_anywhere_and_sees_new_files(links, tmp_path):
    checkout, folder = tmp_path / "checkout", tmp_path / "unrelated"
    checkout.mkdir()
    folder.mkdir()
    copy_checkout(checkout, links)
    environment = Environment.create(tmp_path / "environment")
    (environment.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    environment.install("--no-deps", "-e", checkout)
    check_ours(environment, folder)

    (checkout / "conditioning/new_thing.py").write_text("ANSWER = 42\n")
    (checkout / "llm/new_package").mkdir()
    (checkout / "llm/new_package/__init__.py").write_text("")
    code = "import lorakappa.conditioning.new_thing as new, lorakappa.llm.new_package as package; print(new.__file__)"
    assert Path(environment.python("-c", code, cwd=folder).strip()).samefile(checkout / "conditioning/new_thing.py")
    for name in FOLDERS:
        environment.python("-c", f"import {name}", cwd=folder, fails=True)


@slow
def test_a_copy_without_links_imports_the_folders_at_the_top_level(tmp_path):
    (tmp_path / "copy").mkdir()
    copy = copy_checkout(tmp_path / "copy", "copied")
    code = """
import importlib
for name in ("conditioning", "conditioning.bounds", "synthetic", "llm.adapters", "figures", "shared"):
    print(importlib.import_module(f"lorakappa.{name}").__file__)"""
    found = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(copy)).splitlines()
    inside = [Path(file).relative_to(copy).as_posix() for file in found]
    ends = ("conditioning/__init__.py", "conditioning/bounds.py", "synthetic/__init__.py", "llm/adapters/__init__.py")
    assert inside == [*ends, "figures/__init__.py", "lorakappa/shared/__init__.py"]


@slow
def test_the_base_install_verifies_claims_simulates_and_draws(base, tmp_path):
    base.python("-c", "import torch", cwd=tmp_path, fails=True)
    base.module("conditioning", "verify", "invariance", "--trials", "50", "--json", "verdicts.json", cwd=tmp_path)
    (verdict,) = json.loads((tmp_path / "verdicts.json").read_text())
    assert verdict["verdict"] == "holds"
    assert (
        verdict["provenance"]["versions"]["lorakappa"]
        == base.python(
            "-c", "from importlib.metadata import version; print(version('lorakappa'))", cwd=tmp_path
        ).strip()
    )
    options = ("--draws", "40", "--limits", "4", "--shape", "5", "4", "--rank", "2", "--quiet", "--out", "saved")
    base.module("synthetic", "kappa-histogram", *options, cwd=tmp_path)
    drawn = {file.name for file in (tmp_path / "saved").glob("*.png")}
    assert drawn
    shutil.rmtree(tmp_path / "results", ignore_errors=True)
    base.module("figures", "all", "--from", "saved", cwd=tmp_path)
    assert {file.name for file in (tmp_path / "results").rglob("*.png")} == drawn


@slow
def test_the_base_install_verifies_in_several_processes(base, tmp_path):
    claims = ("invariance", "model1-smoothness")
    table = base.module("conditioning", "verify", "--jobs", "2", *claims, "--trials", "50", cwd=tmp_path)
    assert all(claim in table for claim in claims)


@slow
@pytest.mark.parametrize("name", ["balance_after_step", "llm.lora_pairs", "llm.adapters.read_adapter"])
def test_what_needs_torch_says_which_extra_brings_it(base, name, tmp_path):
    package, _, function = f"lorakappa.{name}".rpartition(".")
    error = base.python("-c", f"from {package} import {function}", cwd=tmp_path, fails=True)
    assert error.splitlines()[-1].endswith(f"lorakappa.{name} needs torch: pip install 'lorakappa[torch]'")


@slow
@pytest.mark.parametrize(
    "arguments", [("audit", "adapter"), ("balance", "adapter", "--out", "balanced"), ("finetune",)]
)
def test_commands_that_need_torch_say_which_extra_brings_it(base, arguments, tmp_path):
    (tmp_path / "adapter").mkdir()
    error = base.module("llm", *arguments, cwd=tmp_path, fails=True)
    assert len(error.splitlines()) == 1
    assert error.startswith("error: ")
    assert "pip install 'lorakappa[" in error


MAKES_PICKLES = """
import pickle, sys
import conditioning, synthetic, figures
from conditioning.bounds import KappaBounds
from conditioning.verification.claim import Verdict
assert conditioning.__name__ == "lorakappa.conditioning"
found = {f"{package.__name__}.{name}": getattr(package, name)
         for package in (conditioning, synthetic, figures) for name in package.__all__}
found |= {"bounds": KappaBounds(1.0, 2.0), "Verdict": Verdict}
pickle.dump(found, open(sys.argv[1], "wb"))"""

READS_PICKLES = """
import pickle, sys
found = pickle.load(open(sys.argv[1], "rb"))
import lorakappa.conditioning, lorakappa.conditioning.verification.claim, importlib
assert type(found["bounds"]) is lorakappa.conditioning.KappaBounds and tuple(found["bounds"]) == (1.0, 2.0)
assert found["Verdict"] is lorakappa.conditioning.verification.claim.Verdict
for name in found.keys() - {"bounds", "Verdict"}:
    package, _, attribute = name.rpartition(".")
    ours = getattr(importlib.import_module(package), attribute)
    assert found[name] is ours or found[name] == ours, name
print(len(found), sorted({getattr(thing, "__module__", "lorakappa.").split(".")[0] for thing in found.values()}))"""


@slow
def test_pickles_made_in_a_checkout_under_bare_names_load_in_an_install(base, tmp_path):
    """All public names that come without torch, one value, and a class that no face shows."""
    base.python("-c", MAKES_PICKLES, tmp_path / "pickle", cwd=ROOT, PYTHONSAFEPATH="", PYTHONPATH=str(ROOT))
    count, modules = base.python("-c", READS_PICKLES, tmp_path / "pickle", cwd=tmp_path).split(" ", 1)
    assert int(count) > 40
    assert "lorakappa" in ast.literal_eval(modules)
    assert not set(FOLDERS) & set(ast.literal_eval(modules))


@slow
def test_public_objects_of_llm_are_pickled_under_the_full_name(tmp_path):
    """All but the callbacks, for which transformers would have to be loaded."""
    code = """
import pickle, sys, llm
found = {name: getattr(llm, name) for name in llm.__all__ if not name.endswith("Callback")}
pickle.dump(found, open(sys.argv[1], "wb"))"""
    run(sys.executable, "-c", code, tmp_path / "pickle", cwd=ROOT)
    code = """
import pickle, sys
found = pickle.load(open(sys.argv[1], "rb"))
import lorakappa.llm
assert all(thing is getattr(lorakappa.llm, name) for name, thing in found.items())
print(*{thing.__module__.split(".")[0] for thing in found.values()})"""
    read = run(sys.executable, "-c", code, tmp_path / "pickle", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert read.strip() == "lorakappa"


@slow
def test_spawned_workers_of_a_bare_name_in_a_checkout_use_the_same_classes(tmp_path):
    claims = ("invariance", "model1-smoothness")
    table = run(sys.executable, "-m", "conditioning", "verify", "--jobs", "2", *claims, "--trials", "50", cwd=ROOT)
    assert all(claim in table for claim in claims)
    code = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import conditioning, lorakappa.conditioning
with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
    bounds = pool.submit(conditioning.kappa_bounds, [[1.0]], [[1.0]], [[1.0]]).result()
print(type(bounds) is lorakappa.conditioning.KappaBounds)"""
    assert run(sys.executable, "-c", code, cwd=ROOT).strip() == "True"
