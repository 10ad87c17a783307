"""A figure inside the page keeps its shape and has ids of its own; what drawing it warns of is said."""

import warnings

import pytest

from lorakappa.figures.report import drawings
from lorakappa.figures.report.drawings import draw_figures, standing_alone
from tests.figures.samples import SAMPLES, save

SVG = """<?xml version="1.0"?>
<!DOCTYPE svg>
<svg width="100pt" height="50pt" viewBox="0 0 100.5 50" version="1.1">
 <metadata>who
  made it</metadata>
 <!-- a
 remark -->
 <defs><path id="m0" d="M 0.12345 -0.0001
L 10.999 20.5"/></defs>
 <use xlink:href="#m0" x="1.23456" clip-path="url(#m1)"/>
 <polyline points="1.0049,2.5000 3,4"/>
</svg>
"""


def test_what_stands_in_the_page():
    assert standing_alone(SVG, "phase", "gain > 0") == (
        '<svg viewBox="0 0 100.5 50" role="img" aria-label="gain &gt; 0" style="max-width:161pt">\n'
        '<defs><path id="phase-m0" d="M 0.12 0\nL 11 20.5"/></defs>\n'
        '<use xlink:href="#phase-m0" x="1.23456" clip-path="url(#phase-m1)"/>\n'
        '<polyline points="1,2.5 3,4"/>\n'
        "</svg>"
    )


def test_figures_are_drawn_by_name(tmp_path):
    for name in ("phase", "duel"):
        save(SAMPLES[name](), tmp_path)
    told = []
    folders = dict.fromkeys(("phase", "duel"), tmp_path)
    alone = draw_figures(folders, progress=told.append)
    assert told == list(alone) == ["phase", "duel"]
    assert alone["duel"].svg.startswith("<svg")
    assert 'id="duel-' in alone["duel"].svg
    assert alone["duel"].failure == ""


def test_what_drawing_warns_of_is_said_by_whoever_asked(tmp_path, monkeypatch):
    def warned(name, folder, label):
        warnings.warn("a warning", stacklevel=1)
        warnings.warn("a warning", stacklevel=1)
        return "<svg/>"

    monkeypatch.setattr(drawings, "inline_svg", warned)
    with pytest.warns(UserWarning, match="a warning") as told:
        found = draw_figures({"phase": tmp_path})
    assert found["phase"].warned == ("a warning",)
    assert len(told) == 1
