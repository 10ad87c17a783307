"""Results that anybody may have changed: drawn or refused in one line; a figure decides nothing about a command."""

import json
import random
import sys

import numpy as np
import pytest

from lorakappa.figures import FIGURES, draw, draw_saved
from lorakappa.figures.array_axes import AXES
from lorakappa.figures.command import app
from lorakappa.figures.saved import load
from lorakappa.figures.schemas import DESCRIPTIONS
from lorakappa.shared.command_line import run
from lorakappa.shared.records import write_json, write_npz
from tests.figures.samples import SAMPLES, phase, rates, save


def test_every_result_has_a_schema_and_every_sample_fits_it(data):
    assert set(DESCRIPTIONS) == {kind.data for kind in FIGURES.values()}
    assert set(AXES) == {kind.data for kind in FIGURES.values() if kind.arrays}
    for kind in FIGURES.values():
        load(kind.data, data, kind.arrays)


def changed(name, folder, change):
    """Saves a sample with another description."""
    saved = SAMPLES[name]()
    save(saved, folder)
    file = folder / f"{name}.json"
    meta = json.loads(file.read_text())
    change(meta)
    write_json(file, meta)
    return file


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("phase", lambda meta: meta["methods"].__setitem__(1, 7), "methods[1]: input should be a valid string, not 7"),
        ("phase", lambda meta: meta["methods"].__setitem__(1, "lora"), "methods: lora is compared with itself"),
        ("phase", lambda meta: meta["settings"].pop("rank"), "settings.rank: field required"),
        ("rates", lambda meta: meta.pop("settings"), "settings: field required"),
        ("settle", lambda meta: meta["log10_gain"]["each_at_best"].update(wins="4"), "log10_gain.each_at_best.wins"),
        (
            "audit",
            lambda meta: meta["layers"][2].update(r=None),
            "layers[2].r: input should be a valid integer, not null",
        ),
        ("audit", lambda meta: meta["layers"][0].update(kappa_bound="big"), "layers[0].kappa_bound"),
        (
            "curvature",
            lambda meta: meta["layers"][0]["path"].clear(),
            "layers[0].path: list should have at least 1 item",
        ),
        (
            "llm-compare",
            lambda meta: meta["cells"][0].update(rank="4"),
            "cells[0].rank: input should be a valid integer",
        ),
    ],
)
def test_what_a_description_lacks_is_said_by_file_and_field(name, change, message, tmp_path):
    file = changed(name, tmp_path, change)
    figure = next(figure for figure, kind in FIGURES.items() if kind.data == name)
    with pytest.raises(ValueError, match="can show") as caught:
        draw(figure, tmp_path, tmp_path / "to")
    assert str(caught.value).startswith(f"{file} is not a description of {name} that figures can show: ")
    assert message in str(caught.value)
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gain", np.zeros(3), "gain has the shape (3,), but should have 2 axes"),
        ("interval", np.zeros((2, 3, 5)), "interval has the shape (2, 3, 5), where it needs 2"),
        ("decays", np.zeros(4), "decays has the shape (4,), where gain needs 2"),
        ("gain", np.asarray([["a"] * 3] * 2), "gain holds <U1 entries, not real numbers"),
        ("gain", np.zeros((2, 3)) * 1j, "gain holds complex128 entries, not real numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_said_by_name(key, value, message, tmp_path):
    saved = phase()
    saved.arrays[key] = value
    save(saved, tmp_path)
    with pytest.raises(ValueError, match="phase.npz") as caught:  # noqa: RUF043
        draw("phase", tmp_path, tmp_path)
    assert message in str(caught.value)


def test_names_are_no_formulas_and_may_have_any_letters(tmp_path):
    def rename(meta):
        for i, layer in enumerate(meta["layers"]):
            layer["name"] = f"model.$\\frac{{{i}$.[/x].模块\x1b{i}"

    changed("audit", tmp_path, rename)
    assert draw("audit", tmp_path, tmp_path)[0].stat().st_size > 1000
    saved = rates()
    saved.arrays["rule"] = np.asarray(["$\\bad{$", *saved.arrays["rule"][1:]])
    save(saved, tmp_path)
    assert draw("rates", tmp_path, tmp_path)[0].stat().st_size > 1000


def test_a_figure_that_cannot_be_drawn_is_a_note_and_no_failure(tmp_path, capsys):
    save(rates(), tmp_path)
    assert draw_saved("rates", tmp_path) == [tmp_path / "rates.png"]
    assert capsys.readouterr().err == ""
    (tmp_path / "rates.png").unlink()
    saved = rates()
    saved.arrays["limsup"] = np.ones_like(saved.arrays["limsup"])  # as with --steps 3
    save(saved, tmp_path)
    assert draw_saved("rates", tmp_path) == []
    expected = "no run has a measured rate and a bound below 1; more steps or instances may have"
    assert capsys.readouterr().err == (
        f"no figure rates: the data of rates is not what its figure expects: {expected}\n"
    )
    assert not (tmp_path / "rates.png").exists()


def test_one_figure_of_a_result_does_not_cost_the_others(tmp_path, capsys, monkeypatch):
    save(SAMPLES["kappa-histogram"](), tmp_path)
    monkeypatch.setattr("lorakappa.figures.bound_tightness.plot", lambda saved: [][1])
    assert draw_saved("kappa-histogram", tmp_path) == [tmp_path / "kappa-histogram.png"]
    assert capsys.readouterr().err.startswith("no figure bound-tightness: ")


def test_a_file_of_any_name_is_drawn_beside_itself(tmp_path, capsys):
    saved = SAMPLES["audit"]()
    file = write_json(tmp_path / "mine.json", saved.meta)
    assert draw_saved("audit", tmp_path, file) == [tmp_path / "mine.png"]
    write_json(file, {"layers": []})
    assert draw_saved("audit", tmp_path, file) == []
    assert "no figure audit: " in capsys.readouterr().err


def test_a_figure_of_endless_height_is_refused(tmp_path):
    saved = SAMPLES["duel"]()
    count = 400
    for key in ("gain", "winner", "margin"):
        saved.arrays[key] = np.repeat(saved.arrays[key][:1], count, axis=0)
    saved.arrays["decays"] = np.linspace(0.1, 0.9, count)
    save(saved, tmp_path)
    with pytest.raises(ValueError, match="249 inches high, more than 60: there is too much to show"):
        draw("duel", tmp_path, tmp_path)


@pytest.mark.parametrize("name", SAMPLES)
def test_random_damage_is_drawn_or_refused_in_one_line(name, tmp_path, monkeypatch, capsys):
    figure = next(figure for figure, kind in FIGURES.items() if kind.data == name)
    rng = random.Random(name)
    saved = SAMPLES[name]()
    save(saved, tmp_path)
    text = (tmp_path / f"{name}.json").read_text()
    monkeypatch.setattr(sys, "argv", ["figures", figure, "--from", str(tmp_path), "--out", str(tmp_path / "to")])
    for i in range(8):
        place = rng.randrange(len(text))
        (tmp_path / f"{name}.json").write_text(text[:place] + rng.choice('0"[]{},:x-/9e') + text[place + 1 :])
        if saved.arrays and i % 2:
            key = rng.choice(list(saved.arrays))
            junk = [
                np.zeros(0),
                np.asarray(np.nan),
                np.full((2, 2), np.inf),
                np.asarray(["x"]),
                -saved.arrays["x"] if "x" in saved.arrays else np.ones(1),
            ]
            write_npz(tmp_path / f"{name}.npz", {**saved.arrays, key: rng.choice(junk)})
        with pytest.raises(SystemExit) as stopped:
            run(app)
        err = capsys.readouterr().err
        assert stopped.value.code in (0, 2), err
        assert err.count("\n") == (stopped.value.code == 2)
        assert "this is a bug" not in err
