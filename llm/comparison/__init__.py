"""Methods against each other on one model: every method at its own best setting, over paired seeds."""

from lorakappa.shared.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
