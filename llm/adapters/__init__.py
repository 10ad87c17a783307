"""LoRA adapters: their pairs (A, B), balanced or regularized in memory, while they train, and on disk."""

from lorakappa.shared.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
