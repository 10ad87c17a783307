"""Dynamics: simulated LoRA and BaLoRA training on small losses, and measured rates against the bounds."""

from lorakappa.shared.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
