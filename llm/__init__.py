"""BaLoRA and iLoRA on real models: adapters balanced in memory, while they train and on disk; methods compared.

Four packages: `adapters` (what users import), `data` (texts and models), `comparison` (methods against each other),
`curvature` (the loss's Hessian in single layers).
"""

from lorakappa.shared.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
