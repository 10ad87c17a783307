"""Leaves this folder out where the optional packages of real models are missing."""

from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if all(find_spec(name) for name in ("peft", "transformers", "accelerate")) else ["test_*.py"]

FOREIGN_WARNINGS = ("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",)
"""What peft triggers in transformers; every other warning is an error, as everywhere."""


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in FOREIGN_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning))
