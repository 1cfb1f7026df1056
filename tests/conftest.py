"""Shared parts: the packaged model's tokenizer and rows of the sample, read once."""

import pytest

from helpers import models, sources


@pytest.fixture(scope="session")
def tokenizer():
    return models.load_tokenizer(models.PACKAGED)


@pytest.fixture(scope="session")
def sample():
    return {split: list(rows) for split, rows in sources.read_source("sample").splits.items()}


@pytest.fixture(scope="session")
def base():
    return models.load_model(models.PACKAGED, dtype="float32")
