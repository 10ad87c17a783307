"""Figures of results that other rooms saved; nothing is computed here."""

from figures.drawing import FIGURES, FORMATS, Kind, draw, draw_all, draw_file, names_for

__all__ = ["FIGURES", "FORMATS", "Kind", "draw", "draw_all", "draw_file", "names_for"]
