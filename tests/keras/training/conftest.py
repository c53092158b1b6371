"""How the training tests run a model: with the NumPy interpreter, and as native code."""

import pytest


@pytest.fixture(params=[False, True], ids=["interpreted", "native"])
def jit(request) -> bool:
    return request.param


@pytest.fixture
def interpreted() -> dict:
    """compile() arguments of tests that are about the front alone."""
    return {"jit": False}
