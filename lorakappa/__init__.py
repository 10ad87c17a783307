"""Is a statement about LoRA's conditioning true? Theory, dynamics and fine-tunes of Balanced LoRA and its rivals.

The short public face; names are loaded when first used, so that `import lorakappa` costs neither NumPy nor torch.
The packages are `lorakappa.conditioning`, `lorakappa.synthetic`, `lorakappa.llm` and `lorakappa.figures`.

In a checkout their folders lie beside this one. The lines below let Python find them there, whatever the platform
makes of the links in this folder, which are for type checkers and editors.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parent.parent
# installed, that is site-packages, where another distribution's llm may lie
if all((_CHECKOUT / folder / "__init__.pyi").is_file() for folder in ("conditioning", "synthetic", "llm", "figures")):
    __path__.insert(0, str(_CHECKOUT))

from lorakappa.shared.faces import face  # noqa: E402

__getattr__, __dir__, __all__ = face(__name__, __file__)
