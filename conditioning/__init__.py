"""Exact theory of LoRA's conditioning: Hessians, spectra, κ and its bounds, the balanced manifold and P.

Arrays are NumPy float64 unless a function says otherwise: A (a, r), B (r, b), Z (a, b), d = r(a + b).
"""

from lorakappa.shared.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
