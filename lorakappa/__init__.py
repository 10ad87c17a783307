"""Is a statement about LoRA's conditioning true? Theory, dynamics and fine-tunes of Balanced LoRA and its rivals.

The short public face; names are loaded when first used, so that `import lorakappa` costs neither NumPy nor torch.
The packages are `lorakappa.conditioning`, `lorakappa.synthetic`, `lorakappa.llm` and `lorakappa.figures`.

In a checkout their folders lie beside this one, and links lead there. Where links are none (copies that follow them,
Git on Windows), the lines below let Python find the folders all the same.
"""

from pathlib import Path

_HERE = Path(__file__).resolve().parent
_FOLDERS = ("conditioning", "synthetic", "llm", "figures")
# installed, the folder above is site-packages, where another distribution's llm may lie
if all((_HERE.parent / name / "__init__.pyi").is_file() and not (_HERE / name).is_symlink() for name in _FOLDERS):
    __path__.insert(0, str(_HERE.parent))

from lorakappa.shared.faces import face  # noqa: E402

__getattr__, __dir__, __all__ = face(__name__, __file__)
