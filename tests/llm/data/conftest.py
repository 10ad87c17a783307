"""Data that several files of tests look at, and no way to the hub."""

import pytest

from lorakappa.llm.data.sources import load_splits


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def generated():
    return load_splits("mathematics", train=240, validation=60, test=60)
