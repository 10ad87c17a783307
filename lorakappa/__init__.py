"""Is a statement about LoRA's conditioning true? Theory, dynamics and fine-tunes of Balanced LoRA and its rivals.

The short public face; names are loaded when first used, so that `import lorakappa` costs neither NumPy nor torch.
The packages are `lorakappa.conditioning`, `lorakappa.synthetic`, `lorakappa.llm` and `lorakappa.figures`.

In a checkout their folders lie beside this one. The line below lets Python find them there, whatever the platform
makes of the links in this folder, which are for packaging and for type checkers.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
if (_CHECKOUT / "pyproject.toml").is_file():
    __path__.insert(0, str(_CHECKOUT))

from lorakappa.shared.faces import face  # noqa: E402

__getattr__, __dir__, __all__ = face(__name__, __file__)
