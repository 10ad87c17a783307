"""Which code made a result: digests change with sources, and with nothing else."""

import subprocess

import pytest

from lorakappa.shared import code_state


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "made"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("x = 1\n")
    (folder / "inner" / "data.toml").write_text("a = 1\n")
    monkeypatch.setattr(code_state, "package_folder", lambda name: folder if name == "made" else None)
    code_state._digest.cache_clear()
    return folder


def digest():
    code_state._digest.cache_clear()
    return code_state.digests(["made", "gone"])


def test_digests_see_sources_only(package):
    before = digest()
    assert list(before) == ["made"]
    assert len(before["made"]) == 16
    (package / "picture.png").write_bytes(b"1")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert digest() == before


@pytest.mark.parametrize(("file", "text"), [("__init__.py", "x = 2\n"), ("inner/data.toml", "a = 2\n"), ("new.v", "")])
def test_digests_change_with_sources(package, file, text):
    before = digest()
    (package / file).write_text(text)
    assert digest() != before


def test_a_file_that_moves_changes_the_digest(package):
    before = digest()
    (package / "inner" / "data.toml").rename(package / "data.toml")
    assert digest() != before


def test_a_modules_digest_sees_what_it_imports_at_any_depth_and_nothing_else(package):
    (package / "first.py").write_text("import json\nfrom lorakappa.made import inner\n")
    (package / "inner" / "__init__.py").write_text("def f():\n    import lorakappa.made.last as x\n")
    (package / "last.py").write_text("from lorakappa.made.first import nothing\nfrom lorakappa.gone import x\n")
    (package / "other.py").write_text("x = 1\n")

    def now():
        code_state.module_digest.cache_clear()
        return code_state.module_digest("lorakappa.made.first")

    names = {"first", "inner", "last"}
    assert set(code_state.sources("lorakappa.made.first")) == {f"lorakappa.made.{name}" for name in names} | {
        "lorakappa.made"
    }
    before = now()
    assert len(before) == 16
    (package / "other.py").write_text("x = 2\n")
    assert now() == before
    for name in ("__init__", "first", "inner/__init__", "last"):
        file = package / f"{name}.py"
        text = file.read_text()
        file.write_text(text + "x = 3\n")
        assert now() != before
        file.write_text(text)
        assert now() == before
    assert code_state.sources("json") == code_state.sources("lorakappa.gone.x") == {}


def test_loaded_packages_are_those_that_make_results():
    import lorakappa.conditioning
    import lorakappa.figures.catalogue  # noqa: F401

    found = code_state.loaded_packages()
    assert {"conditioning", "shared"} <= set(found)
    assert "figures" not in found


def test_commit_is_that_of_the_checkout(monkeypatch, tmp_path):
    def git(*arguments):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    (tmp_path / "lorakappa" / "shared").mkdir(parents=True)
    monkeypatch.setattr(code_state, "__file__", str(tmp_path / "lorakappa" / "shared" / "code_state.py"))
    assert code_state.commit() is None
    git("init", "-q")
    assert code_state.commit() is None  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    head = code_state.commit()
    assert len(head) == 40
    (tmp_path / "a").write_text("2")
    assert code_state.commit() == head + "+"
