"""DeepMind Mathematics: the official files read as they are."""

import tarfile

import pytest

from lorakappa.llm.data.mathematics import LEVELS, TRAINING_LEVELS
from lorakappa.llm.data.mathematics_files import is_official, official_names, read_official


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
