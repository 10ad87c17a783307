"""Curvature of a model's loss in single layers' factors: trained, balanced, and along the gauge path."""

from lorakappa.shared.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
