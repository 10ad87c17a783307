"""What fine-tunes start from: prompts and completions, and causal language models, a tiny one included."""

from lorakappa.shared.faces import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
