"""Which extra brings a package that is not installed: the base install has neither torch nor transformers."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

EXTRAS: Final = {
    "accelerate": "llm",
    "datasets": "llm",
    "filelock": "llm",
    "mathematics_dataset": "llm",
    "peft": "llm",
    "pytorch_optimizer": "lora-rite",
    "safetensors": "torch",
    "submitit": "cluster",
    "tokenizers": "llm",
    "torch": "torch",
    "transformers": "llm",
}
"""Packages by the name they are imported under, and the smallest extra in pyproject.toml that brings each."""


BROUGHT: Final = {
    "torch": ("torch",),
    "llm": ("torch", "llm"),
    "cluster": ("cluster",),
    "lora-rite": ("lora-rite",),
}
"""What each extra brings: what needs it, and what needs the extras that it includes."""


def install_hint(extra: str) -> str | None:
    """What to install before a part of this distribution can be used.

    Args:
        extra: that the part needs; empty for none.

    Returns:
        `torch and peft: pip install 'lorakappa[llm]'`; None if nothing is missing.
    """
    brought = BROUGHT.get(extra, ())
    missing = [package for package, brings in EXTRAS.items() if brings in brought and find_spec(package) is None]
    return f"{' and '.join(missing)}: pip install 'lorakappa[{extra}]'" if missing else None


def advice(error: ModuleNotFoundError) -> str | None:
    """What to install, to go behind the name of what failed.

    Args:
        error: a failed import.

    Returns:
        `needs torch: pip install 'lorakappa[torch]'`; None if no extra brings what is missing.
    """
    missing = (error.name or "").partition(".")[0]
    return f"needs {missing}: pip install 'lorakappa[{EXTRAS[missing]}]'" if missing in EXTRAS else None


@contextmanager
def extras_named(what: str) -> Iterator[None]:
    """Context in which an import that fails for want of an extra says which.

    Args:
        what: name of what is being loaded or called, for the message.

    Raises:
        ModuleNotFoundError: with the advice, or as it came if no extra helps.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        hint = advice(error)
        if hint is None:
            raise
        raise ModuleNotFoundError(f"{what} {hint}", name=error.name) from error
