"""Figures of results that other packages saved; nothing is computed here."""

from lorakappa.shared.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
