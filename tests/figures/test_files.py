"""Files: written whole, in the asked formats, the same bytes for the same data, nothing outside the page."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lorakappa.figures import FIGURES, FORMATS, draw, names_for
from lorakappa.figures.saved import Saved, load
from tests.figures.samples import audit, convergence, llm_compare, save, settle

ROOT = Path(__file__).parents[2]
ALL = list(FORMATS)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_in_every_format_and_twice_the_same(name, data, tmp_path):
    first = draw(name, data, tmp_path / "first", ALL)
    second = draw(name, data, tmp_path / "second", ALL)
    assert [path.name for path in first] == [f"{name}.{suffix}" for suffix in ALL]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == sorted(path.name for path in first)
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.suffix
    png, svg, pdf = (path.read_bytes() for path in first)
    assert png.startswith(b"\x89PNG")
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert b"dc:date" not in svg


def test_another_process_on_another_day_with_other_settings_writes_the_same_bytes(data, tmp_path):
    here = [path for name in ("phase", "manifold") for path in draw(name, data, tmp_path / "here", ALL)]
    rc = tmp_path / "matplotlibrc"
    rc.write_text("lines.linewidth: 9\nfont.size: 20\nsvg.hashsalt: other\n")
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "SOURCE_DATE_EPOCH": "1000000000",
        "MATPLOTLIBRC": str(rc),
    }
    command = [
        sys.executable,
        "-m",
        "figures",
        "phase",
        "manifold",
        "--from",
        str(data),
        "--out",
        str(tmp_path / "there"),
    ]
    command += ["--from", str(data), "--out", str(tmp_path / "there"), "--format", "png,svg,pdf"]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)
    for path in here:
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped_by_the_page(name, data, styled):
    kind = FIGURES[name]
    figure = kind.plot(load(kind.data, data, kind.arrays))
    FigureCanvasAgg(figure).draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width in (3.4, 7.0)
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


@pytest.mark.parametrize(
    "saved",
    [
        convergence(("lora",)),
        convergence(("balora@2", "balora@5", "rival", "other-rival", "third-rival", "fourth")),
        settle(rank=2),
    ],
    ids=["one method", "unknown methods", "no equal-kappa experiment"],
)
def test_unusual_results_are_drawn_without_warnings(saved: Saved, tmp_path):
    save(saved, tmp_path)
    assert draw(saved.name, tmp_path, tmp_path)[0].stat().st_size > 1000


EIGHT = ("lora", "balora", "ilora:lambda=0.1@5", "pilora", "scaled-gd", "rslora", "dora", "balora-symmetric")


@pytest.mark.parametrize(
    "saved",
    [
        llm_compare(("lora", "balora"), ranks=(4,), scalings=(1.0,), n=1),
        llm_compare(("lora",), ranks=(4,)),
        llm_compare(("lora", "balora"), ranks=(2, 4, 8, 16), scalings=(1.0,)),
        llm_compare(EIGHT, ranks=(4,), n=1),
        llm_compare(ranks=(4,), lost=(("lora", 4), ("ilora", 4))),
        llm_compare(ranks=(4,), lost=(("lora", 4), ("balora", 4), ("ilora", 4))),
        audit(1),
        audit(3),
        audit(28),
        audit(252),
    ],
    ids=[
        "one seed",
        "one method",
        "one scaling and many ranks",
        "many methods",
        "a baseline without a run",
        "no run finished",
        "one layer",
        "few layers",
        "many layers",
        "too many layers",
    ],
)
def test_unusual_results_of_language_models_fit_the_page(saved: Saved, styled):
    names = names_for(saved.name)
    if len(saved.meta.get("scalings", ())) == 1:
        names.remove("learning-rate-maps")  # the same as robustness then
    for name in names:
        figure = FIGURES[name].plot(saved)
        figure.draw_without_rendering()
        box, size = figure.get_tightbbox(), figure.get_size_inches()
        assert (box.min >= 0).all(), name
        assert (box.max <= size).all(), name


def test_drawing_leaves_matplotlib_as_it_was(data, tmp_path):
    def settings():
        return {key: value for key, value in matplotlib.rcParams.items() if key != "backend"}  # found out on reading

    before = settings()
    draw("phase", data, tmp_path)
    assert settings() == before


def test_the_figures_of_a_result_are_known():
    assert names_for("kappa-histogram") == ["kappa-histogram", "bound-tightness"]
    assert names_for("rates") == ["rates"]
    assert names_for("nothing") == []


def test_the_style_has_one_look_per_method():
    from lorakappa.figures.style import LOOKS

    for attributes in (("label",), ("color", "marker"), ("color", "line")):
        looks = {tuple(str(getattr(look, attribute)) for attribute in attributes) for look in LOOKS.values()}
        assert len(looks) == len(LOOKS), attributes


def test_the_methods_of_one_comparison_differ_in_colour():
    from lorakappa.figures.style import LOOKS

    for names in (
        ("lora", "balora", "balora-nearest", "balora-symmetric"),
        ("lora", "balora", "ilora", "pilora", "scaled-gd", "pissa", "lora-plus"),
    ):
        assert len({LOOKS[name].color for name in names}) == len(names)


def test_options_of_a_method_are_named():
    from lorakappa.figures.style import method_looks

    looks = method_looks(["ilora", "ilora:lambda=0.1", "balora@5", "rival:speed=2@3"])
    assert [look.label for look in looks.values()] == [
        "iLoRA",
        "iLoRA, λ = 0.1",
        "BaLoRA, every 5 steps",
        "rival, speed = 2, every 3 steps",
    ]
